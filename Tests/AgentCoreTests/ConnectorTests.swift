import XCTest

@testable import AgentCore

final class ConnectorTests: XCTestCase {
  private let start = ContinuousClock.now
  private let policy = BackOff.Policy(base: .seconds(60), deviation: .seconds(30))
  private let three = ["https://a/", "https://b/", "https://c/"]

  private func connector(_ urls: [String], seed: UInt64 = 1) -> Connector {
    Connector(urls: urls, policy: policy, random: RandomSource(seed: seed))
  }

  /// The target of a step that must be a fetch of server.pem.
  private func fetch(_ connector: inout Connector, at now: Instant, line: UInt = #line) throws -> Connector.Target {
    guard case .fetchServerPEM(let target, _) = connector.next(at: now) else {
      XCTFail("expected a fetch of server.pem", line: line)
      throw AgentError(.connection, "unexpected step")
    }
    return target
  }

  private func use(_ connector: inout Connector, at now: Instant, line: UInt = #line) throws -> Connector.Target {
    guard case .use(let target) = connector.next(at: now) else {
      XCTFail("expected a usable server", line: line)
      throw AgentError(.connection, "unexpected step")
    }
    return target
  }

  private func wait(_ connector: inout Connector, at now: Instant, line: UInt = #line) throws -> Duration {
    guard case .wait(let until) = connector.next(at: now) else {
      XCTFail("expected a wait", line: line)
      throw AgentError(.connection, "unexpected step")
    }
    return until - now
  }

  func testServerPEMComesFirstAndOnlyOnce() throws {
    var connector = connector(["https://a/"])
    let target = try fetch(&connector, at: start)
    XCTAssertEqual(connector.next(at: start), .fetchServerPEM(target, rekey: true))
    connector.serverAccepted(target)
    XCTAssertEqual(try use(&connector, at: start), target)
    connector.succeeded(target)
    XCTAssertEqual(try use(&connector, at: start), target)
  }

  func testAFailedServerIsLeftAtOnceAndItsNameForgotten() throws {
    var connector = connector(three)
    let first = try fetch(&connector, at: start)
    connector.serverAccepted(first)
    connector.succeeded(first)
    connector.failed(first, .unavailable(retryAfter: nil), at: start)
    let second = try fetch(&connector, at: start)
    XCTAssertNotEqual(second.url, first.url)
  }

  func testBothLoopsReportingTheSameDeathLeaveItOnce() throws {
    var connector = connector(three)
    let first = try fetch(&connector, at: start)
    connector.serverAccepted(first)
    connector.failed(first, .unavailable(retryAfter: nil), at: start)
    let second = try fetch(&connector, at: start)
    connector.failed(first, .unavailable(retryAfter: nil), at: start)
    XCTAssertEqual(try fetch(&connector, at: start), second)
  }

  func testOneWaitPerRoundAndTheLastGoodOneFirst() throws {
    var connector = connector(three)
    let good = try fetch(&connector, at: start)
    connector.serverAccepted(good)
    connector.succeeded(good)
    var tried: [String] = []
    for _ in 0..<3 {
      let target = try fetch2(&connector, at: start)
      tried.append(target.url)
      connector.failed(target, .unavailable(retryAfter: nil), at: start)
    }
    XCTAssertEqual(Set(tried), Set(three))
    let pause = try wait(&connector, at: start)
    XCTAssertGreaterThan(pause, .zero)
    XCTAssertEqual(try fetch(&connector, at: start + pause).url, good.url)
  }

  /// Either step that names a target.
  private func fetch2(_ connector: inout Connector, at now: Instant) throws -> Connector.Target {
    switch connector.next(at: now) {
    case .fetchServerPEM(let target, _), .use(let target): return target
    case .wait: throw AgentError(.connection, "unexpected wait")
    }
  }

  /// three quick tries, then 60 to 89 s, with one URL.
  func testOneServerGetsThreeQuickTriesThenLongWaits() throws {
    var connector = connector(["https://a/"], seed: 7)
    var now = start
    var waits: [Duration] = []
    for _ in 0..<6 {
      let target = try fetch(&connector, at: now)
      connector.failed(target, .unavailable(retryAfter: nil), at: now)
      let pause = try wait(&connector, at: now)
      waits.append(pause)
      now = now + pause
    }
    XCTAssertTrue((.milliseconds(500)...(.milliseconds(1500))).contains(waits[0]))
    XCTAssertTrue((.milliseconds(1500)...(.milliseconds(4500))).contains(waits[1]))
    for long in waits.dropFirst(2) { XCTAssertTrue((.seconds(60)...(.seconds(90))).contains(long)) }
    XCTAssertEqual(Set(waits).count, waits.count, "waits are jittered")
  }

  func testSuccessMakesTheNextFailureCheapAgain() throws {
    var connector = connector(["https://a/"])
    var now = start
    for _ in 0..<4 {
      let target = try fetch(&connector, at: now)
      connector.failed(target, .unavailable(retryAfter: nil), at: now)
      now = now + (try wait(&connector, at: now))
    }
    let target = try fetch(&connector, at: now)
    connector.serverAccepted(target)
    connector.succeeded(target)
    connector.failed(target, .unavailable(retryAfter: nil), at: now)
    XCTAssertLessThan(try wait(&connector, at: now), .seconds(2))
  }

  /// Servers that restart one after the other never make the agent wait long.
  func testServersThatServeAndGoAreTriedAgainSoon() throws {
    var connector = connector(["https://a/", "https://b/"])
    var now = start
    for round in 0..<20 {
      let first = try fetch(&connector, at: now)
      connector.serverAccepted(first)
      connector.failed(first, round % 2 == 0 ? .interrupted : .unavailable(retryAfter: nil), at: now)
      let second = try fetch(&connector, at: now)
      connector.serverAccepted(second)
      connector.failed(second, round % 2 == 0 ? .unavailable(retryAfter: nil) : .interrupted, at: now)
      let pause = try wait(&connector, at: now)
      XCTAssertTrue((.milliseconds(1500)...(.milliseconds(4500))).contains(pause), "\(pause)")
      now = now + pause
    }
  }

  func testRetryAfterReplacesTheGuess() throws {
    var connector = connector(["https://a/"])
    let target = try fetch(&connector, at: start)
    connector.failed(target, .unavailable(retryAfter: .seconds(20)), at: start)
    let pause = try wait(&connector, at: start)
    XCTAssertTrue((.seconds(20)...(.seconds(30))).contains(pause))
  }

  func testABusyServerIsSkippedWhileOthersServe() throws {
    var connector = connector(["https://a/", "https://b/"])
    let busy = try fetch(&connector, at: start)
    connector.failed(busy, .unavailable(retryAfter: .seconds(500)), at: start)
    let other = try fetch(&connector, at: start)
    XCTAssertNotEqual(busy.url, other.url)
    connector.failed(other, .unavailable(retryAfter: nil), at: start)
    let pause = try wait(&connector, at: start)
    XCTAssertLessThan(pause, .seconds(2))
  }

  func testAnAbsurdRetryAfterIsCut() throws {
    var connector = connector(["https://a/"])
    let target = try fetch(&connector, at: start)
    connector.failed(target, .unavailable(retryAfter: .clamped(seconds: .max)), at: start)
    XCTAssertLessThanOrEqual(try wait(&connector, at: start), .seconds(900))
  }

  /// 403 means that the session is in doubt; a dead connection does not.
  func testRejectionAsksForANewSessionAndUnavailabilityDoesNot() throws {
    var connector = connector(["https://a/", "https://b/"])
    var target = try fetch(&connector, at: start)
    connector.serverAccepted(target)
    connector.failed(target, .unavailable(retryAfter: nil), at: start)
    guard case .fetchServerPEM(let second, let rekey) = connector.next(at: start) else { return XCTFail("a fetch") }
    XCTAssertFalse(rekey)
    connector.serverAccepted(second)
    connector.succeeded(second)
    target = try use(&connector, at: start)
    connector.failed(target, .rejected(retryAfter: nil), at: start)
    guard case .fetchServerPEM(_, let again) = connector.next(at: start) else { return XCTFail("a fetch") }
    XCTAssertTrue(again)
  }

  ///
  func testRedirectToAnUnknownServerIsFollowedAndMarked() throws {
    var connector = connector(["https://a/"])
    let first = try fetch(&connector, at: start)
    connector.serverAccepted(first)
    connector.redirected(first, to: "https://new/base/", at: start)
    let second = try fetch(&connector, at: start)
    XCTAssertEqual(second.url, "https://new/base/")
    connector.serverAccepted(second)
    XCTAssertTrue(try use(&connector, at: start).redirected)
    for _ in 0..<199 { _ = try use(&connector, at: start) }
    XCTAssertFalse(try use(&connector, at: start).redirected)
    XCTAssertEqual(connector.urls.count, 2)
  }

  func testASecondRedirectWaits() throws {
    var connector = connector(["https://a/", "https://b/"])
    let first = try fetch(&connector, at: start)
    connector.serverAccepted(first)
    let other = first.url == "https://a/" ? "https://b/" : "https://a/"
    connector.redirected(first, to: other, at: start)
    let second = try fetch(&connector, at: start)
    XCTAssertEqual(second.url, other)
    connector.serverAccepted(second)
    connector.redirected(second, to: first.url, at: start)
    XCTAssertGreaterThanOrEqual(try wait(&connector, at: start), .seconds(60))
    XCTAssertEqual(connector.urls.count, 2)
  }

  func testAnUnusableRedirectIsAFailure() throws {
    for location in [nil, "", "relative/", "https://x/reader", "ftp://x/"] {
      var connector = connector(["https://a/"])
      let first = try fetch(&connector, at: start)
      connector.redirected(first, to: location, at: start)
      _ = try wait(&connector, at: start)
      XCTAssertEqual(connector.urls, ["https://a/"])
    }
  }

  func testStartsAreSpreadOverTheServers() {
    let starts = (0..<60).map { connector(three, seed: UInt64($0)).url }
    for url in three { XCTAssertGreaterThan(starts.filter { $0 == url }.count, 5) }
  }
}

final class PacingTests: XCTestCase {
  private let start = ContinuousClock.now

  /// ten at once, then one per period.
  func testLimiterGivesABurstThenOnePerPeriod() {
    var limiter = Limiter(period: .seconds(30), burst: 10)
    for _ in 0..<10 {
      XCTAssertLessThanOrEqual(limiter.readyAt(start), start)
      limiter.take(start)
    }
    XCTAssertEqual(limiter.readyAt(start), start + .seconds(30))
    limiter.take(start + .seconds(30))
    XCTAssertEqual(limiter.readyAt(start + .seconds(30)), start + .seconds(60))
    XCTAssertEqual(limiter.readyAt(start + .seconds(1000)), start + .seconds(1000))
  }

  /// one CSR within 60 s.
  func testEnrollerAsksOnceAMinute() {
    var enroller = Enroller()
    XCTAssertTrue(enroller.pleaseEnrol(at: start))
    XCTAssertFalse(enroller.pleaseEnrol(at: start + .seconds(1)))
    XCTAssertFalse(enroller.pleaseEnrol(at: start + .seconds(60)))
    XCTAssertTrue(enroller.pleaseEnrol(at: start + .seconds(61)))
    XCTAssertFalse(enroller.pleaseEnrol(at: start + .seconds(62)))
  }

  func testDurationsFromOutsideCannotOverflow() {
    XCTAssertEqual(Duration.clamped(seconds: .max).milliseconds, 1_000_000_000_000)
    XCTAssertEqual(Duration.milliseconds(1250).inSeconds, "1.2s")
    XCTAssertEqual(Duration.seconds(Int64.max).milliseconds, .max)
  }
}

final class DeliveryJudgeTests: XCTestCase {
  func testOnlyASealedAnswerDelivers() {
    var judge = DeliveryJudge()
    XCTAssertEqual(judge.judge(.sealed([]), records: 5, sealedAnswers: 1), .delivered)
    for result: ExchangeResult in [
      .enrol, .broken("cut"), .busy(503, retryAfter: nil), .rejected(403, retryAfter: nil), .foreign("portal"),
      .redirect(nil), .empty, .padding, .conflict, .interrupted("cut"),
    ] {
      var judge = DeliveryJudge()
      XCTAssertEqual(judge.judge(result, records: 5, sealedAnswers: 1), .keep, "\(result)")
    }
  }

  func testABodyThatIsRefusedIsHalvedUntilTheItemIsAlone() {
    var judge = DeliveryJudge()
    XCTAssertEqual(judge.judge(.empty, records: 8, sealedAnswers: 0), .keep)
    XCTAssertEqual(judge.judge(.empty, records: 8, sealedAnswers: 1), .split(4))
    XCTAssertEqual(judge.recordLimit, 4)
    XCTAssertEqual(judge.judge(.sealed([]), records: 4, sealedAnswers: 2), .delivered)
    XCTAssertEqual(judge.recordLimit, 8)
  }

  func testAnItemIsSetAsideOnlyWhenTheServerIsSeenToAnswer() {
    var judge = DeliveryJudge()
    for _ in 0..<10 { XCTAssertEqual(judge.judge(.empty, records: 1, sealedAnswers: 3), .keep) }
    XCTAssertEqual(
      judge.judge(.empty, records: 1, sealedAnswers: 4),
      .setAside("answered 200 without an acknowledgement 11 times"))
  }

  /// A-13, in the safe form: 400 is tried again twice, then set aside.
  func testA400ForGoodIsSetAside() {
    var judge = DeliveryJudge()
    XCTAssertEqual(judge.judge(.refused(400), records: 1, sealedAnswers: 0), .keep)
    XCTAssertEqual(judge.judge(.refused(400), records: 1, sealedAnswers: 0), .keep)
    XCTAssertEqual(judge.judge(.refused(400), records: 1, sealedAnswers: 0), .setAside("answered 400 3 times"))
  }
}

final class LoopTests: XCTestCase {
  private let start = ContinuousClock.now
  private let settings = SenderSettings(
    pause: .seconds(1), limiterPeriod: .milliseconds(100), limiterBurst: 100, bodySize: 1000, longestHold: .seconds(60))

  func testReaderPausesAfterSuccessAndNotAfterFailure() {
    var loop = ReaderLoop(minPoll: .seconds(1), maxPoll: .seconds(60), clientInfoInterval: .seconds(5))
    XCTAssertEqual(loop.next(at: start), .post(clientInfo: true))
    loop.answered(.broken("cut"), at: start)
    XCTAssertEqual(loop.next(at: start), .post(clientInfo: true), "the connector does the waiting")
    loop.answered(.enrol, at: start)
    XCTAssertEqual(loop.next(at: start), .wait(until: start + .seconds(1)))
    XCTAssertEqual(loop.next(at: start + .seconds(1)), .post(clientInfo: true), "406 took nothing")
    loop.answered(.empty, at: start + .seconds(1))
    XCTAssertEqual(loop.next(at: start + .seconds(2)), .post(clientInfo: true), "an empty 200 took nothing")
    loop.answered(.sealed([]), at: start + .seconds(2))
    XCTAssertEqual(loop.next(at: start + .seconds(3)), .post(clientInfo: false))
    loop.answered(.sealed([]), at: start + .seconds(3))
    XCTAssertEqual(loop.next(at: start + .seconds(7)), .post(clientInfo: true), "A-18: each interval")
  }

  /// A wait that ends without a task: the server took the check-in, and client info is not sent with each poll.
  func testClientInfoIsSentOnceToAServerWithoutTasks() {
    var loop = ReaderLoop(minPoll: .seconds(1), maxPoll: .seconds(60), clientInfoInterval: .seconds(86_400))
    XCTAssertEqual(loop.next(at: start), .post(clientInfo: true))
    loop.answered(.padding, at: start + .seconds(70))
    XCTAssertEqual(loop.next(at: start + .seconds(71)), .post(clientInfo: false))
    loop.answered(.padding, at: start + .seconds(140))
    XCTAssertEqual(loop.next(at: start + .seconds(86_470)), .post(clientInfo: true))
  }

  /// `client_info_update_time: -1`.
  func testClientInfoCanBeTurnedOff() {
    var loop = ReaderLoop(minPoll: .seconds(1), maxPoll: .seconds(60), clientInfoInterval: nil)
    XCTAssertEqual(loop.next(at: start), .post(clientInfo: false))
  }

  func testAConflictIsTriedAgainWhenTheServerCanHaveNoticedTheDeadReader() {
    var loop = ReaderLoop(
      minPoll: .seconds(1), maxPoll: .seconds(60), clientInfoInterval: nil, random: RandomSource(seed: 1))
    var now = start
    for wait: Duration in [.seconds(10), .seconds(20), .seconds(40), .seconds(60), .seconds(60)] {
      guard case .post = loop.next(at: now) else { return XCTFail("a post") }
      loop.answered(.conflict, at: now)
      guard case .wait(let until) = loop.next(at: now) else { return XCTFail("a wait") }
      XCTAssertTrue((wait...(wait * 2)).contains(until - now), "\(until - now)")
      now = until
    }
  }

  func testReaderIsNotAboveItsLimiter() {
    var loop = ReaderLoop(minPoll: .seconds(1), maxPoll: .seconds(60), clientInfoInterval: nil)
    var now = start
    for _ in 0..<10 {
      guard case .post = loop.next(at: now) else { return XCTFail("a post") }
      loop.answered(.sealed([]), at: now)
      now = now + .seconds(1)
    }
    guard case .wait(let until) = loop.next(at: now) else { return XCTFail("a wait") }
    XCTAssertEqual(until, start + .seconds(30))
  }

  func testSenderGathersThenPausesAndSkipsThePauseWhenMuchWaits() {
    var loop = SenderLoop(settings: settings)
    XCTAssertEqual(loop.next(at: start, urgent: .none, bulkBytes: 0), .wait(until: nil))
    XCTAssertEqual(loop.next(at: start, urgent: .none, bulkBytes: 10), .wait(until: start + .milliseconds(50)))
    XCTAssertEqual(loop.next(at: start + .milliseconds(50), urgent: .none, bulkBytes: 20), .sendBulk(recordLimit: nil))
    XCTAssertEqual(loop.bulkAnswered(.sealed([]), records: 1, sealedAnswers: 1, at: start + .seconds(1)), .delivered)
    guard case .wait(let until) = loop.next(at: start + .seconds(1), urgent: .none, bulkBytes: 5) else {
      return XCTFail("a wait")
    }
    XCTAssertEqual(until, start + .seconds(2))
    XCTAssertEqual(loop.next(at: start + .seconds(1), urgent: .none, bulkBytes: 5000), .sendBulk(recordLimit: nil))
  }

  func testUrgentOvertakesAPause() {
    var loop = SenderLoop(settings: settings)
    _ = loop.bulkAnswered(.sealed([]), records: 1, sealedAnswers: 1, at: start)
    XCTAssertEqual(loop.next(at: start, urgent: .ordinary, bulkBytes: 5), .sendUrgent(recordLimit: nil))
  }

  /// 406 loses nothing; the certificate request is not held back by it.
  func testUnenrolledDataIsHeldAtGrowingDistancesUntilTheServerAcknowledges() {
    var loop = SenderLoop(settings: settings)
    XCTAssertEqual(loop.bulkAnswered(.enrol, records: 1, sealedAnswers: 0, at: start), .keep)
    XCTAssertEqual(loop.next(at: start, urgent: .none, bulkBytes: 5), .wait(until: start + .seconds(1)))
    XCTAssertEqual(loop.next(at: start, urgent: .enrolment, bulkBytes: 5), .sendUrgent(recordLimit: 1))
    XCTAssertEqual(
      loop.urgentAnswered(.enrol, isEnrolment: true, records: 1, sealedAnswers: 0, at: start), .delivered)
    XCTAssertEqual(loop.bulkAnswered(.enrol, records: 1, sealedAnswers: 0, at: start + .seconds(1)), .keep)
    XCTAssertEqual(
      loop.next(at: start + .seconds(1), urgent: .ordinary, bulkBytes: 5), .wait(until: start + .seconds(3)))
    loop.serverAcknowledged()
    XCTAssertEqual(
      loop.next(at: start + .seconds(1), urgent: .ordinary, bulkBytes: 5), .sendUrgent(recordLimit: nil))
  }

  func testACertificateRequestSurvivesAFailedServer() {
    var loop = SenderLoop(settings: settings)
    XCTAssertEqual(
      loop.urgentAnswered(.broken("cut"), isEnrolment: true, records: 1, sealedAnswers: 0, at: start), .keep)
  }
}
