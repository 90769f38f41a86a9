import NIOCore
import XCTest

@testable import frontend

/// Dialogues about the one reader that a client may have.
final class ReaderSeatTests: XCTestCase {
  private let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

  private func facts(
    _ session: UInt64, _ host: String = "10.0.0.1", agent: String = "Velociraptor", relayed: Bool = false
  ) -> ReaderFacts {
    ReaderFacts(session: session, host: host, remoteAddress: "\(host):1", userAgent: agent, isRelayed: relayed)
  }

  /// H-13.
  func testASecondReaderIsRefusedWhileTheFirstAnswers() {
    var seat = ReaderSeat()
    XCTAssertEqual(seat.arrive(facts(1), now: start), .seat)
    XCTAssertEqual(seat.arrive(facts(1), now: start), .probe)
    XCTAssertEqual(
      seat.probed(isAnswering: true, now: start), .refuse(ReaderConflict(holder: facts(1), newcomer: facts(1))))
    XCTAssertEqual(seat.holder, facts(1))
    seat.left()
    XCTAssertTrue(seat.isEmpty(now: start))
    XCTAssertEqual(seat.arrive(facts(1), now: start), .seat)
  }

  func testASilentHolderIsDisplaced() {
    var seat = ReaderSeat()
    _ = seat.arrive(facts(1), now: start)
    XCTAssertEqual(seat.arrive(facts(1), now: start), .probe)
    XCTAssertEqual(seat.probed(isAnswering: false, now: start), .displace)
    XCTAssertEqual(seat.holder, facts(1))
  }

  /// The same agent process at another address: its network changed.
  func testAnAgentThatMovedIsSeatedAtOnce() {
    var seat = ReaderSeat()
    _ = seat.arrive(facts(1), now: start)
    XCTAssertEqual(seat.arrive(facts(1, "10.9.9.9"), now: start), .displace)
    XCTAssertEqual(seat.arrive(facts(1), now: start), .displace, "and back again: one process is never a conflict")
  }

  /// Another session from the same place: the agent was restarted.
  func testARestartedAgentIsSeatedAtOnce() {
    var seat = ReaderSeat()
    _ = seat.arrive(facts(1), now: start)
    XCTAssertEqual(seat.arrive(facts(2), now: start), .displace)
    XCTAssertEqual(seat.arrive(facts(3), now: start), .displace, "restarted again")
  }

  /// Two machines behind one address displace each other once; then the holder is left alone.
  func testTwoThatDisplaceEachOtherAreAConflict() {
    var seat = ReaderSeat()
    _ = seat.arrive(facts(1), now: start)
    XCTAssertEqual(seat.arrive(facts(2), now: start), .displace)
    let conflict = ReaderConflict(holder: facts(2), newcomer: facts(1))
    XCTAssertEqual(seat.arrive(facts(1), now: start + .seconds(1)), .refuse(conflict))
    XCTAssertEqual(seat.holder, facts(2))
    let later = start + ReaderSeat.memory
    XCTAssertEqual(seat.arrive(facts(1), now: later), .displace, "it is not held against them for ever")
  }

  /// Two machines at two addresses, both alive: as the reference does.
  func testAnotherMachineIsRefused() {
    var seat = ReaderSeat()
    _ = seat.arrive(facts(1), now: start)
    let other = facts(2, "192.0.2.7", agent: "x")
    XCTAssertEqual(seat.arrive(other, now: start), .probe)
    XCTAssertEqual(seat.arrive(facts(3), now: start), .refuse(nil), "one question at a time")
    XCTAssertEqual(
      seat.probed(isAnswering: true, now: start), .refuse(ReaderConflict(holder: facts(1), newcomer: other)))
  }

  func testTheHolderLeavesWhileItIsAsked() {
    var seat = ReaderSeat()
    _ = seat.arrive(facts(1), now: start)
    XCTAssertEqual(seat.arrive(facts(1), now: start), .probe)
    seat.left()
    XCTAssertEqual(seat.probed(isAnswering: false, now: start), .seat)
    XCTAssertEqual(seat.holder, facts(1))
  }

  /// Behind a proxy the connection always answers, so it proves nothing.
  func testBehindAProxyTheNewerWins() {
    var seat = ReaderSeat()
    _ = seat.arrive(facts(1, relayed: true), now: start)
    XCTAssertEqual(seat.arrive(facts(1, relayed: true), now: start), .displace)
    XCTAssertEqual(seat.arrive(facts(2, "192.0.2.7", relayed: true), now: start), .displace)
    XCTAssertEqual(
      seat.arrive(facts(1, relayed: true), now: start),
      .refuse(ReaderConflict(holder: facts(2, "192.0.2.7", relayed: true), newcomer: facts(1, relayed: true))))
  }

  func testANewerReaderElsewhereEndsTheOneHere() {
    var seat = ReaderSeat()
    XCTAssertEqual(seat.seatedElsewhere(facts(1), now: start), .none)
    _ = seat.arrive(facts(1), now: start)
    XCTAssertEqual(seat.seatedElsewhere(facts(1, "10.0.0.2"), now: start), .end(nil))
    seat.left()
    XCTAssertTrue(seat.isEmpty(now: start), "an agent that moves leaves nothing behind")
  }

  /// Two machines at two frontends: each displaces the other once, both frontends see the conflict, and it ends.
  func testTwoFrontendsAndTwoMachines() {
    var one = ReaderSeat()
    var two = ReaderSeat()
    let (a, b) = (facts(1, "10.0.0.1"), facts(2, "10.0.0.2"))
    _ = one.arrive(a, now: start)
    XCTAssertEqual(two.arrive(b, now: start), .seat)
    two.displacedElsewhere(a, by: b, now: start)
    XCTAssertEqual(one.seatedElsewhere(b, now: start), .end(nil), "the newer wins")
    one.left()
    XCTAssertEqual(one.arrive(a, now: start + .seconds(1)), .seat, "once it may come back")
    one.displacedElsewhere(b, by: a, now: start + .seconds(1))
    XCTAssertEqual(
      two.seatedElsewhere(a, now: start + .seconds(1)), .end(ReaderConflict(holder: b, newcomer: a)))
    two.left()
    XCTAssertEqual(
      two.arrive(b, now: start + .seconds(2)), .refuse(ReaderConflict(holder: a, newcomer: b)),
      "and there it ends")
    XCTAssertEqual(one.holder, a)
    one.left()
    XCTAssertEqual(two.arrive(b, now: start + .minutes(11)), .seat)
  }
}
