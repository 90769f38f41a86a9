import XCTest

@testable import AgentCore

final class ConnectionPlacesTests: XCTestCase {
  func testPlacesAreLimitedAndGivenBack() {
    var places = ConnectionPlaces(capacity: 2)
    XCTAssertTrue(places.reserve())
    XCTAssertFalse(places.reserve())
    XCTAssertFalse(places.release())
    XCTAssertTrue(places.reserve())
  }

  func testARetiredConnectionEndsWithItsLastExchange() {
    var places = ConnectionPlaces(capacity: 8)
    XCTAssertTrue(places.reserve())
    XCTAssertFalse(places.retire())
    XCTAssertFalse(places.reserve())
    XCTAssertFalse(places.release())
    XCTAssertTrue(places.release())
  }

  func testAnIdleOneEndsAtOnce() {
    var places = ConnectionPlaces(capacity: 1, used: 0)
    XCTAssertTrue(places.retire())
  }

  /// A server that allows one stream has its reader and its sender on two connections.
  func testThePeersLimitHolds() {
    var places = ConnectionPlaces(capacity: 8)
    places.allow(atMost: 1)
    XCTAssertFalse(places.reserve())
    places.allow(atMost: 100)
    XCTAssertEqual(places.capacity, 1)
  }
}
