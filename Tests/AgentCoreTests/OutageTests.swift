import Synchronization
import XCTest

@testable import AgentCore

/// The loops and the nanny while servers fail, in a time that is moved by hand.
final class OutageTests: XCTestCase {
  private let clock = ManualClock()
  private let log = LogRecorder()

  private func link(_ urls: [String], _ transport: ScriptedTransport, _ pulse: Pulse = .ignored) -> Link {
    Link(
      connector: Connector(urls: urls, policy: AgentSettings().backOff, random: RandomSource(seed: 3)),
      session: PlainSession(), transport: transport, clock: clock, log: log.logger, pulse: pulse)
  }

  /// Moves from one sleep to the next until so much has passed.
  private func pass(_ time: Duration, each: (Instant) -> Void = { _ in }) async {
    let end = clock.now + time
    while true {
      let next = await clock.nextDeadline()
      if next > end { return }
      clock.advance(to: next)
      each(next)
    }
  }

  private func post(_ link: Link, _ handler: String = "control") -> Task<Void, any Error> {
    Task {
      while true {
        let result = try await link.exchange(handler: handler, lists: [[1]], compressed: false, urgent: false)
        if case .sealed = result { return }
      }
    }
  }

  /// three quick tries, then waits of 60 to 90 s, each different; the same data each time.
  func testABusyServerGetsThreeQuickTriesThenLongWaits() async throws {
    for status in [503, 408] {
      let clock = self.clock
      let transport = ScriptedTransport(clock) { request, _ in
        TransportAnswer(status: request.handler == "server.pem" ? 200 : status, body: [1])
      }
      let sending = post(link(["https://a/"], transport))
      let begin = clock.passed
      await pass(.seconds(600))
      sending.cancel()
      let times = transport.times(of: "control").map { $0 - begin }
      XCTAssertEqual(times.filter { $0 < .seconds(10) }.count, 3, "\(times)")
      let gaps = zip(times.dropFirst(3), times.dropFirst(2)).map { $0 - $1 }
      XCTAssertGreaterThanOrEqual(gaps.count, 6)
      for gap in gaps { XCTAssertTrue((.seconds(60)..<(.seconds(90))).contains(gap), "\(gap)") }
      XCTAssertEqual(Set(gaps).count, gaps.count, "jittered")
    }
    XCTAssertTrue(log.contains("https://a/control: 503, busy"))
    XCTAssertTrue(log.contains("next try at https://a/ in "))
  }

  /// What an operator reads of an outage: what was tried, what came back, when the next try is, and its end.
  func testTheLogTellsTheStoryOfAnOutage() async throws {
    let clock = self.clock
    let isUp = Mutex(false)
    let transport = ScriptedTransport(clock) { request, _ in
      guard isUp.withLock({ $0 }) else {
        guard request.url.host == "b" else { throw AgentError(.connection, "Connection refused") }
        return TransportAnswer(status: 302, body: [], location: "http://portal/")
      }
      request.onHeaders?(200)
      return TransportAnswer(status: 200, body: [1])
    }
    let reading = post(link(["https://a/", "https://b/"], transport), "reader")
    await pass(.seconds(300))
    isUp.withLock { $0 = true }
    clock.runFreely()
    try await reading.value
    for line in [
      "warning: https://a/server.pem: Connection refused", "; trying https://", "notice: For causes and remedies",
      "warning: https://b/server.pem: answered 302 to http://portal/ (a captive portal?)",
      "info: No server is usable now; next try at https://",
    ] { XCTAssertTrue(log.contains(line), line) }
    XCTAssertEqual(log.all.filter { $0.contains("agent doctor") }.count, 1)
    // The line comes from a task of its own.
    let end = ContinuousClock.now + .seconds(patience)
    while !log.contains("serves again"), ContinuousClock.now < end { await Task.yield() }
    XCTAssertEqual(log.all.filter { $0.contains("serves again") }.count, 1)
  }

  /// all servers down for a quarter of an hour: one wait per round of all, no busy loop, and the nanny, which
  /// looks every 10 s, sees nothing wrong.
  func testAllServersDownIsNoReasonForTheNanny() async throws {
    let transport = ScriptedTransport(clock) { _, _ in throw AgentError(.connection, "Connection refused") }
    var settings = AgentSettings()
    settings.nannyDelay = .seconds(600)
    let ends = Mutex(0)
    let nanny = NannyThread(
      nanny: Nanny(longestSilence: settings.longestSilence, memoryLimit: nil), reasonPath: "/nonexistent/x",
      log: log.logger, clock: clock, memory: { 0 }, restart: { ends.withLock { $0 += 1 } },
      end: { ends.withLock { $0 += 1 } })
    let link = link(["https://a/", "https://b/", "https://c/"], transport, nanny.pulse)
    let loops = [post(link), post(link, "reader")]
    let checks = Mutex(clock.now)
    await pass(.seconds(900)) { now in
      // The waits are cut so finely that the nanny's looks lie between them.
      while checks.withLock({ $0 }) + Nanny.period <= now {
        nanny.check(
          at: checks.withLock {
            $0 = $0 + Nanny.period
            return $0
          })
      }
    }
    for loop in loops { loop.cancel() }
    XCTAssertEqual(ends.withLock { $0 }, 0)
    let rounds = Set(transport.calls.map(\.at)).count
    XCTAssertEqual(transport.calls.count, rounds * 3, "three servers in each round")
    XCTAssertTrue((10...16).contains(rounds), "\(rounds) rounds")
    XCTAssertEqual(Set(transport.calls.map(\.url)).count, 3)
  }

  /// A loop that never comes back is started anew; if that does not help the process ends.
  func testALoopThatIsStuckIsStartedAnew() async throws {
    let directory = try TemporaryDirectory()
    let deployment = try TestDeployment.shared.get()
    var settings = deployment.settings(["https://a/"], in: directory)
    settings.nannyDelay = .seconds(600)
    let readers = Mutex(0)
    let stuck = expectation(description: "a reader is stuck")
    let again = expectation(description: "another reader runs")
    let pem = Array(deployment.serverPEM.utf8)
    let transport = ScriptedTransport(clock) { request, _ in
      guard request.handler == "reader" else {
        return TransportAnswer(status: 200, body: request.body == nil ? pem : [])
      }
      let number = readers.withLock { count in
        count += 1
        return count
      }
      if number == 1 {
        stuck.fulfill()
        // Nothing resumes this, and cancelling does not help.
        await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
      }
      if number == 2 { again.fulfill() }
      try await Task.sleep(for: .seconds(3600))
      throw CancellationError()
    }
    var parts = Agent.Parts(transport: transport)
    parts.clock = clock
    let agent = try Agent(settings: settings, engine: { _ in FakeEngine() }, parts: parts, log: log.logger)
    let running = Task { try await agent.run() }
    // The look-up of the host's facts may take its time or not.
    let opener = Task { [clock] in
      while !Task.isCancelled {
        let next = await clock.nextDeadline()
        if next <= clock.start + .seconds(2) { clock.advance(to: next) } else { return }
      }
    }
    await fulfillment(of: [stuck], timeout: patience)
    opener.cancel()
    clock.advance(to: clock.now + .seconds(700))
    agent.nanny.check(at: clock.now)
    await fulfillment(of: [again], timeout: patience)
    XCTAssertTrue(log.contains("the reader loop was silent for"))
    XCTAssertTrue(log.contains("Starting the reader and the sender anew"))
    agent.nanny.check(at: clock.now + .seconds(10))
    XCTAssertFalse(log.contains("status 255"))
    agent.stop()
    let end = try await running.value
    XCTAssertEqual(end, .stopped)
  }
}
