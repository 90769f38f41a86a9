import WorkerLink
import XCTest

final class FrameTests: XCTestCase {
  private let requests: [WorkerRequest] = [
    .open(body: [1, 2, 3], acknowledge: true),
    .open(body: [], acknowledge: false),
    .confirm(body: [1], publicKey: [9, 9], acknowledge: true),
    .unenrolled(body: [5]),
    .seal(routingKey: [1, 2], source: "C.0123456789abcdef-OABCD", publicKey: [3], list: [4]),
    .forget(source: "C.0123456789abcdef"),
    .health,
  ]

  private var replies: [WorkerReply] {
    let body = OpenedBody(
      source: "C.0123456789abcdef", apiVersion: 4, timestamp: 17, compressed: true, lists: [[1], [], [2, 3]],
      acknowledgement: [7])
    return [
      .opened(body), .unverified(source: "C.0123456789abcdef"), .unauthenticated(body), .sealed(body: [1]), .needKey,
      .rejected(reason: 3), .overloaded, .done,
      .health(
        WorkerHealth(
          name: "w", draining: true, coldDepth: 1, coldLimit: 2, sessions: 3, sessionLimit: 4,
          rsaPrivateOperations: 5, opened: 6, rejected: 7)),
    ]
  }

  func testRoundTrips() throws {
    for (index, request) in requests.enumerated() {
      let id = UInt64(index) << 40 | 3
      let (header, parsed) = try WorkerRequest.parse(request.frames(id: id, milliseconds: 1234))
      XCTAssertEqual(parsed, request)
      XCTAssertEqual(header, FrameHeader(kind: request.kind, id: id, milliseconds: 1234))
    }
    for reply in replies {
      let (header, parsed) = try WorkerReply.parse(reply.frames(id: .max))
      XCTAssertEqual(parsed, reply)
      XCTAssertEqual(header.id, .max)
    }
  }

  func testDamagedMessagesAreRefused() {
    XCTAssertThrowsError(try WorkerRequest.parse([]))
    XCTAssertThrowsError(try WorkerRequest.parse([Array("GET / HTTP/1.1\r\n".utf8)])) {
      XCTAssertEqual($0 as? FrameError, .notOurs)
    }
    var other = WorkerRequest.health.frames(id: 1, milliseconds: 0)
    other[0][2] = 9
    XCTAssertThrowsError(try WorkerRequest.parse(other)) { XCTAssertEqual($0 as? FrameError, .version(9)) }
    XCTAssertThrowsError(try WorkerRequest.parse(WorkerReply.done.frames(id: 1)))
    XCTAssertThrowsError(try WorkerReply.parse(WorkerRequest.health.frames(id: 1, milliseconds: 0)))
  }

  /// Any bytes: an error or a request, never a crash.
  func testNoFramesCrash() {
    var generator = SystemRandomNumberGenerator()
    let samples = requests.map { $0.frames(id: 1, milliseconds: 1) } + replies.map { $0.frames(id: 1) }
    for _ in 0..<20_000 {
      var frames = samples.randomElement(using: &generator) ?? []
      let frame = Int.random(in: 0..<max(1, frames.count), using: &generator)
      switch Int.random(in: 0..<4, using: &generator) {
      case 0: frames.remove(at: frame)
      case 1: frames[frame] = Array(frames[frame].dropLast())
      case 2: frames.insert([UInt8.random(in: 0...255, using: &generator)], at: frame)
      default:
        if !frames[frame].isEmpty {
          frames[frame][Int.random(in: 0..<frames[frame].count, using: &generator)] = .random(in: 0...255)
        }
      }
      _ = try? WorkerRequest.parse(frames)
      _ = try? WorkerReply.parse(frames)
    }
  }
}
