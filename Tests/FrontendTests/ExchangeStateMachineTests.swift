import XCTest

@testable import frontend

/// Dialogues with one connection's requests.
final class ExchangeStateMachineTests: XCTestCase {
  func testARequestWithABody() {
    var exchange = ExchangeStateMachine()
    XCTAssertEqual(exchange.head(.collect(limit: 10)), .none)
    XCTAssertEqual(exchange.body(4), .keep)
    XCTAssertEqual(exchange.body(5), .keep)
    XCTAssertEqual(exchange.end(), .process)
    XCTAssertTrue(exchange.isProcessing)
    XCTAssertTrue(exchange.answerHead())
    XCTAssertTrue(exchange.mayWriteBody)
    XCTAssertTrue(exchange.answerEnd())
    XCTAssertTrue(exchange.isIdle)
    XCTAssertEqual(exchange.head(.discard), .none, "the next request of the connection")
  }

  func testABodyAtTheLimitIsTooLarge() {
    var exchange = ExchangeStateMachine()
    _ = exchange.head(.collect(limit: 10))
    XCTAssertEqual(exchange.body(10), .none)
    XCTAssertEqual(exchange.end(), .tooLarge)
    XCTAssertTrue(exchange.answerHead())
  }

  func testABodyWithoutEndIsCut() {
    var exchange = ExchangeStateMachine()
    _ = exchange.head(.collect(limit: 10))
    XCTAssertEqual(exchange.body(30), .none)
    XCTAssertEqual(exchange.body(30), .close)
    XCTAssertEqual(exchange.end(), .none)
    XCTAssertFalse(exchange.answerHead())
  }

  func testAnswersAreWrittenOnce() {
    var exchange = ExchangeStateMachine()
    _ = exchange.head(.discard)
    XCTAssertFalse(exchange.answerHead(), "not before the request is complete")
    _ = exchange.end()
    XCTAssertTrue(exchange.answerHead())
    XCTAssertFalse(exchange.answerHead())
    XCTAssertTrue(exchange.answerEnd())
    XCTAssertFalse(exchange.answerEnd())
  }

  func testNothingIsWrittenAfterTheConnectionHasGone() {
    var exchange = ExchangeStateMachine()
    _ = exchange.head(.discard)
    _ = exchange.end()
    exchange.close()
    XCTAssertFalse(exchange.answerHead())
    XCTAssertFalse(exchange.mayWriteBody)
    XCTAssertFalse(exchange.answerEnd())
  }

  func testARequestInsideARequestEndsTheConnection() {
    var exchange = ExchangeStateMachine()
    _ = exchange.head(.discard)
    XCTAssertEqual(exchange.head(.discard), .close)
  }
}

/// Dialogues with a waiting reader.
final class ReaderWaitTests: XCTestCase {
  func testASignalLooksForTasks() {
    var wait = ReaderWait()
    XCTAssertEqual(wait.foundNothing(), .none)
    XCTAssertEqual(wait.signalled(), .lookForTasks)
    XCTAssertTrue(wait.foundTasks())
    XCTAssertEqual(wait.signalled(), .none)
    XCTAssertEqual(wait.deadlinePassed(), .none)
    XCTAssertEqual(wait.padIsDue(), .none)
  }

  func testASignalWhileLookingIsNotLost() {
    var wait = ReaderWait()
    XCTAssertEqual(wait.signalled(), .none)
    XCTAssertEqual(wait.foundNothing(), .lookForTasks)
    XCTAssertEqual(wait.foundNothing(), .none)
    XCTAssertEqual(wait.state, .waiting)
  }

  func testTheDeadlineEndsWithAPad() {
    var wait = ReaderWait()
    XCTAssertEqual(wait.padIsDue(), .writePad)
    _ = wait.foundNothing()
    XCTAssertEqual(wait.padIsDue(), .writePad)
    XCTAssertEqual(wait.deadlinePassed(), .endWithPad)
    XCTAssertEqual(wait.deadlinePassed(), .none)
  }

  func testTheDeadlineWaitsForTheStore() {
    var wait = ReaderWait()
    XCTAssertEqual(wait.deadlinePassed(), .none)
    XCTAssertEqual(wait.foundNothing(), .endWithPad)
  }

  func testTasksForAReaderThatHasGoneAreGivenBack() {
    var wait = ReaderWait()
    wait.closed()
    XCTAssertFalse(wait.foundTasks())
    XCTAssertEqual(wait.foundNothing(), .none)
  }
}

final class LimitTests: XCTestCase {
  func testTokenBucket() {
    var bucket = TokenBucket(rate: 10, burst: 3)
    XCTAssertEqual((0..<4).map { _ in bucket.take(now: 1) }, [true, true, true, false])
    XCTAssertFalse(bucket.take(now: 50_000_000))
    XCTAssertTrue(bucket.take(now: 101_000_001))
    XCTAssertFalse(bucket.take(now: 101_000_001))
    let later: UInt64 = 60_000_000_000
    XCTAssertEqual((0..<4).map { _ in bucket.take(now: later) }, [true, true, true, false])
  }

  func testSlotsGoInOrder() {
    let slots = Slots(count: 1, timeout: 600)
    let first = slots.acquire { _ in XCTFail("has its ticket") }.ticket
    XCTAssertNotNil(first)
    let second = expectation(description: "second")
    let third = expectation(description: "third")
    XCTAssertNil(
      slots.acquire { ticket in
        second.fulfill()
        if let ticket { slots.release(ticket) }
      }.ticket)
    XCTAssertNil(slots.acquire { _ in third.fulfill() }.ticket)
    if let first { slots.release(first) }
    wait(for: [second, third], timeout: 10, enforceOrder: true)
  }

  func testASlotIsNotWaitedForForEver() {
    let slots = Slots(count: 1, timeout: 0)
    _ = slots.acquire { _ in }
    let refused = expectation(description: "refused")
    _ = slots.acquire { ticket in
      XCTAssertNil(ticket)
      refused.fulfill()
    }
    wait(for: [refused], timeout: 10)
  }

  func testTrustedRanges() throws {
    let range = try XCTUnwrap(TrustedProxies.Range("10.1.0.0/20"))
    XCTAssertTrue(range.contains("10.1.15.255"))
    XCTAssertFalse(range.contains("10.1.16.0"))
    XCTAssertFalse(range.contains("::1"))
    XCTAssertTrue(try XCTUnwrap(TrustedProxies.Range("127.0.0.1")).contains("::ffff:127.0.0.1"))
    XCTAssertTrue(try XCTUnwrap(TrustedProxies.Range("fd00::/8")).contains("fd12::1"))
    for wrong in ["", "x", "10.0.0.0/33", "::/129", "10.0.0.0/-1"] { XCTAssertNil(TrustedProxies.Range(wrong)) }
  }
}
