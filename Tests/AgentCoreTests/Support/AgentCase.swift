import XCTest

@testable import AgentCore

/// What tests of the whole agent share: agents and servers that end with the test.
class AgentCase: XCTestCase {
  private var servers: [ScriptedServer] = []
  private var sockets: [ScriptedWebSockets] = []
  private var running: [(Agent, Task<Agent.End, any Error>)] = []
  let log = LogRecorder()

  override func tearDown() async throws {
    await stopAll()
    for server in servers { await server.stop() }
    for server in sockets { await server.stop() }
  }

  /// - Parameter protocols: what ALPN offers.
  func server(
    _ frontend: FakeFrontend, tls: Bool = true, protocols: [String] = []
  ) async throws -> ScriptedServer {
    let context = tls ? try frontend.deployment.tls(protocols: protocols) : nil
    let server = try await ScriptedServer(tls: context) { frontend.handle($0) }
    servers.append(server)
    return server
  }

  func webSockets(
    _ frontend: FakeFrontend,
    special: @escaping @Sendable (ScriptedServer.Request, Int) -> ScriptedWebSockets.Frames? = { _, _ in nil }
  ) async throws -> ScriptedWebSockets {
    let server = try await ScriptedWebSockets(tls: frontend.deployment.tls(), special: special) { frontend.handle($0) }
    sockets.append(server)
    return server
  }

  func deployment() throws -> TestDeployment { try TestDeployment.shared.get() }

  func agent(
    _ settings: AgentSettings, engine: FakeEngine = FakeEngine(), change: (inout Agent.Parts) -> Void = { _ in }
  ) throws -> Agent {
    let transport = try NIOTransport(
      settings: settings, rules: DeploymentLeafRules(caCertificate: settings.caCertificate), log: log.logger)
    var parts = Agent.Parts(transport: transport)
    change(&parts)
    return try Agent(settings: settings, engine: { _ in engine }, parts: parts, log: log.logger)
  }

  @discardableResult
  func start(
    _ settings: AgentSettings, engine: FakeEngine = FakeEngine(), change: (inout Agent.Parts) -> Void = { _ in }
  ) throws -> Agent {
    let agent = try agent(settings, engine: engine, change: change)
    running.append((agent, Task { try await agent.run() }))
    return agent
  }

  func stopAll() async {
    for (agent, task) in running {
      agent.stop()
      _ = await task.result
    }
    running = []
  }
}
