import PublicIdentity
import Store
import XCTest

/// What every store must do: tell frontends where a client's reader sits.
final class SeatConformanceTests: XCTestCase {
  private func seat(
    _ agent: TestAgent, _ process: String, session: UInt64 = .max, host: String = "192.0.2.1", port: Int = 1
  ) -> StoredSeat {
    StoredSeat(
      client: agent.name, process: process, session: session, host: host, remoteAddress: "\(host):\(port)",
      userAgent: "agent", isRelayed: false)
  }

  func testASeatMovesBetweenProcesses() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      let none = try await store.seat(of: agent.name)
      XCTAssertNil(none)
      let first = seat(agent, "one")
      var before = try await store.takeSeat(first)
      XCTAssertNil(before, "nobody sat there")

      let events = try await store.events()
      let second = seat(agent, "two", session: 7, host: "192.0.2.2")
      before = try await store.takeSeat(second)
      XCTAssertEqual(before, first)
      let stored = try await store.seat(of: agent.name)
      XCTAssertEqual(stored, second)
      for await event in events {
        XCTAssertEqual(event, .seatTaken(agent.name))
        break
      }
    }
  }

  /// A check-in that finds its own seat writes nothing: not even the new port is stored.
  func testASeatTakenAgainWritesNothing() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      _ = try await store.takeSeat(seat(agent, "one", port: 1))
      let before = try await store.takeSeat(seat(agent, "one", port: 2))
      XCTAssertNil(before)
      var stored = try await store.seat(of: agent.name)
      XCTAssertEqual(stored?.remoteAddress, "192.0.2.1:1")
      // Another session at the same process is news, but nobody else has to hear of it.
      let events = try await store.events()
      _ = try await store.takeSeat(seat(agent, "one", session: 3, port: 3))
      stored = try await store.seat(of: agent.name)
      XCTAssertEqual(stored?.session, 3)
      try await store.queue([agent.flowTask()], by: alice)
      for await event in events {
        XCTAssertEqual(event, .tasksQueued(agent.name), "the first event since")
        break
      }
    }
  }

  func testADeletedClientHasNoSeat() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      _ = try await store.takeSeat(seat(agent, "one"))
      try await store.delete(agent.name, by: alice)
      let gone = try await store.takeSeat(seat(agent, "two"))
      XCTAssertNil(gone)
      _ = try await store.enrolled(agent)
      let stored = try await store.seat(of: agent.name)
      XCTAssertNil(stored)
    }
  }
}
