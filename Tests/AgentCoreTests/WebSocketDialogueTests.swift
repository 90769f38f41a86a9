import NIOCore
import NIOWebSocket
import XCTest

@testable import AgentCore

/// The agent's end of a websocket as a dialogue (http.md §7).
final class WebSocketDialogueTests: XCTestCase {
  private func frame(_ text: String, _ opcode: WebSocketOpcode = .binary) -> WebSocketDialogue.Input {
    .frame(WebSocketFrame(fin: true, opcode: opcode, data: ByteBuffer(string: text)))
  }

  private func close(_ code: UInt16) -> WebSocketDialogue.Input {
    .frame(WebSocketFrame(fin: true, opcode: .connectionClose, data: ByteBuffer(integer: code)))
  }

  private func message(_ status: Int, _ body: [UInt8] = []) -> WebSocketDialogue.Action {
    .answer(TransportAnswer(status: status, body: body, isMessage: true))
  }

  func testOneFrameIsARequestAndTheNextMessageItsAnswer() {
    var dialogue = WebSocketDialogue(isReader: false)
    XCTAssertEqual(dialogue.handle(.request([1, 2])), [.send([1, 2])])
    XCTAssertEqual(dialogue.handle(frame("{\"code\":200}")), [message(200)])
    XCTAssertEqual(dialogue.handle(.request([3])), [.send([3])])
    XCTAssertEqual(dialogue.handle(frame("{\"code\":200,\"data\":\"AQI=\"}", .text)), [message(200, [1, 2])])
  }

  func testAnyOtherCodeClosesTheConnection() {
    for code in [400, 403, 406, 409, 503] {
      var dialogue = WebSocketDialogue(isReader: true)
      _ = dialogue.handle(.request([1]))
      let answer = message(code, Array("no".utf8))
      XCTAssertEqual(dialogue.handle(frame("{\"code\":\(code),\"err\":\"no\"}")), [answer, .close(.goingAway)])
      XCTAssertEqual(
        dialogue.handle(.request([1])), [.broken("the websocket was closed before the request", beforeResponse: true)])
    }
  }

  func testAReaderIsHandedWhatCameBetweenItsPolls() {
    var dialogue = WebSocketDialogue(isReader: true)
    _ = dialogue.handle(.request([1]))
    XCTAssertEqual(dialogue.handle(frame("{\"code\":200,\"data\":\"AQ==\"}")), [message(200, [1])])
    XCTAssertEqual(dialogue.handle(frame("{\"code\":200,\"data\":\"Ag==\"}")), [])
    XCTAssertEqual(dialogue.handle(frame("{\"code\":200,\"data\":\"Aw==\"}")), [])
    XCTAssertEqual(dialogue.handle(.request([9])), [message(200, [2])])
    XCTAssertEqual(dialogue.handle(.request([9])), [message(200, [3])])
    XCTAssertEqual(dialogue.handle(.request([9])), [.send([9])])
  }

  /// An answer that nobody asked for must not count for the next body.
  func testASenderTakesNoAnswerInAdvance() {
    var dialogue = WebSocketDialogue(isReader: false)
    XCTAssertEqual(dialogue.handle(frame("{\"code\":200}")), [.close(.protocolError)])
    XCTAssertEqual(
      dialogue.handle(.request([1])), [.broken("the websocket was closed before the request", beforeResponse: true)])
  }

  func testPingsAreAnsweredAndAreALifeSign() {
    var dialogue = WebSocketDialogue(isReader: false)
    XCTAssertEqual(dialogue.handle(frame("hi", .ping)), [.pong(ByteBuffer(string: "hi"))])
    XCTAssertEqual(dialogue.handle(frame("", .pong)), [])
    _ = dialogue.handle(.request([1]))
    _ = dialogue.handle(frame("", .ping))
    XCTAssertEqual(
      dialogue.handle(.closed),
      [.broken("the websocket was closed without a word", beforeResponse: false), .close(nil)])
  }

  func testAConnectionThatDiedIdleIsTriedOnAnotherOne() {
    var dialogue = WebSocketDialogue(isReader: false)
    _ = dialogue.handle(.request([1]))
    XCTAssertEqual(
      dialogue.handle(.failed("reset")), [.broken("reset", beforeResponse: true), .close(nil)])
    var reader = WebSocketDialogue(isReader: true)
    _ = reader.handle(.request([1]))
    XCTAssertEqual(reader.handle(.failed("reset")), [.broken("reset", beforeResponse: false), .close(nil)])
  }

  func testTooLongIsSaidBeforeAndAfterSending() {
    var dialogue = WebSocketDialogue(isReader: false)
    let long = [UInt8](repeating: 0, count: WebSocketDialogue.requestLimit + 1)
    XCTAssertEqual(dialogue.handle(.request(long)), [message(413)])
    XCTAssertEqual(dialogue.handle(.request([1])), [.send([1])])
    XCTAssertEqual(dialogue.handle(close(1009)), [message(413), .close(nil)])
  }

  func testWhatEndsAConnection() {
    let cases: [(WebSocketDialogue.Input, String)] = [
      (frame("no JSON"), "not an answer of this protocol"), (frame("{\"code\":200,\"data\":\"%\"}"), "not an answer"),
      (close(1001), "closed the websocket (1001)"), (.silent, "was not heard"), (.timedOut, "no answer in time"),
      (.cancelled, "cancelled"), (frame("", WebSocketOpcode(encodedWebSocketOpcode: 5) ?? .pong), "websocket protocol"),
      (
        .frame(WebSocketFrame(fin: true, opcode: .binary, maskKey: [1, 2, 3, 4], data: ByteBuffer())),
        "websocket protocol"
      ),
    ]
    for (input, text) in cases {
      var dialogue = WebSocketDialogue(isReader: true)
      _ = dialogue.handle(.request([1]))
      guard case .broken(let reason, beforeResponse: false)? = dialogue.handle(input).first else {
        XCTFail(text)
        continue
      }
      XCTAssertTrue(reason.contains(text), reason)
    }
  }

  func testAbsentMembersMeanNothing() {
    XCTAssertEqual(WebSocketAnswer.answer(from: ByteBuffer(string: "{}"))?.status, 0)
    XCTAssertEqual(WebSocketAnswer.answer(from: ByteBuffer(string: "{\"code\":200,\"err\":null}"))?.body, [])
    XCTAssertNil(WebSocketAnswer.answer(from: ByteBuffer(string: "[]")))
  }
}
