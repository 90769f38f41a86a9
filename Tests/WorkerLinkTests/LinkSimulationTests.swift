import WorkerLink
import XCTest

/// A whole fleet without sockets: many frontends' links and many workers, with joins, deaths, stalls and partitions.
/// Deterministic: the same seed gives the same run.
final class LinkSimulationTests: XCTestCase {
  private struct Generator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state ^ (state >> 31)
    }
  }

  /// The network and the clock between links and workers.
  private struct Fleet {
    struct Message {
      var frontend: Int
      var worker: String
      var id: UInt64
      var key: UInt8
      var due: UInt64
    }

    var links: [LinkStateMachine]
    let workers: [String]
    var generator: Generator
    var now: UInt64 = 0
    var alive: Set<String> = []
    /// Pairs of frontend and worker that cannot reach each other.
    var cut: Set<String> = []
    var wire: [Message] = []
    /// Requests that were submitted and not yet finished, by frontend and id.
    var open: Set<String> = []
    var finishedTwice = 0
    var answered = 0
    var failed = 0
    /// Which workers a session was sent to since the last reset.
    var places: [Int: Set<String>] = [:]

    init(frontends: Int, workers: Int, seed: UInt64) {
      let names = (0..<workers).map { "worker-\($0)" }
      self.workers = names
      links = (0..<frontends).map { _ in LinkStateMachine(routingSecret: [1, 2, 3], workers: names) }
      generator = Generator(state: seed)
    }

    static func pair(_ frontend: Int, _ worker: String) -> String { "\(frontend)/\(worker)" }

    mutating func join(_ worker: String) {
      alive.insert(worker)
      for frontend in links.indices where !cut.contains(Self.pair(frontend, worker)) {
        take(frontend, links[frontend].connected(worker, now: now))
      }
    }

    mutating func die(_ worker: String) {
      alive.remove(worker)
      wire.removeAll { $0.worker == worker }
      for frontend in links.indices { take(frontend, links[frontend].disconnected(worker, now: now)) }
    }

    mutating func partition(_ frontend: Int, _ worker: String) {
      cut.insert(Self.pair(frontend, worker))
      take(frontend, links[frontend].disconnected(worker, now: now))
    }

    mutating func heal() {
      for frontend in links.indices {
        for worker in workers where cut.contains(Self.pair(frontend, worker)) && alive.contains(worker) {
          take(frontend, links[frontend].connected(worker, now: now))
        }
      }
      cut = []
    }

    mutating func submit(_ frontend: Int, session: Int) {
      let key = withUnsafeBytes(of: session.littleEndian) { Array($0) }
      let request = WorkerRequest.seal(routingKey: key, source: "", publicKey: [], list: [])
      let (id, actions) = links[frontend].submit(request, deadline: now + 5_000, now: now)
      open.insert("\(frontend)#\(id)")
      take(frontend, actions)
    }

    mutating func take(_ frontend: Int, _ actions: [LinkStateMachine.Action]) {
      for action in actions {
        switch action {
        case .send(let worker, let id, .seal(let key, _, _, _, _), _):
          let session = key.enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
          places[session, default: []].insert(worker)
          wire.append(
            Message(
              frontend: frontend, worker: worker, id: id, key: 0, due: now + .random(in: 1..<20, using: &generator)))
        case .send(let worker, let id, _, _):
          wire.append(Message(frontend: frontend, worker: worker, id: id, key: 1, due: now + 1))
        case .finish(let id, let outcome):
          if open.remove("\(frontend)#\(id)") == nil { finishedTwice += 1 }
          if case .reply = outcome { answered += 1 } else { failed += 1 }
        case .note, .close: break
        }
      }
    }

    /// Lets time pass; workers answer what reached them.
    mutating func advance(_ milliseconds: UInt64) {
      let end = now + milliseconds
      while now < end {
        now += 10
        let due = wire.filter { $0.due <= now }
        wire.removeAll { $0.due <= now }
        for message in due where alive.contains(message.worker) {
          guard !cut.contains(Self.pair(message.frontend, message.worker)) else { continue }
          let reply: WorkerReply = message.key == 1 ? .health(WorkerHealth()) : .done
          take(
            message.frontend, links[message.frontend].replied(message.worker, id: message.id, reply, now: now))
        }
        for frontend in links.indices where links[frontend].nextTick.map({ $0 <= now }) ?? false {
          take(frontend, links[frontend].tick(now: now))
        }
      }
    }

    /// Every session once from a random frontend.
    mutating func round(_ sessions: Int) {
      for session in 0..<sessions {
        submit(Int.random(in: links.indices, using: &generator), session: session)
      }
      advance(200)
    }

    /// The worker of each session, where it is only one.
    mutating func homes(_ sessions: Int) -> [Int: String] {
      places = [:]
      round(sessions)
      round(sessions)
      return places.compactMapValues { $0.count == 1 ? $0.first : nil }
    }
  }

  func testAFleetThroughJoinsDeathsAndPartitions() throws {
    let workers = 20
    let sessions = 800
    var fleet = Fleet(frontends: 60, workers: workers, seed: 42)
    for worker in fleet.workers { fleet.join(worker) }

    // Each session is on one worker, whichever frontend it comes through.
    let before = fleet.homes(sessions)
    XCTAssertEqual(before.count, sessions)
    XCTAssertEqual(Set(before.values).count, workers, "all workers are used")

    // A death in mid-load moves only the dead worker's share.
    for session in 0..<sessions { fleet.submit(session % 60, session: session) }
    fleet.die("worker-7")
    fleet.advance(400)
    let after = fleet.homes(sessions)
    XCTAssertEqual(after.count, sessions)
    let moved = before.filter { after[$0.key] != $0.value }
    XCTAssertEqual(Set(moved.values), ["worker-7"])
    XCTAssertLessThan(moved.count, sessions * 2 / workers)

    // It comes back, and so do its sessions.
    fleet.join("worker-7")
    XCTAssertEqual(fleet.homes(sessions), before)

    // Partitions: everybody is served, and afterwards everything is as it was.
    for frontend in 0..<30 {
      for worker in fleet.workers.shuffled(using: &fleet.generator).prefix(10) { fleet.partition(frontend, worker) }
    }
    fleet.round(sessions)
    fleet.heal()
    fleet.advance(200)
    XCTAssertEqual(fleet.homes(sessions), before)

    fleet.advance(6_000)
    XCTAssertEqual(fleet.open, [], "every request was finished")
    XCTAssertEqual(fleet.finishedTwice, 0)
    XCTAssertEqual(fleet.failed, 0, "with workers left nothing fails")
  }

  func testChaosFinishesEveryRequestOnce() {
    var fleet = Fleet(frontends: 60, workers: 12, seed: 7)
    for worker in fleet.workers { fleet.join(worker) }
    for step in 0..<400 {
      let worker = fleet.workers[Int.random(in: 0..<12, using: &fleet.generator)]
      switch Int.random(in: 0..<8, using: &fleet.generator) {
      case 0 where fleet.alive.count > 1: fleet.die(worker)
      case 1: fleet.join(worker)
      case 2: fleet.partition(Int.random(in: 0..<60, using: &fleet.generator), worker)
      case 3: fleet.heal()
      default: fleet.submit(Int.random(in: 0..<60, using: &fleet.generator), session: step)
      }
      fleet.advance(10)
    }
    fleet.advance(10_000)
    XCTAssertEqual(fleet.open, [])
    XCTAssertEqual(fleet.finishedTwice, 0)
    XCTAssertGreaterThan(fleet.answered, 100)
  }
}
