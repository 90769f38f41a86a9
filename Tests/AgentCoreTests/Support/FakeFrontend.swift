import Envelope
import Foundation
import NIOSSL
import PKI
import PublicIdentity
import Synchronization
import Wire
import XCTest

@testable import AgentCore

/// Keys and certificates of a test deployment; made once, because RSA keys take time.
final class TestDeployment: Sendable {
  static let nonce = "test-nonce-8="
  static let shared: Result<TestDeployment, any Error> = Result { try TestDeployment() }

  let authority: CertificateAuthority
  let serverKey: RSAPrivateKey
  let serverPEM: String
  let leafPEM: String
  let leafKeyPEM: String

  private init() throws {
    authority = try CertificateAuthority.create(now: Date())
    serverKey = try RSAPrivateKey.generate()
    serverPEM = try authority.issueMessageCertificate(for: serverKey.publicKey, now: Date()).pem
    let key = try ECPrivateKey.generate()
    leafPEM = try authority.issueTLSLeaf(for: key, hostNames: ["127.0.0.1"], now: Date()).pem
    leafKeyPEM = try key.pkcs8PEM()
  }

  /// - Parameter protocols: what ALPN offers; with `h2` a `ScriptedServer` speaks HTTP/2.
  func tls(leaf: String? = nil, key: String? = nil, protocols: [String] = []) throws -> NIOSSLContext {
    let chain = try NIOSSLCertificate.fromPEMBytes(Array((leaf ?? leafPEM).utf8))
    let privateKey = try NIOSSLPrivateKey(bytes: Array((key ?? leafKeyPEM).utf8), format: .pem)
    var configuration = TLSConfiguration.makeServerConfiguration(
      certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(privateKey))
    configuration.applicationProtocols = protocols
    return try NIOSSLContext(configuration: configuration)
  }

  /// Settings of an agent with short pauses, so that dialogues need no time.
  func settings(_ urls: [String], in directory: TemporaryDirectory) -> AgentSettings {
    var settings = AgentSettings()
    settings.serverURLs = urls
    settings.caCertificate = authority.certificate.pem
    settings.nonce = Self.nonce
    settings.tls.useSelfSigned = true
    settings.minPoll = .milliseconds(5)
    settings.maxPoll = .milliseconds(100)
    settings.maxPollDeviation = .milliseconds(20)
    settings.quickRetries = [.milliseconds(5), .milliseconds(10)]
    settings.writebackPath = directory.file("writeback.yaml")
    settings.writebackSuffix = ".bak"
    settings.queuePath = directory.file("queue.bin")
    return settings
  }
}

/// The server's half of the protocol, small: enrolls, gives out tasks, records what arrives.
final class FakeFrontend: Sendable {
  typealias Request = ScriptedServer.Request
  typealias Reply = ScriptedServer.Reply

  private struct State {
    var clientKey: RSAPublicKey?
    var sessions: [[UInt8]: InboundSession] = [:]
    var outbound: OutboundSession?
    var tasks: [Proto_VeloMessage] = []
    var waiting: ScriptedServer.Finish?
    var jobs: [Proto_VeloMessage] = []
    var waiters: [(condition: @Sendable ([Proto_VeloMessage]) -> Bool, done: XCTestExpectation)] = []
    var script: (@Sendable (Request, Int) -> Reply?)?
    var handled = 0
    var sessionKeys: Set<[UInt8]> = []
  }

  let deployment: TestDeployment
  private let state: Mutex<State>

  /// - Parameter enrolled: a key the server knows from the start.
  init(_ deployment: TestDeployment, enrolled: RSAPublicKey? = nil) {
    self.deployment = deployment
    var state = State()
    state.clientKey = enrolled
    self.state = Mutex(state)
  }

  var jobs: [Proto_VeloMessage] { state.withLock { $0.jobs } }
  var sessionCount: Int { state.withLock { $0.sessionKeys.count } }
  var isEnrolled: Bool { state.withLock { $0.clientKey != nil } }

  /// Answers of its own: called with each request and its number; nil: the usual answer.
  func script(_ script: @escaping @Sendable (Request, Int) -> Reply?) {
    state.withLock { $0.script = script }
  }

  func forgetClient() { state.withLock { $0.clientKey = nil } }

  /// Gives a task to the waiting reader, or to the next.
  func queue(_ task: Proto_VeloMessage) throws {
    let waiting = state.withLock { state -> ScriptedServer.Finish? in
      defer { state.waiting = nil }
      if state.waiting == nil { state.tasks.append(task) }
      return state.waiting
    }
    if let waiting, !waiting(try seal([task])) { state.withLock { $0.tasks.append(task) } }
  }

  /// Fulfilled when what arrived so far meets the condition.
  func expectation(
    _ description: String, _ condition: @escaping @Sendable ([Proto_VeloMessage]) -> Bool
  ) -> XCTestExpectation {
    let done = XCTestExpectation(description: description)
    state.withLock { state in
      if condition(state.jobs) { done.fulfill() } else { state.waiters.append((condition, done)) }
    }
    return done
  }

  func completion(of flow: String) -> XCTestExpectation {
    expectation("completion of \(flow)") { jobs in
      jobs.contains { $0.sessionID == flow && $0.flowStats.flowComplete }
    }
  }

  // MARK: handling

  func handle(_ request: Request) -> Reply {
    let (script, number) = state.withLock { state in
      defer { state.handled += 1 }
      return (state.script, state.handled)
    }
    if let reply = script?(request, number) { return reply }
    let path = request.uri.split(separator: "?").first.map(String.init) ?? ""
    if path.hasSuffix("/server.pem") { return .answer(200, body: Array(deployment.serverPEM.utf8)) }
    guard request.method == "POST" else { return .answer(404) }
    do {
      return try post(request.body, isReader: path.hasSuffix("/reader"))
    } catch {
      return .answer(403)
    }
  }

  private func post(_ body: [UInt8], isReader: Bool) throws -> Reply {
    let (lists, isAuthentic) = try open(body)
    guard lists.nonce == TestDeployment.nonce else { return .answer(403) }
    let jobs = try lists.lists.flatMap {
      try MessageListCodec.jobs(try MessageListCodec.plain($0, compressed: lists.compressed))
    }
    guard isAuthentic else {
      for job in jobs where job.hasCsr && !isReader {
        let key = try CertificateRequest(pem: Array(job.csr.pem)).publicKey
        state.withLock { $0.clientKey = key }
      }
      return .answer(406, body: Array("Please Enrol\n".utf8))
    }
    record(jobs)
    guard isReader else { return .chunks([[0x5a, 0x01, 0x00], try seal([])]) }
    if state.withLock({ !$0.tasks.isEmpty }) { return .chunks([try sealTasks()]) }
    return .later { [self] finish in state.withLock { $0.waiting = finish } }
  }

  private func record(_ jobs: [Proto_VeloMessage]) {
    let done = state.withLock { state -> [XCTestExpectation] in
      state.jobs += jobs
      let all = state.jobs
      let met = state.waiters.filter { $0.condition(all) }
      state.waiters.removeAll { $0.condition(all) }
      return met.map(\.done)
    }
    for expectation in done { expectation.fulfill() }
  }

  private func open(_ body: [UInt8]) throws -> (PackedLists, Bool) {
    try body.withUnsafeBytes { buffer in
      let scan = try EnvelopeScan(buffer)
      let key = Array(buffer[scan.encryptedCipher])
      if let known = state.withLock({ $0.sessions[key] }) { return (try known.open(buffer, scan), true) }
      let (session, lists) = try InboundSession.unwrap(buffer, scan, with: deployment.serverKey)
      state.withLock { _ = $0.sessionKeys.insert(key) }
      guard let client = state.withLock({ $0.clientKey }), client.clientID.rawValue == session.source,
        session.verify(with: client)
      else { return (lists, false) }
      state.withLock { $0.sessions[key] = session }
      return (lists, true)
    }
  }

  private func sealTasks() throws -> [UInt8] {
    try seal(
      state.withLock { state in
        defer { state.tasks = [] }
        return state.tasks
      })
  }

  /// A body for the client, as the server seals it.
  func seal(
    _ jobs: [Proto_VeloMessage], nonce: String = TestDeployment.nonce, key: RSAPrivateKey? = nil,
    name: String = "VelociraptorServer"
  ) throws -> [UInt8] {
    let client = try XCTUnwrap(state.withLock { $0.clientKey })
    let session = try OutboundSession(sender: name, key: key ?? deployment.serverKey, receiver: client)
    let lists = jobs.isEmpty ? [] : [try MessageListCodec.serialize(jobs)]
    return try session.seal(PackedLists(lists: lists, compressed: false, timestamp: 1, nonce: nonce))
  }
}
