import WorkerLink
import XCTest

final class RoutingTests: XCTestCase {
  /// The reference values of the SipHash-2-4 paper's key 00…0f.
  func testSipHashReferenceValues() {
    let hash = SipHash(key: [UInt8](0..<16))
    XCTAssertEqual(hash.hash([UInt8]()), 0x726f_db47_dd0e_0e31)
    XCTAssertEqual(hash.hash([UInt8](0..<1)), 0x74f8_39c5_93dc_67fd)
    XCTAssertEqual(hash.hash([UInt8](0..<8)), 0x93f5_f579_9a93_2462)
    XCTAssertEqual(hash.hash([UInt8](0..<15)), 0xa129_ca61_49be_45e5)
  }

  func testSessionsSpreadEvenlyAndOnlyAShareMoves() {
    let routing = Rendezvous(secret: [UInt8](0..<32))
    let workers = (0..<4).map { "ipc:///run/worker-\($0).sock" }
    var counts: [String: Int] = [:]
    var moved = 0
    for key in 0..<4_000 {
      let bytes = (0..<4).map { UInt8(truncatingIfNeeded: key >> (8 * $0)) }
      let order = routing.order(bytes, workers)
      counts[order[0], default: 0] += 1
      // The workers' own order in the file must not matter.
      XCTAssertEqual(order, routing.order(bytes, workers.reversed()))
      let rest = routing.order(bytes, workers.dropLast())
      if order[0] == workers[3] { XCTAssertEqual(rest[0], order[1]) }
      if rest[0] != order[0] { moved += 1 }
    }
    for (_, count) in counts { XCTAssertTrue((800...1_200).contains(count), "\(counts)") }
    XCTAssertEqual(moved, counts[workers[3]])
  }

  func testAnotherSecretIsAnotherOrder() {
    let workers = (0..<8).map { "w\($0)" }
    let first = Rendezvous(secret: [1]).order([7], workers)
    let orders = (2..<20).map { Rendezvous(secret: [UInt8($0)]).order([7], workers) }
    XCTAssertTrue(orders.contains { $0 != first })
  }
}
