import WorkerLink
import XCTest

/// Dialogues with the link: what comes in, and what it wants done.
final class LinkStateMachineTests: XCTestCase {
  private let secret = [UInt8](0..<16)

  private func link(_ workers: [String], limits: LinkStateMachine.Limits = .init()) -> LinkStateMachine {
    LinkStateMachine(routingSecret: secret, workers: workers, limits: limits)
  }

  private func seal(_ key: UInt8) -> WorkerRequest {
    .seal(routingKey: [key], source: "C.0123456789abcdef", publicKey: [], list: [])
  }

  private func target(_ actions: [LinkStateMachine.Action]) -> String? {
    for case .send(let worker, _, let request, _) in actions where request != .health { return worker }
    return nil
  }

  private func finished(_ actions: [LinkStateMachine.Action]) -> [UInt64: LinkStateMachine.Outcome] {
    var result: [UInt64: LinkStateMachine.Outcome] = [:]
    for case .finish(let id, let outcome) in actions { result[id] = outcome }
    return result
  }

  func testARequestWaitsForAWorker() {
    var link = link(["a"])
    let (id, actions) = link.submit(seal(1), deadline: 1000, now: 0)
    XCTAssertEqual(actions, [])
    XCTAssertEqual(target(link.connected("a", now: 10)), "a")
    XCTAssertEqual(
      link.replied("a", id: id, .needKey, now: 20), [.finish(id: id, .reply(.needKey))])
    XCTAssertEqual(link.requestsInFlight, 0)
  }

  func testWithoutAWorkerTheDeadlineEndsIt() {
    var link = link(["a"])
    let (id, _) = link.submit(seal(1), deadline: 1000, now: 0)
    XCTAssertEqual(finished(link.tick(now: 999)), [:])
    XCTAssertEqual(finished(link.tick(now: 1100)), [id: .unavailable])
    XCTAssertEqual(link.connected("a", now: 1200).count, 2, "a note and a question after its health")
  }

  func testASessionKeepsItsWorker() {
    var link = link(["a", "b", "c"])
    for worker in ["a", "b", "c"] { _ = link.connected(worker, now: 0) }
    for key in 0..<50 as Range<UInt8> {
      let first = target(link.submit(seal(key), deadline: 1000, now: 0).actions)
      let second = target(link.submit(seal(key), deadline: 1000, now: 1).actions)
      XCTAssertEqual(first, second)
    }
  }

  func testWhatWasInFlightGoesToTheNext() throws {
    var link = link(["a", "b"])
    _ = link.connected("a", now: 0)
    _ = link.connected("b", now: 0)
    let (id, actions) = link.submit(seal(1), deadline: 1000, now: 0)
    let first = try XCTUnwrap(target(actions))
    let other = first == "a" ? "b" : "a"
    let moved = link.disconnected(first, now: 10)
    XCTAssertTrue(moved.contains(.note(.workerDown(first))))
    XCTAssertTrue(moved.contains(.note(.resent(id: id, from: first))))
    XCTAssertEqual(target(moved), other)
    // The dead worker's answer was still on its way: it no longer counts.
    XCTAssertEqual(link.replied(first, id: id, .needKey, now: 11), [.note(.lateReply(worker: first))])
    XCTAssertEqual(finished(link.replied(other, id: id, .done, now: 12)), [id: .reply(.done)])
    // And a second answer does not finish it again.
    XCTAssertEqual(finished(link.replied(other, id: id, .done, now: 13)), [:])
  }

  func testARequestVisitsAWorkerOnce() throws {
    var link = link(["a"])
    _ = link.connected("a", now: 0)
    let (id, _) = link.submit(seal(1), deadline: 10_000, now: 0)
    XCTAssertEqual(finished(link.disconnected("a", now: 10)), [id: .unavailable])
  }

  func testAFailedSendCountsAsADeath() throws {
    var link = link(["a", "b"])
    _ = link.connected("a", now: 0)
    _ = link.connected("b", now: 0)
    let (id, actions) = link.submit(seal(1), deadline: 1000, now: 0)
    let first = try XCTUnwrap(target(actions))
    let moved = link.sendFailed(first, id: id, now: 1)
    XCTAssertEqual(target(moved), first == "a" ? "b" : "a")
  }

  func testADrainingWorkerGetsNothingNew() throws {
    var link = link(["a", "b"])
    _ = link.connected("a", now: 0)
    _ = link.connected("b", now: 0)
    let notes = link.replied("a", id: 0, .health(WorkerHealth(name: "a", draining: true)), now: 5)
    XCTAssertTrue(notes.contains(.note(.workerDraining("a"))))
    for key in 0..<20 as Range<UInt8> {
      XCTAssertEqual(target(link.submit(seal(key), deadline: 1000, now: 6).actions), "b")
    }
    XCTAssertEqual(link.usableWorkers, ["b"])
  }

  func testAStalledWorkerLosesItsRequestsAndComesBack() throws {
    var link = link(["a", "b"])
    _ = link.connected("a", now: 0)
    _ = link.connected("b", now: 0)
    let (id, actions) = link.submit(seal(1), deadline: 100_000, now: 0)
    let first = try XCTUnwrap(target(actions))
    let other = first == "a" ? "b" : "a"
    _ = link.replied(other, id: 0, .health(WorkerHealth()), now: 2999)
    let late = link.tick(now: 3000)
    XCTAssertTrue(late.contains(.note(.workerStalled(first))))
    XCTAssertEqual(target(late), other)
    XCTAssertEqual(link.usableWorkers, [other])
    let back = link.replied(first, id: id, .done, now: 4000)
    XCTAssertTrue(back.contains(.note(.workerUp(first))))
    XCTAssertTrue(back.contains(.note(.lateReply(worker: first))))
    XCTAssertEqual(link.usableWorkers, ["a", "b"])
  }

  func testAWorkerJoinsWhileRunning() throws {
    var link = link(["a"])
    _ = link.connected("a", now: 0)
    link.add("b")
    XCTAssertEqual(link.usableWorkers, ["a"])
    _ = link.connected("b", now: 1)
    XCTAssertEqual(link.usableWorkers, ["a", "b"])
    let targets = (0..<50 as Range<UInt8>).map { target(link.submit(seal($0), deadline: 1000, now: 2).actions) }
    XCTAssertEqual(Set(targets), ["a", "b"])
  }

  func testARemovedWorkerAnswersWhatItHasAndIsClosed() throws {
    var link = link(["a", "b"])
    _ = link.connected("a", now: 0)
    _ = link.connected("b", now: 0)
    let (id, actions) = link.submit(seal(1), deadline: 100_000, now: 0)
    let first = try XCTUnwrap(target(actions))
    let other = first == "a" ? "b" : "a"
    XCTAssertEqual(link.remove(first, now: 1), [.note(.workerRemoved(first))])
    XCTAssertEqual(link.remove(first, now: 1), [], "once is enough")
    XCTAssertEqual(link.usableWorkers, [other])
    XCTAssertEqual(target(link.submit(seal(1), deadline: 1000, now: 2).actions), other)
    XCTAssertEqual(
      link.replied(first, id: id, .done, now: 3), [.finish(id: id, .reply(.done)), .close(worker: first)])
    XCTAssertNil(link.inFlight[first])
    // One with nothing to answer goes at once, and one that never came too.
    XCTAssertEqual(link.replied(other, id: id + 1, .done, now: 4), [.finish(id: id + 1, .reply(.done))])
    XCTAssertEqual(link.remove(other, now: 5), [.note(.workerRemoved(other)), .close(worker: other)])
    link.add("c")
    XCTAssertEqual(link.remove("c", now: 6), [.close(worker: "c")])
  }

  func testARemovedWorkerThatDiesGivesItsRequestsAway() throws {
    var link = link(["a", "b"])
    _ = link.connected("a", now: 0)
    _ = link.connected("b", now: 0)
    let (id, actions) = link.submit(seal(1), deadline: 100_000, now: 0)
    let first = try XCTUnwrap(target(actions))
    _ = link.remove(first, now: 1)
    let gone = link.disconnected(first, now: 2)
    XCTAssertEqual(target(gone), first == "a" ? "b" : "a")
    XCTAssertTrue(gone.contains(.note(.resent(id: id, from: first))))
    XCTAssertEqual(gone.last, .close(worker: first))
  }

  func testARemovedWorkerIsTakenBack() throws {
    var link = link(["a"])
    _ = link.connected("a", now: 0)
    let (id, _) = link.submit(seal(1), deadline: 100_000, now: 0)
    _ = link.remove("a", now: 1)
    link.add("a")
    XCTAssertEqual(link.usableWorkers, ["a"])
    XCTAssertEqual(link.replied("a", id: id, .done, now: 3), [.finish(id: id, .reply(.done))])
  }

  /// A worker that can keep three times as many sessions gets three times as many.
  func testWeights() throws {
    var link = link(["a", "b"])
    for (worker, sessions) in [("a", 30_000), ("b", 10_000)] as [(String, UInt64)] {
      _ = link.connected(worker, now: 0)
      _ = link.replied(worker, id: .max, .health(WorkerHealth(name: worker, sessionLimit: sessions)), now: 1)
    }
    var count = 0
    for number in 0..<2_000 {
      let key = withUnsafeBytes(of: number) { Array($0) }
      let request = WorkerRequest.seal(routingKey: key, source: "", publicKey: [], list: [])
      if target(link.submit(request, deadline: 1000, now: 2).actions) == "a" { count += 1 }
    }
    XCTAssertTrue((1_400...1_600).contains(count), "\(count)")
  }

  func testTooManyInFlightAreRefusedAtOnce() {
    var limits = LinkStateMachine.Limits()
    limits.inFlightPerWorker = 2
    var link = link(["a"], limits: limits)
    _ = link.connected("a", now: 0)
    _ = link.submit(seal(1), deadline: 1000, now: 0)
    _ = link.submit(seal(2), deadline: 1000, now: 0)
    let (id, actions) = link.submit(seal(3), deadline: 1000, now: 0)
    XCTAssertEqual(finished(actions), [id: .overloaded])
  }

  /// Random events: every request is finished exactly once, and only the answer of its present worker counts.
  func testEveryRequestEndsOnce() {
    var generator = SystemRandomNumberGenerator()
    let workers = (0..<5).map { "w\($0)" }
    var link = link(workers)
    var open: Set<UInt64> = []
    var place: [UInt64: String] = [:]
    var now: UInt64 = 0
    func take(_ actions: [LinkStateMachine.Action]) {
      for action in actions {
        switch action {
        case .send(let worker, let id, let request, _) where request != .health: place[id] = worker
        case .finish(let id, _): XCTAssertNotNil(open.remove(id), "finished twice")
        default: break
        }
      }
    }
    for _ in 0..<20_000 {
      now += UInt64.random(in: 0..<20, using: &generator)
      let worker = workers.randomElement(using: &generator) ?? "w0"
      switch Int.random(in: 0..<10, using: &generator) {
      case 0: take(link.connected(worker, now: now))
      case 1: take(link.disconnected(worker, now: now))
      case 2: take(link.tick(now: now))
      case 3...6:
        let (id, actions) = link.submit(seal(.random(in: 0...255, using: &generator)), deadline: now + 200, now: now)
        open.insert(id)
        take(actions)
      default:
        guard let id = open.randomElement(using: &generator), let at = place[id] else { continue }
        take(link.replied(at, id: id, .done, now: now))
      }
    }
    take(link.tick(now: now + 10_000))
    XCTAssertEqual(open, [])
    XCTAssertEqual(link.requestsInFlight, 0)
  }
}
