import Wire
import XCTest

final class ZlibTests: XCTestCase {
  func testRoundTrip() throws {
    for size in [0, 1, 1000, 100_000] {
      let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
      let packed = try Zlib.deflate(bytes)
      XCTAssertEqual(Array(packed.prefix(2)), [0x78, 0x01], "the fastest level, as peers write it")
      XCTAssertEqual(try Zlib.inflate(packed, limit: 100_000), bytes)
    }
  }

  /// W-10: a bomb is refused at the limit, not after it.
  func testALimitHolds() throws {
    let bomb = try Zlib.deflate([UInt8](repeating: 0, count: 4 << 20))
    XCTAssertThrowsError(try Zlib.inflate(bomb, limit: 1 << 20)) {
      XCTAssertEqual($0 as? Zlib.Failure, .tooLarge(limit: 1 << 20))
    }
    XCTAssertEqual(try Zlib.inflate(bomb, limit: 4 << 20).count, 4 << 20)
    XCTAssertThrowsError(try Zlib.inflate(bomb, limit: (4 << 20) - 1))
  }

  func testDamagedStreams() throws {
    let packed = try Zlib.deflate((0..<5000).map { UInt8(truncatingIfNeeded: $0 &* $0) })
    XCTAssertThrowsError(try Zlib.inflate([UInt8](), limit: 10))
    for length in 0..<packed.count { XCTAssertThrowsError(try Zlib.inflate(packed.prefix(length), limit: 10_000)) }
    XCTAssertEqual(try Zlib.inflate(packed + [1, 2, 3], limit: 10_000).count, 5000, "what follows is ignored")
  }
}

final class EnvelopeScanTests: XCTestCase {
  func testLengthsAreChecked() {
    XCTAssertThrowsError(try EnvelopeScan([0x12, 0x05, 0x01]))
    XCTAssertThrowsError(try EnvelopeScan([0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]))
    XCTAssertThrowsError(try EnvelopeScan([0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]))
    XCTAssertThrowsError(try EnvelopeScan([0x00]), "field number 0")
  }

  func testTheLastValueWins() throws {
    let scan = try EnvelopeScan([0x12, 0x01, 0xaa, 0x12, 0x02, 0xbb, 0xcc])
    XCTAssertEqual(scan.encryptedCipher, 5..<7)
  }

  /// W-3: unknown fields of every wire type are stepped over.
  func testUnknownFields() throws {
    var writer = WireWriter()
    writer.field(200, 7)
    writer.field(201, bytes: [1, 2, 3])
    let fixed: [UInt8] = [0xcd, 0x0c, 1, 2, 3, 4, 0xd1, 0x0c, 1, 2, 3, 4, 5, 6, 7, 8]
    let group: [UInt8] = [0xdb, 0x0c, 0x08, 0x01, 0xdc, 0x0c]
    let scan = try EnvelopeScan(writer.bytes + fixed + group + [0x12, 0x01, 0xaa])
    XCTAssertEqual(scan.encryptedCipher.count, 1)
    XCTAssertThrowsError(try EnvelopeScan([0xdb, 0x0c, 0x08, 0x01]), "an open group")
    XCTAssertThrowsError(try EnvelopeScan([0xdc, 0x0c]), "the end of no group")
  }

  /// Protobuf takes a known field of another wire type for an unknown one.
  func testOtherWireTypesAreUnknownFields() throws {
    let scan = try EnvelopeScan([0x10, 0x07, 0x12, 0x01, 0xaa, 0x10, 0x09, 0x32, 0x01, 0x05])
    XCTAssertEqual(scan.encryptedCipher, 4..<5)
    XCTAssertEqual(scan.apiVersion, 0)
    XCTAssertTrue(try EnvelopeScan([0x10, 0x07]).isEmpty)
  }

  func testNoBytesCrash() {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<50_000 {
      let bytes = (0..<Int.random(in: 0..<40, using: &generator)).map { _ in
        UInt8.random(in: 0...255, using: &generator)
      }
      if let scan = try? EnvelopeScan(bytes) {
        for range in [scan.encrypted, scan.encryptedCipher, scan.packetIV, scan.fullHMAC] {
          XCTAssertTrue(range.upperBound <= bytes.count)
        }
      }
    }
  }
}

final class MessageListCodecTests: XCTestCase {
  func testPresentButEmptyMessagesCount() throws {
    var job = Proto_VeloMessage()
    job.sessionID = "E.Foreman"
    job.foremanCheckin = Proto_ForemanCheckin()
    let bytes = try MessageListCodec.serialize([job])
    XCTAssertEqual(bytes, [0x0a, 0x0e, 0x0a, 0x09] + Array("E.Foreman".utf8) + [0xda, 0x01, 0x00])
    XCTAssertTrue(try MessageListCodec.jobs(bytes)[0].hasForemanCheckin)
    // Stored lists are concatenable.
    XCTAssertEqual(try MessageListCodec.jobs(bytes + bytes).count, 2)
  }

  func testInvalidTextIsRefused() {
    XCTAssertThrowsError(try MessageListCodec.jobs([0x0a, 0x03, 0x0a, 0x01, 0xff]))
  }

  func testBombs() throws {
    let bomb = try Zlib.deflate([UInt8](repeating: 0, count: MessageListCodec.inflateLimit + 1))
    XCTAssertThrowsError(try MessageListCodec.plain(bomb, compressed: true)) {
      XCTAssertEqual($0 as? MessageListCodec.Failure, .unableToDecompress)
    }
  }
}
