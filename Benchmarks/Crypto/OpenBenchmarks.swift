import CLibCrypto
import Envelope
import Foundation
import PKI
import PublicIdentity
import Wire

extension Benchmark {
  static let warmOpen = Benchmark(
    name: "warm-open", abstract: "Opens of a known session in process, 1 KiB and 64 KiB, against libcrypto.",
    run: OpenBenchmarks.warm)
  static let coldOpen = Benchmark(
    name: "cold-open", abstract: "First opens of a session in process, against openssl speed rsa2048.",
    run: OpenBenchmarks.cold)
}

enum OpenBenchmarks {
  /// A body, and a cache that knows its session, as a worker does.
  private struct Fixture {
    let server: RSAPrivateKey
    let client: LoadClient
    var cache = SessionCache(capacity: 30_000)

    init() throws {
      server = try RSAPrivateKey.generate()
      client = try LoadClient(key: try RSAPrivateKey.generate(), nonce: "bm9uY2U=", server: server.publicKey)
    }

    mutating func body(_ size: Int) throws -> [UInt8] {
      let body = try client.seal(list: (0..<size).map { UInt8(truncatingIfNeeded: $0) })
      let session = try body.withUnsafeBytes { try InboundSession.unwrap($0, EnvelopeScan($0), with: server).session }
      guard session.verify(with: client.key.publicKey) else { throw Trouble("the session does not verify") }
      cache.store(inbound: session, of: client.name, publicKey: client.key.publicKey)
      return body
    }

    /// What a worker does with a warm body: scan, find the session, check and decrypt.
    mutating func open(_ body: [UInt8]) throws {
      let scan = try EnvelopeScan(body)
      guard let session = cache.inbound(Array(body[scan.encryptedCipher]))?.entry.inbound else {
        throw Trouble("the session is not known")
      }
      let lists = try body.withUnsafeBytes { try session.open($0, scan) }
      guard lists.nonce == client.nonce else { throw Trouble("another nonce") }
    }
  }

  static func warm(_ settings: Settings) async throws -> [Figure] {
    var fixture = try Fixture()
    var figures: [Figure] = []
    for (size, batch) in [(1024, 500), (65_536, 20)] {
      let body = try fixture.body(size)
      let scan = try EnvelopeScan(body)
      let library = try LibcryptoOpen(size: scan.encrypted.count)
      let (ours, limit) = try Rate.pair(rounds: settings.rounds, seconds: settings.seconds(0.6)) {
        for _ in 0..<batch { try fixture.open(body) }
        return batch
      } _: {
        for _ in 0..<batch { try body.withUnsafeBytes { try library.run($0, scan) } }
        return batch
      }
      figures.append(
        Figure(
          "warm opens of \(size >> 10) KiB, one core, in process", ours, "/s", limit: ("libcrypto HMAC + AES", limit),
          goal: size == 1024 ? .atLeast(600_000) : .ratioAtLeast(0.8)))
    }
    return figures
  }

  static func cold(_ settings: Settings) async throws -> [Figure] {
    let before = try Command.openSSLPrivateOperations(settings)
    var fixture = try Fixture()
    let body = try fixture.body(1024)
    let (server, client) = (fixture.server, fixture.client)
    let rate = try Rate.perCPUSecond(rounds: settings.rounds, seconds: settings.seconds(0.8)) {
      let session = try body.withUnsafeBytes { try InboundSession.unwrap($0, EnvelopeScan($0), with: server).session }
      guard session.verify(with: client.key.publicKey) else { throw Trouble("the session does not verify") }
      return 1
    }
    let after = try Command.openSSLPrivateOperations(settings)
    return [
      Figure(
        "cold opens of 1 KiB (decrypt and verify), one core, in process", rate, "/s",
        limit: ("openssl speed rsa2048, private", (before + after) / 2), goal: .ratioAtLeast(0.9))
    ]
  }
}
