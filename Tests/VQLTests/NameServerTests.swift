import XCTest

@testable import VQL

/// Questions to name servers, as bytes.
final class NameServerTests: XCTestCase {
  func testAQuestionIsLaidOut() {
    XCTAssertEqual(
      DNSMessage.question("a.bc", type: 1, id: 0x1234),
      [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 2, 98, 99, 0, 0, 1, 0, 1])
    XCTAssertNil(DNSMessage.question("", type: 1, id: 1))
    XCTAssertNil(DNSMessage.question(String(repeating: "a", count: 64), type: 1, id: 1))
  }

  private func answer(_ question: [UInt8], code: UInt8 = 0, type: UInt8, _ data: [UInt8]) -> [UInt8] {
    var bytes = question
    bytes[2] = 0x81
    bytes[3] = 0x80 | code
    bytes[7] = 1
    return bytes + [0xC0, 12, 0, type, 0, 1, 0, 0, 0, 60, 0, UInt8(data.count)] + data
  }

  func testAnswersAreRead() throws {
    let question = try XCTUnwrap(DNSMessage.question("a.bc", type: 1, id: 7))
    XCTAssertEqual(try DNSMessage.answers(answer(question, type: 1, [1, 2, 3, 4]), to: question, type: 1), ["1.2.3.4"])
    XCTAssertEqual(
      try DNSMessage.answers(answer(question, type: 16, [2, 104, 105, 1, 33]), to: question, type: 16), ["hi!"])
    XCTAssertEqual(
      try DNSMessage.answers(answer(question, type: 15, [0, 10, 2, 109, 120, 0xC0, 12]), to: question, type: 15),
      ["mx.a.bc."])
    XCTAssertEqual(try DNSMessage.answers(answer(question, type: 16, [1, 33]), to: question, type: 1), [])
  }

  func testWhatIsNoAnswerIsPassedOver() throws {
    let question = try XCTUnwrap(DNSMessage.question("a.bc", type: 1, id: 7))
    XCTAssertNil(try DNSMessage.answers([1, 2, 3], to: question, type: 1))
    var other = answer(question, type: 1, [1, 2, 3, 4])
    other[1] = 9
    XCTAssertNil(try DNSMessage.answers(other, to: question, type: 1))
    XCTAssertThrowsError(try DNSMessage.answers(answer(question, code: 3, type: 1, []), to: question, type: 1))
    // A name that refers to itself.
    var loop = answer(question, type: 5, [0xC0, 34])
    loop[loop.count - 1] = UInt8(loop.count - 2)
    XCTAssertEqual(try DNSMessage.answers(loop, to: question, type: 5), [])
  }

  func testAddressesAreAskedForBackwards() throws {
    XCTAssertEqual(DNSMessage.reverseName(try XCTUnwrap(IPAddress(text: "1.2.3.4"))), "4.3.2.1.in-addr.arpa")
    XCTAssertTrue(DNSMessage.reverseName(try XCTUnwrap(IPAddress(text: "::1"))).hasPrefix("1.0.0.0."))
  }
}
