import Foundation
import Logging
import NIOCore
import Observability
import PublicIdentity
import Store
import Wire
import WorkerLink

/// `/reader`: takes check-ins and gives out tasks, at once or when there are some (http.md §5).
final class ReaderService: BodyService {
  let registry: ReaderRegistry
  private let opener: BodyOpener
  private let store: any Store
  private let metrics: FrontendMetrics
  private let limited: RateLimitedLog
  private let maxPoll: Int
  /// Between looks for tasks of a reader that stays open (http.md §7).
  private let pingInterval: TimeAmount
  private let board: any SeatBoard
  private let foreman: Foreman?
  /// This process on the board.
  private let process = UUID().uuidString

  /// - Parameters:
  ///   - maxPoll: seconds, `Client.max_poll` of the server's file.
  ///   - pingWait: seconds, `Client.ws_ping_wait_sec`.
  ///   - board: where other frontends learn of readers here.
  ///   - foreman: decides what clients are given beside queued tasks.
  init(
    opener: BodyOpener, store: any Store, metrics: FrontendMetrics, limited: RateLimitedLog, maxPoll: Int,
    pingWait: Int, board: any SeatBoard, foreman: Foreman? = nil, registry: ReaderRegistry = ReaderRegistry()
  ) {
    self.foreman = foreman
    self.registry = registry
    self.board = board
    pingInterval = .seconds(Int64(max(1, pingWait)))
    self.opener = opener
    self.store = store
    self.metrics = metrics
    self.limited = limited
    self.maxPoll = max(1, maxPoll)
  }

  func handle(_ exchange: any Exchange, _ body: [UInt8]) {
    Task.immediate(executorPreference: exchange.connection.executor) { await process(exchange, body) }
  }

  /// A later check-in of a reader that stays open. The reference throws these away; here their jobs count.
  func handleFurther(_ exchange: any Exchange, _ body: [UInt8]) {
    Task.immediate(executorPreference: exchange.connection.executor) {
      let outcome = await opener.open(body, from: exchange.remoteAddress, acknowledge: false)
      guard case .authenticated(let opened, let name) = outcome else {
        metrics.refused.increment()
        return exchange.abort()
      }
      do {
        if try await ingest(exchange, opened, name).outcome == .unknownClient { exchange.abort() }
      } catch {
        limited.warning("store", "a check-in could not be stored: \(error)")
        exchange.abort()
      }
    }
  }

  private func process(_ exchange: any Exchange, _ body: [UInt8]) async {
    switch await opener.open(body, from: exchange.remoteAddress, acknowledge: false) {
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

  private func checkIn(_ exchange: any Exchange, _ opened: OpenedBody, _ name: ClientName, routingKey: [UInt8]) async {
    let reader = WaitingReader(
      client: name, exchange: exchange, routingKey: routingKey, keyID: opened.keyID,
      look: { [self] reader in
        Task(executorPreference: reader.exchange.connection.executor) { [self] in await look(reader) }
      },
      ended: { [self] reader in
        depart(reader)
      })
    // The check-in of a reader that is refused is not processed, as in the reference.
    if case .refused(let conflict) = await registry.register(reader) { return await refuse(reader, conflict) }
    await announce(reader)
    // Counted once the other frontends know of it.
    metrics.readers.set(registry.count)
    do {
      if try await ingest(exchange, opened, name).outcome == .unknownClient {
        depart(reader)
        metrics.enrollmentsAsked.increment()
        opener.link.broadcast(.forget(source: name.description))
        return exchange.respond(.notAcceptable, text: "Please Enrol")
      }
    } catch {
      depart(reader)
      metrics.unavailable.increment()
      limited.warning("store", "a check-in could not be stored: \(error)")
      return exchange.respond(.serviceUnavailable, text: "Error: the store does not work")
    }
    if exchange.staysOpen {
      reader.start(deadline: nil, interval: pingInterval)
    } else {
      reader.start(deadline: .seconds(Int64(maxPoll)) + .milliseconds(Int64.random(in: 0..<30_000)))
    }
    await look(reader)
  }

  private func ingest(_ exchange: any Exchange, _ opened: OpenedBody, _ name: ClientName) async throws -> IngestResult {
    try await WorkPlace.run(isSmall: opened.isSmall) { [store] in
      let decoded = DecodedBody(opened, name, authenticated: true)
      return try await store.ingest(
        Submission(
          client: name, remoteAddress: exchange.remoteAddress, receivedAt: .now(), lists: decoded.lists))
    }
  }

  private func depart(_ reader: WaitingReader) {
    registry.remove(reader)
    metrics.readers.set(registry.count)
    Task { [board, process] in
      await board.leave(SeatClaim(client: reader.client, process: process, facts: reader.facts))
    }
  }

  private func refuse(_ reader: WaitingReader, _ conflict: ReaderConflict?) async {
    reader.exchange.respond(
      .conflict, text: "Another Client connection exists. Only a single instance is allowed.")
    if let conflict { await record(conflict, of: reader.client) }
  }

  /// Both machines are named: the event's fields have room for one each, so the holder's stands in the address too.
  private func record(_ conflict: ReaderConflict, of client: ClientName) async {
    metrics.conflicts.increment()
    limited.warning(
      "conflict", "two machines use one client id; delete the writeback file of one",
      metadata: [
        "client": "\(client)", "address": "\(conflict.newcomer.remoteAddress)",
        "other": "\(conflict.holder.remoteAddress)",
      ])
    do {
      try await store.recordConflict(
        ClientConflict(
          client: client, remoteAddress: "\(conflict.newcomer.remoteAddress), \(conflict.holder.remoteAddress)",
          userAgent: conflict.newcomer.userAgent, at: .now()))
    } catch {
      limited.warning("store", "a conflict could not be recorded: \(error)")
    }
  }

  // MARK: other frontends

  /// Tells the other frontends that the client's reader is here now.
  private func announce(_ reader: WaitingReader) async {
    do {
      let claim = SeatClaim(client: reader.client, process: process, facts: reader.facts)
      if let before = try await board.take(claim) { registry.displacedElsewhere(before, by: reader.facts) }
    } catch {
      limited.warning("board", "other frontends could not be told of a reader: \(error)")
    }
  }

  /// Ends readers whose agents have one at another frontend, until cancelled.
  func followBoard() async {
    while !Task.isCancelled {
      do {
        for await claim in try await board.claims(besides: process) {
          if let conflict = registry.seatedElsewhere(claim) { await record(conflict, of: claim.client) }
        }
      } catch {
        limited.warning("board", "readers of other frontends cannot be followed: \(error)")
      }
      try? await Task.sleep(for: .seconds(1))
    }
  }

  // MARK: tasks

  private func look(_ reader: WaitingReader) async {
    let lease: TaskLease?
    do {
      lease = try await store.leaseTasks(for: reader.client, now: .now(), foreman: foreman)
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
        routingKey: reader.routingKey, source: reader.client.description, publicKey: publicKey, list: list,
        keyID: reader.keyID)
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
