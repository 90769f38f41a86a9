import Foundation
import NIOSSL
import PKI
import PublicIdentity
import Synchronization
import Wire
import XCTest

@testable import AgentCore

/// The whole agent against scripted servers, with real envelopes and TLS.
final class AgentDialogueTests: AgentCase {
  /// from nothing to delivered rows.
  func testFirstContactEnrollmentAndAFlow() async throws {
    let directory = try TemporaryDirectory()
    let frontend = FakeFrontend(try deployment())
    let server = try await server(frontend)
    try frontend.queue(Make.flow("F.1", [Make.collector(["rows 3"])]))
    let agent = try start(try deployment().settings([server.url], in: directory))
    await fulfillment(of: [frontend.completion(of: "F.1")], timeout: patience)
    XCTAssertTrue(frontend.jobs.contains { $0.sessionID == "E.Foreman" && $0.hasForemanCheckin })
    let info = frontend.jobs.first { $0.vqlresponse.query.name == "Server.Internal.ClientInfo" }
    XCTAssertEqual(info?.sessionID, "F.Monitoring")
    XCTAssertTrue(info?.vqlresponse.jsonlresponse.contains("\"hostname\"") == true)
    XCTAssertEqual(
      frontend.jobs.filter { $0.sessionID == "F.1" && $0.hasVqlresponse }.map(\.vqlresponse.jsonlresponse),
      ["{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n"])
    for line in [
      "Received PEM for VelociraptorServer from \(server.url)", "Enrolling", "Sending CSR for \(agent.clientID)",
      "Running flow F.1", "Flow F.1 is complete",
    ] { XCTAssertTrue(log.contains(line), line) }
    XCTAssertFalse(log.all.joined().contains(TestDeployment.nonce), "the nonce is not logged")
    let csr = server.requests.filter { $0.headers["X-Priority"] == ["urgent"] }
    XCTAssertEqual(csr.count, 1)
    XCTAssertTrue(csr.allSatisfy { $0.uri == "/control" })
    XCTAssertEqual(server.requests.first?.uri, "/server.pem")
  }

  /// a server that always says 406 gets one CSR.
  func testEndless406GetsOneRequestForACertificate() async throws {
    let directory = try TemporaryDirectory()
    let frontend = FakeFrontend(try deployment())
    let many = expectation(description: "many rounds")
    frontend.script { request, number in
      if number == 12 { many.fulfill() }
      return request.uri.hasSuffix("server.pem") ? nil : .answer(406)
    }
    let server = try await server(frontend)
    try start(try deployment().settings([server.url], in: directory))
    // The limiter allows ten rounds at once.
    await fulfillment(of: [many], timeout: patience)
    XCTAssertEqual(server.requests.filter { $0.headers["X-Priority"] == ["urgent"] }.count, 1)
  }

  func testOnceEnrollsRunsDeliversAndLeaves() async throws {
    let directory = try TemporaryDirectory()
    let frontend = FakeFrontend(try deployment())
    let server = try await server(frontend)
    try frontend.queue(Make.flow("F.1", [Make.collector(["rows 3"])]))
    let agent = try agent(try deployment().settings([server.url], in: directory))
    let end = try await agent.run(once: true)
    XCTAssertEqual(end, .done)
    XCTAssertTrue(frontend.jobs.contains { $0.sessionID == "F.1" && $0.flowStats.flowComplete })
  }

  func testOnceFailsWhenNobodyIsThere() async throws {
    let directory = try TemporaryDirectory()
    let server = try await server(FakeFrontend(try deployment()))
    await server.stop()
    let agent = try agent(try deployment().settings([server.url], in: directory))
    do {
      _ = try await agent.run(once: true)
      XCTFail("it must fail")
    } catch {
      XCTAssertTrue("\(error)".contains("no server could be reached"), "\(error)")
    }
  }

  // MARK: several servers

  func testAnotherServerTakesOverWithoutANewSessionOrEnrollment() async throws {
    let directory = try TemporaryDirectory()
    let deployment = try deployment()
    let first = FakeFrontend(deployment)
    let one = try await server(first)
    let two = try await server(first)
    try start(deployment.settings([one.url, two.url], in: directory))
    try first.queue(Make.flow("F.1", [Make.collector(["rows 1"])]))
    await fulfillment(of: [first.completion(of: "F.1")], timeout: patience)
    let sessions = first.sessionCount
    // Whichever it uses dies.
    let used = one.count("reader") > 0 ? one : two
    await used.stop()
    try first.queue(Make.flow("F.2", [Make.collector(["rows 1"])]))
    await fulfillment(of: [first.completion(of: "F.2")], timeout: patience)
    XCTAssertEqual(first.sessionCount, sessions, "the same key: no new RSA work")
    XCTAssertTrue(log.contains("next"))
  }

  /// no POST goes to a server whose server.pem is not ours.
  func testWrongServerPEMsAreRefused() async throws {
    let deployment = try deployment()
    let other = try CertificateAuthority.create(now: Date())
    let key = deployment.serverKey.publicKey
    let past = Date(timeIntervalSinceNow: -400 * 86_400)
    let cases: [(String, String)] = [
      ("<html>Please log in</html>", "Unable to parse PEM"),
      (try other.issueMessageCertificate(for: key, now: Date()).pem, "not trusted"),
      (try deployment.authority.issueMessageCertificate(for: key, name: "GRPC_GW", now: Date()).pem, "common name"),
      (try deployment.authority.issueMessageCertificate(for: key, now: past).pem, "not trusted"),
      (deployment.leafPEM, "Not RSA algorithm"),
    ]
    for (pem, reason) in cases {
      let directory = try TemporaryDirectory()
      let bad = FakeFrontend(deployment)
      let badServer = try await server(bad)
      bad.script { request, _ in
        request.uri.hasSuffix("server.pem") ? .answer(200, body: Array(pem.utf8)) : nil
      }
      let good = FakeFrontend(deployment)
      let goodServer = try await server(good)
      try good.queue(Make.flow("F.1", [Make.collector(["rows 1"])]))
      // The bad one is tried as soon as the good one fails, and left.
      let refused = expectation(description: reason)
      refused.assertForOverFulfill = false
      good.script { request, number in
        if badServer.count("server.pem") > 0 { refused.fulfill() }
        return number % 3 == 2 ? .cut([]) : nil
      }
      try start(deployment.settings([badServer.url, goodServer.url], in: directory))
      await fulfillment(of: [good.completion(of: "F.1"), refused], timeout: patience)
      XCTAssertEqual(badServer.count("reader") + badServer.count("control"), 0, reason)
      XCTAssertTrue(log.contains(reason), "\(reason) in \(log.all)")
      await stopAll()
    }
  }

  /// after 403 server.pem is fetched again and a new session made; nothing is lost.
  func testAfter403ANewSessionIsUsed() async throws {
    let directory = try TemporaryDirectory()
    let frontend = FakeFrontend(try deployment())
    let refused = Mutex(false)
    frontend.script { request, _ in
      guard frontend.isEnrolled, request.uri.hasSuffix("control"), request.headers["X-Priority"].isEmpty else {
        return nil
      }
      return refused.withLock { done in
        defer { done = true }
        return done ? nil : .answer(403)
      }
    }
    let server = try await server(frontend)
    try frontend.queue(Make.flow("F.1", [Make.collector(["rows 1"])]))
    try start(try deployment().settings([server.url], in: directory))
    await fulfillment(of: [frontend.completion(of: "F.1")], timeout: patience)
    XCTAssertEqual(frontend.sessionCount, 2)
    XCTAssertGreaterThanOrEqual(server.count("server.pem"), 2)
  }

  ///
  func testARedirectIsFollowedWithItsMark() async throws {
    let directory = try TemporaryDirectory()
    let deployment = try deployment()
    let target = FakeFrontend(deployment)
    let second = try await server(target)
    let url = second.url
    let pointer = FakeFrontend(deployment)
    pointer.script { request, _ in
      request.method == "POST" ? .answer(301, headers: [("Location", url)]) : nil
    }
    let first = try await server(pointer)
    try target.queue(Make.flow("F.1", [Make.collector(["rows 1"])]))
    try start(deployment.settings([first.url], in: directory))
    await fulfillment(of: [target.completion(of: "F.1")], timeout: patience)
    XCTAssertEqual(second.requests.first?.uri.hasPrefix("/server.pem"), true)
    XCTAssertTrue(second.requests.filter { $0.method == "POST" }.allSatisfy { $0.uri.hasSuffix("?r=1") })
  }

  // MARK: nothing is lost

  /// Answers of servers, proxies and captive portals that acknowledge nothing: the rows come, and once.
  func testRowsSurviveEveryAnswerThatIsNotAnAcknowledgement() async throws {
    let deployment = try deployment()
    let answers: [(String, ScriptedServer.Reply)] = [
      ("406", .answer(406)), ("503", .answer(503)),
      ("503 with Retry-After", .answer(503, headers: [("Retry-After", "0")])),
      ("408", .answer(408)), ("404", .answer(404)), ("409", .answer(409)), ("500", .answer(500)), ("302", .answer(302)),
      ("400", .answer(400)), ("413", .answer(413)), ("empty", .answer(200)), ("only pads", .chunks([[0x5a, 1, 0]])),
      ("portal", .answer(200, body: Array("<html>log in</html>".utf8))), ("cut head", .cut([])),
      ("cut in pads", .cut([0x5a, 1, 0])), ("closed", .close),
    ]
    for (name, reply) in answers {
      let directory = try TemporaryDirectory()
      let frontend = FakeFrontend(deployment)
      let left = Mutex(2)
      frontend.script { request, _ in
        guard frontend.isEnrolled, request.uri.hasSuffix("control"), request.headers["X-Priority"].isEmpty else {
          return nil
        }
        return left.withLock { left in
          left -= 1
          return left >= 0 ? reply : nil
        }
      }
      let server = try await server(frontend, tls: false)
      try frontend.queue(Make.flow("F.1", [Make.collector(["rows 3"])]))
      try start(deployment.settings([server.url], in: directory))
      await fulfillment(of: [frontend.completion(of: "F.1")], timeout: patience)
      let rows = frontend.jobs.filter { $0.sessionID == "F.1" && $0.hasVqlresponse }
      XCTAssertEqual(rows.map(\.vqlresponse.totalRows), [3], name)
      await stopAll()
    }
  }

  /// A body that was stored although its answer was cut is sent again as the same lists.
  func testAResentBodyHasTheSameListsInANewEnvelope() async throws {
    let directory = try TemporaryDirectory()
    let frontend = FakeFrontend(try deployment())
    let bodies = Mutex<[[UInt8]]>([])
    frontend.script { request, _ in
      guard frontend.isEnrolled, request.uri.hasSuffix("control"), request.headers["X-Priority"].isEmpty else {
        return nil
      }
      return bodies.withLock { bodies in
        bodies.append(request.body)
        return bodies.count < 3 ? .cut([0x5a, 1, 0]) : nil
      }
    }
    let server = try await server(frontend)
    try frontend.queue(Make.flow("F.1", [Make.collector(["rows 3"])]))
    try start(try deployment().settings([server.url], in: directory))
    await fulfillment(of: [frontend.completion(of: "F.1")], timeout: patience)
    let sent = bodies.withLock { $0 }
    XCTAssertNotEqual(sent[0], sent[1])
    XCTAssertEqual(sent[0].count, sent[1].count)
    XCTAssertEqual(sent[1].count, sent[2].count)
  }

  /// A-37 and more: results wait on disk for the next process.
  func testUnsentResultsSurviveTheProcess() async throws {
    let directory = try TemporaryDirectory()
    let deployment = try deployment()
    let frontend = FakeFrontend(deployment)
    let refused = expectation(description: "results were refused")
    refused.assertForOverFulfill = false
    let isOpen = Mutex(false)
    frontend.script { request, _ in
      guard frontend.isEnrolled, request.uri.hasSuffix("control"), request.headers["X-Priority"].isEmpty,
        !isOpen.withLock({ $0 })
      else { return nil }
      refused.fulfill()
      return .close
    }
    let server = try await server(frontend)
    try frontend.queue(Make.flow("F.1", [Make.collector(["rows 3"])]))
    let settings = deployment.settings([server.url], in: directory)
    let first = try start(settings)
    await fulfillment(of: [refused], timeout: patience)
    await stopAll()
    isOpen.withLock { $0 = true }
    let second = try start(settings)
    XCTAssertEqual(first.clientID, second.clientID)
    await fulfillment(of: [frontend.completion(of: "F.1")], timeout: patience)
    let rows = frontend.jobs.filter { $0.sessionID == "F.1" && $0.hasVqlresponse }
    XCTAssertEqual(rows.map(\.vqlresponse.totalRows), [3])
  }

  func testAnItemThatIsRefusedForGoodIsSetAsideAndTheRestPasses() async throws {
    let directory = try TemporaryDirectory()
    let deployment = try deployment()
    let frontend = FakeFrontend(deployment)
    let server = try await server(frontend)
    var settings = deployment.settings([server.url], in: directory)
    settings.maxUploadSize = 20_000
    let agent = try start(settings)
    let ready = frontend.completion(of: "F.0")
    try frontend.queue(Make.flow("F.0", [Make.collector(["rows 1"])]))
    await fulfillment(of: [ready], timeout: patience)
    // Bodies with the large part are longer than the rest can be.
    frontend.script { request, _ in
      request.uri.hasSuffix("control") && request.body.count > 12_000 ? .answer(413) : nil
    }
    try frontend.queue(Make.flow("F.1", [Make.collector(["noise 40000", "rows 1"])]))
    await fulfillment(of: [frontend.completion(of: "F.1")], timeout: patience)
    XCTAssertTrue(log.contains("set aside in"))
    XCTAssertTrue(FileManager.default.fileExists(atPath: directory.file("queue.bin.dead-letters")))
    XCTAssertTrue(frontend.jobs.contains { $0.sessionID == "F.1" && $0.vqlresponse.totalRows == 1 })
    _ = agent
  }

  // MARK: trust

  /// C-23, C-24: nothing of an envelope that is not the server's is executed.
  func testForgedAnswersAreNotExecuted() async throws {
    let directory = try TemporaryDirectory()
    let deployment = try deployment()
    let frontend = FakeFrontend(deployment)
    let stranger = try RSAPrivateKey.generate()
    let forged = Mutex(0)
    frontend.script { request, _ in
      guard frontend.isEnrolled, request.uri.hasSuffix("reader") else { return nil }
      let number = forged.withLock { number in
        number += 1
        return number
      }
      let task = Make.flow("F.forged", [Make.collector(["rows 1"])])
      let body: [UInt8]? =
        switch number {
        case 1: try? frontend.seal([task], nonce: "another")
        case 2: try? frontend.seal([task], key: stranger)
        case 3: try? frontend.seal([task], name: "GRPC_GW")
        default: nil
        }
      return body.map { .chunks([$0]) }
    }
    let server = try await server(frontend)
    try frontend.queue(Make.flow("F.1", [Make.collector(["rows 1"])]))
    try start(deployment.settings([server.url], in: directory))
    await fulfillment(of: [frontend.completion(of: "F.1")], timeout: patience)
    XCTAssertGreaterThan(forged.withLock { $0 }, 3)
    XCTAssertFalse(frontend.jobs.contains { $0.sessionID == "F.forged" })
    XCTAssertFalse(log.contains("Running flow F.forged"))
    XCTAssertTrue(log.contains("not an answer of our server"))
  }

  /// W-2: pads before the envelope, in both forms.
  func testPadsBeforeAnAnswerAreSkipped() async throws {
    let directory = try TemporaryDirectory()
    let frontend = FakeFrontend(try deployment())
    let once = Mutex(false)
    frontend.script { request, _ in
      guard frontend.isEnrolled, request.uri.hasSuffix("reader"),
        let body = try? frontend.seal([Make.flow("F.1", [Make.collector(["rows 1"])])])
      else { return nil }
      return once.withLock { done in
        defer { done = true }
        return done ? nil : .chunks([[0x5a, 1, 0], [0x58, 0], [0x5a, 1, 0], body])
      }
    }
    let server = try await server(frontend)
    try start(try deployment().settings([server.url], in: directory))
    await fulfillment(of: [frontend.completion(of: "F.1")], timeout: patience)
  }

  ///
  func testKillEndsTheProcessLater() async throws {
    let directory = try TemporaryDirectory()
    let frontend = FakeFrontend(try deployment())
    let server = try await server(frontend)
    var kill = Proto_VeloMessage()
    kill.sessionID = "F.Monitoring"
    kill.killKillKill = Proto_Cancel()
    try frontend.queue(kill)
    let agent = try agent(try deployment().settings([server.url], in: directory)) {
      $0.restartDelay = .milliseconds(10)
    }
    let end = try await agent.run()
    XCTAssertEqual(end, .restart)
  }

  /// the table is saved and runs again before any contact.
  func testAnEventTableIsRestoredAtStart() async throws {
    let directory = try TemporaryDirectory()
    let deployment = try deployment()
    let frontend = FakeFrontend(deployment)
    let server = try await server(frontend)
    var update = Proto_VeloMessage()
    update.sessionID = "F.Monitoring"
    update.updateEventTable = .with {
      $0.version = 9
      $0.event = [Make.collector(["rows 2"], name: "Event.One")]
    }
    try frontend.queue(update)
    let settings = deployment.settings([server.url], in: directory)
    try start(settings)
    let rows: @Sendable ([Proto_VeloMessage]) -> Int = { jobs in
      jobs.filter { $0.vqlresponse.query.name == "Event.One" }.count
    }
    await fulfillment(of: [frontend.expectation("rows") { rows($0) >= 1 }], timeout: patience)
    await stopAll()
    // An agent that was stopped before the acknowledgement came sends its rows again, perhaps together with new ones.
    let before = rows(frontend.jobs)
    let engine = FakeEngine()
    try start(settings, engine: engine)
    let again = frontend.expectation("rows again") { rows($0) > before }
    let version = frontend.expectation("version") { jobs in
      jobs.contains { $0.foremanCheckin.lastEventTableVersion == 9 }
    }
    await fulfillment(of: [again, version, engine.firstStart], timeout: patience)
  }

  func testWhatCannotBeUsedIsSaidAtStart() throws {
    let directory = try TemporaryDirectory()
    let deployment = try deployment()
    for (urls, text) in [
      ([], "server_urls is empty"), (["ftp://x/"], "is not like https://"), (["https://x"], "must end in /"),
    ] {
      XCTAssertThrowsError(try agent(deployment.settings(urls, in: directory))) {
        XCTAssertTrue("\($0)".contains(text), "\($0)")
      }
    }
  }
}
