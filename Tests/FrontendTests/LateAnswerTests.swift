import NIOCore
import NIOEmbedded
import NIOHTTP1
import Synchronization
import XCTest

@testable import frontend

/// H-5: an answer whose outcome takes long.
final class LateAnswerTests: XCTestCase {
  /// Notes what is said, on a loop whose time a test moves.
  private final class Recorder: Exchange {
    let userAgent = ""
    let remoteAddress = ""
    let loop = EmbeddedEventLoop()
    let connection: Connection
    let staysOpen = false
    let said = Mutex<[String]>([])
    var eventLoop: any EventLoop { loop }

    init() { connection = Connection(channel: EmbeddedChannel(loop: loop)) }

    private func note(_ text: String) { said.withLock { $0.append(text) } }
    func respond(_ status: HTTPResponseStatus, bytes: [UInt8], headers: [(String, String)]) { note("\(status.code)") }
    func respond(_ status: HTTPResponseStatus, text: String?, headers: [(String, String)]) { note("\(status.code)") }
    func complete(_ bytes: [UInt8]) { note("whole") }
    func startStream() { note("head") }
    func writePad() { note("pad") }
    func deliver(_ bytes: [UInt8], written: @escaping @Sendable (Bool) -> Void) {}
    func finish(_ bytes: [UInt8], written: (@Sendable (Bool) -> Void)?) { note("end") }
    func abort() { note("cut") }
    func onClose(_ callback: @escaping @Sendable () -> Void) {}

    func take() -> [String] {
      said.withLock { said in
        defer { said = [] }
        return said
      }
    }
  }

  private func answer(_ recorder: Recorder, _ expired: Counted = Counted()) -> LateAnswer {
    LateAnswer(exchange: recorder, interval: .seconds(3), limit: .seconds(12)) { expired.add() }
  }

  private final class Counted: Sendable {
    private let value = Mutex(0)
    func add() { value.withLock { $0 += 1 } }
    var count: Int { value.withLock { $0 } }
  }

  func testASoonAnswerIsWrittenWhole() {
    let recorder = Recorder()
    answer(recorder).succeed([1])
    recorder.loop.advanceTime(by: .seconds(60))
    XCTAssertEqual(recorder.take(), ["whole"])
  }

  func testASlowAnswerBeginsAndIsPadded() {
    let recorder = Recorder()
    let answer = answer(recorder)
    recorder.loop.advanceTime(by: .seconds(2))
    XCTAssertEqual(recorder.take(), [])
    recorder.loop.advanceTime(by: .seconds(1))
    XCTAssertEqual(recorder.take(), ["head", "pad"])
    recorder.loop.advanceTime(by: .seconds(6))
    XCTAssertEqual(recorder.take(), ["pad", "pad"])
    answer.succeed([1])
    recorder.loop.advanceTime(by: .seconds(60))
    XCTAssertEqual(recorder.take(), ["end"])
  }

  func testFailureIsToldByStatusOrByACut() {
    let soon = Recorder()
    XCTAssertTrue(answer(soon).fail(.serviceUnavailable, text: ""))
    XCTAssertEqual(soon.take(), ["503"])
    let late = Recorder()
    let answer = answer(late)
    late.loop.advanceTime(by: .seconds(3))
    XCTAssertFalse(answer.fail(.serviceUnavailable, text: ""))
    XCTAssertEqual(late.take(), ["head", "pad", "cut"])
  }

  /// Processing has its own deadline; what is known after it changes nothing any more.
  func testTooLateIsACut() {
    let recorder = Recorder()
    let expired = Counted()
    let answer = answer(recorder, expired)
    recorder.loop.advanceTime(by: .seconds(60))
    XCTAssertEqual(recorder.take(), ["head", "pad", "pad", "pad", "pad", "cut"])
    XCTAssertEqual(expired.count, 1)
    answer.succeed([1])
    XCTAssertTrue(answer.fail(.serviceUnavailable, text: ""))
    recorder.loop.advanceTime(by: .seconds(60))
    XCTAssertEqual(recorder.take(), [])
  }
}
