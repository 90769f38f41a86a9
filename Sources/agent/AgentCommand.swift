import AgentCore
import ArgumentParser
import Configuration
import FoundationEssentials
import Glibc
import Logging
import Observability

extension LogFormat: ExpressibleByArgument {}

/// The agent's command line. Without a subcommand it runs in the foreground; a service manager keeps it running.
@main
struct AgentCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "agent",
    abstract: "Runs on an endpoint: takes requests from the server, runs them, delivers the results.",
    subcommands: [
      RunCommand.self, DoctorCommand.self, InstallCommand.self, UninstallCommand.self, StatusCommand.self,
    ],
    defaultSubcommand: RunCommand.self)
}

/// Where the agent's files are.
struct FileOptions: ParsableArguments {
  @Option(
    name: .long,
    help: "The client file (client.config.yaml); not needed where the executable carries one (config repack).")
  var config: String?

  @Option(name: .long, help: "The state file with this agent's identity, instead of Client.writeback_linux.")
  var writeback: String?

  @Option(name: .long, help: "The file for unsent results, instead of Client.local_buffer.filename_linux.")
  var buffer: String?

  /// sysexits.h: something is wrong with the configuration.
  static let configurationExit = ExitCode(78)

  /// - Throws: `ConfigurationError` or `AgentError`.
  func settings() throws -> AgentSettings {
    try AgentSettings(config: try clientConfig(), writeback: writeback, buffer: buffer)
  }

  private func clientConfig() throws -> ClientConfig {
    if let config { return try ClientConfig.load(path: config) }
    guard let text = try EmbeddedConfig.read() else {
      throw ConfigurationError(
        file: EmbeddedConfig.name, expected: "a client file", found: "none",
        remedy: "name one: agent --config client.config.yaml; or embed it: microraptor config repack AGENT OUT")
    }
    return try ClientConfig.parse(text: text, file: EmbeddedConfig.name)
  }
}

/// `agent [run]`.
struct RunCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Runs the agent in the foreground (what happens without a subcommand).",
    discussion: """
      Exit codes: 0 stopped or, with --once, done; 1 failed; 64 wrong usage; 78 wrong configuration;
      255 the server asked for a restart (start it again).
      """)

  @OptionGroup var files: FileOptions

  @Flag(name: .long, help: "Check in, run what is waiting, deliver it, and leave.")
  var once = false

  @Flag(name: .shortAndLong, help: "Say more; -vv says everything.")
  var verbose: Int

  @Option(name: .long, help: "text or json.")
  var logFormat: LogFormat = .text

  func run() async throws {
    Logs.bootstrap(format: logFormat, level: Logs.level(verbosity: verbose))
    let log = Logger(label: "agent")
    _ = CoreDumps.disable()
    umask(0o077)
    let agent = try prepare(log)
    let signals = ShutdownSignal()
    let watcher = Task {
      guard await signals.wait() != nil else { return }
      log.info("Stopping")
      agent.stop()
    }
    defer { watcher.cancel() }
    let end: Agent.End
    do {
      end = try await agent.run(once: once)
    } catch {
      log.error("\(error)")
      throw ExitCode(1)
    }
    if end == .restart { throw ExitCode(255) }
  }

  private func prepare(_ log: Logger) throws -> Agent {
    do {
      let settings = try files.settings()
      let rules = try DeploymentLeafRules(caCertificate: settings.caCertificate)
      let transport = try NIOTransport(settings: settings, rules: rules, log: log)
      var parts = Agent.Parts(transport: transport)
      parts.releasesIdleMemory = true
      return try Agent(
        settings: settings, engine: { VQLEngine(settings: settings, installTime: $0) }, parts: parts, log: log)
    } catch let error as ConfigurationError {
      log.error("\(error)")
      throw FileOptions.configurationExit
    } catch let error as AgentError {
      log.error("\(error)")
      throw error.code == .configuration ? FileOptions.configurationExit : ExitCode(1)
    }
  }
}
