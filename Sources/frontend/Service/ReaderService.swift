import Logging
import NIOCore
import Observability
import PublicIdentity
import Store
import Wire
import WorkerLink

/// `/reader`: takes check-ins and gives out tasks, at once or when there are some (http.md §5).
final class ReaderService: Sendable {
  let registry = ReaderRegistry()
  private let opener: BodyOpener
  private let store: any Store
  private let metrics: FrontendMetrics
  private let limited: RateLimitedLog
  private let maxPoll: Int

  /// - Parameter maxPoll: seconds, `Client.max_poll` of the server's file.
  init(opener: BodyOpener, store: any Store, metrics: FrontendMetrics, limited: RateLimitedLog, maxPoll: Int) {
    self.opener = opener
    self.store = store
    self.metrics = metrics
    self.limited = limited
    self.maxPoll = max(1, maxPoll)
  }

  func handle(_ exchange: HTTPExchange, _ body: [UInt8]) {
    Task { await process(exchange, body) }
  }

  private func process(_ exchange: HTTPExchange, _ body: [UInt8]) async {
    switch await opener.open(body, acknowledge: false, address: exchange.remoteAddress) {
    case .refused:
      metrics.refused.increment()
      limited.log(.info, "refused", "a body was refused with 403", metadata: ["address": "\(exchange.remoteAddress)"])
      exchange.respond(.forbidden, text: "")
    case .unavailable(let reason):
      metrics.unavailable.increment()
      limited.warning("unavailable", "answering 503: \(reason)")
      exchange.respond(.serviceUnavailable, text: "Error: \(reason)")
    case .unauthenticated:
      metrics.enrollmentsAsked.increment()
      exchange.respond(.notAcceptable, text: "Please Enrol")
    case .authenticated(let opened, let name):
      await checkIn(exchange, opened, name, routingKey: Self.routingKey(body))
    }
  }

  private static func routingKey(_ body: [UInt8]) -> [UInt8] {
    (try? EnvelopeScan(body)).map { Array(body[$0.encryptedCipher]) } ?? []
  }

  private func checkIn(_ exchange: HTTPExchange, _ opened: OpenedBody, _ name: ClientName, routingKey: [UInt8]) async {
    let reader = WaitingReader(
      client: name, exchange: exchange, routingKey: routingKey,
      look: { [self] reader in Task { await look(reader) } },
      ended: { [self] reader in
        registry.remove(reader)
        metrics.readers.set(registry.count)
      })
    guard registry.register(reader) else { return await refuse(exchange, name) }
    metrics.readers.set(registry.count)
    let decoded = DecodedBody(opened, name, authenticated: true)
    do {
      let result = try await store.ingest(
        Submission(
          client: name, remoteAddress: exchange.remoteAddress, receivedAt: .now(), lists: decoded.lists))
      if result.outcome == .unknownClient {
        registry.remove(reader)
        metrics.enrollmentsAsked.increment()
        opener.link.broadcast(.forget(source: name.description))
        return exchange.respond(.notAcceptable, text: "Please Enrol")
      }
    } catch {
      registry.remove(reader)
      metrics.unavailable.increment()
      limited.warning("store", "a check-in could not be stored: \(error)")
      return exchange.respond(.serviceUnavailable, text: "Error: the store does not work")
    }
    reader.start(deadline: .seconds(Int64(maxPoll)) + .milliseconds(Int64.random(in: 0..<30_000)))
    await look(reader)
  }

  private func refuse(_ exchange: HTTPExchange, _ name: ClientName) async {
    metrics.conflicts.increment()
    limited.warning(
      "conflict", "two machines use one client id; delete the writeback file of one",
      metadata: ["client": "\(name)", "address": "\(exchange.remoteAddress)"])
    exchange.respond(.conflict, text: "Another Client connection exists. Only a single instance is allowed.")
    let conflict = ClientConflict(
      client: name, remoteAddress: exchange.remoteAddress, userAgent: exchange.userAgent, at: .now())
    do {
      try await store.recordConflict(conflict)
    } catch {
      limited.warning("store", "a conflict could not be recorded: \(error)")
    }
  }

  // MARK: tasks

  private func look(_ reader: WaitingReader) async {
    let lease: TaskLease?
    do {
      lease = try await store.leaseTasks(for: reader.client, now: .now())
    } catch {
      limited.warning("store", "tasks could not be leased: \(error)")
      return reader.fail()
    }
    guard let lease else { return reader.foundNothing() }
    guard let body = await seal(lease, reader) else {
      await giveBack(lease)
      return reader.fail()
    }
    guard reader.claim() else { return await giveBack(lease) }
    metrics.tasksSent.increment(by: UInt64(lease.messages.count))
    reader.deliver(body) { [self] written in
      if !written { Task { await giveBack(lease) } }
    }
  }

  private func giveBack(_ lease: TaskLease) async {
    do {
      try await store.release(lease)
    } catch {
      // The lease runs out by itself, and the agent is then asked what it knows.
      limited.warning("store", "a lease could not be given back: \(error)")
    }
  }

  private func seal(_ lease: TaskLease, _ reader: WaitingReader) async -> [UInt8]? {
    guard let list = try? MessageListCodec.serialize(lease.messages) else { return nil }
    var publicKey: [UInt8] = []
    // Once without the key, which the worker has after the open; once with it, should another worker have to seal.
    for _ in 0..<2 {
      let request = WorkerRequest.seal(
        routingKey: reader.routingKey, source: reader.client.description, publicKey: publicKey, list: list)
      switch await opener.link.request(request, timeout: BodyOpener.timeout) {
      case .reply(.sealed(let body)): return body
      case .reply(.needKey):
        guard let stored = try? await store.publicKey(of: reader.client),
          let key = try? RSAPublicKey(pem: stored.publicKeyPEM)
        else { return nil }
        publicKey = key.pkcs1DER
      case .reply, .unavailable, .overloaded:
        limited.warning("seal", "an answer could not be sealed: no crypto-worker answered")
        return nil
      }
    }
    return nil
  }
}
