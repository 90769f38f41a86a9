import Foundation
import Synchronization
import Wire
import XCTest

@testable import AgentCore

final class QueueFileFormatTests: XCTestCase {
  /// header and length words are those of Velociraptor's ring buffer; only the six spare bytes differ.
  func testHeaderHasVelociraptorsLayout() {
    let header = QueueFileFormat.Header(read: 50, write: 68, maximum: 1_073_741_874, available: 10, leased: 0)
    let expected =
      "5652425e3200000000000000440000000000000032000040000000000a000000000000000000000000000000"
    XCTAssertEqual(hex(QueueFileFormat.encode(header).prefix(44)), expected)
    let record: [UInt8] = [0x0a, 0x08, 0x0a, 0x03, 0x46, 0x2e, 0x31, 0x10, 0xd5, 0x07]
    XCTAssertEqual(hex(QueueFileFormat.encode(record: record).prefix(18)), "0a000000000000000a080a03462e3110d507")
    XCTAssertEqual(QueueFileFormat.decodeHeader(QueueFileFormat.encode(header)), .ours(header))
  }

  func testCRC32CMatchesItsCheckValue() {
    XCTAssertEqual(CRC32C.checksum(Array("123456789".utf8)), 0xE306_9283)
    let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let split = CRC32C.checksum(bytes.suffix(993), seed: CRC32C.checksum(bytes.prefix(7)))
    XCTAssertEqual(split, CRC32C.checksum(bytes))
  }

  private func hex(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }
}

final class QueueFileTests: XCTestCase {
  private func records(_ file: QueueFile) throws -> [[UInt8]] {
    file.rewind()
    var all: [[UInt8]] = []
    while let record = try file.next() { all.append(record) }
    return all
  }

  private let sample: [[UInt8]] = [
    Array("first record".utf8), Array("second".utf8), [1], Array("the fourth and last record".utf8),
  ]

  private func content(_ path: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(fileURLWithPath: path)))
  }

  private func makeSample(_ path: String, committed: Int = 0) throws {
    let file = try QueueFile(path: path, maximum: 1 << 20)
    for record in sample { try file.append(record) }
    for _ in 0..<committed { _ = try file.next() }
    if committed > 0 { try file.commit() }
  }

  func testRecordsSurviveARestartWithoutClosing() throws {
    let directory = try TemporaryDirectory()
    let path = directory.file("queue")
    try makeSample(path)
    let file = try QueueFile(path: path, maximum: 1 << 20)
    XCTAssertEqual(try records(file), sample)
    XCTAssertEqual(file.recovery, QueueFile.Recovery(records: 4, liveBytes: 45))
  }

  func testCommittedRecordsStayAway() throws {
    let directory = try TemporaryDirectory()
    let path = directory.file("queue")
    try makeSample(path, committed: 2)
    XCTAssertEqual(try records(QueueFile(path: path, maximum: 1 << 20)), Array(sample.dropFirst(2)))
  }

  func testAnUncommittedLeaseIsSentAgainInTheSamePortion() throws {
    let directory = try TemporaryDirectory()
    let path = directory.file("queue")
    do {
      let file = try QueueFile(path: path, maximum: 1 << 20)
      for record in sample { try file.append(record) }
      _ = try file.next()
      _ = try file.next()
      try file.markLeased()
    }
    let file = try QueueFile(path: path, maximum: 1 << 20)
    var portion: [[UInt8]] = []
    while !file.isAtLeaseBoundary, let record = try file.next() { portion.append(record) }
    XCTAssertEqual(portion, Array(sample.prefix(2)))
    try file.commit()
    XCTAssertFalse(file.isAtLeaseBoundary)
    XCTAssertEqual(try records(file), Array(sample.dropFirst(2)))
  }

  func testTruncationAtEveryByteKeepsAllWholeRecords() throws {
    let directory = try TemporaryDirectory()
    let path = directory.file("queue")
    try makeSample(path)
    let bytes = try content(path)
    var ends: [Int] = []
    var end = 50
    for record in sample {
      end += 16 + record.count
      ends.append(end)
    }
    XCTAssertEqual(bytes.count, end)
    for length in 0...bytes.count {
      try Data(bytes.prefix(length)).write(to: URL(fileURLWithPath: path))
      let file = try QueueFile(path: path, maximum: 1 << 20)
      let expected = sample.indices.filter { ends[$0] <= length }.map { sample[$0] }
      XCTAssertEqual(try records(file), expected, "cut at \(length)")
      try file.append([9, 9])
      XCTAssertEqual(try records(file), expected + [[9, 9]], "appended after a cut at \(length)")
    }
  }

  func testADamagedByteCostsAtMostItsOwnRecord() throws {
    let directory = try TemporaryDirectory()
    let path = directory.file("queue")
    try makeSample(path, committed: 1)
    let bytes = try content(path)
    var ranges: [Range<Int>] = []
    var start = 50
    for record in sample {
      ranges.append(start..<start + 16 + record.count)
      start += 16 + record.count
    }
    for position in bytes.indices {
      for flip: UInt8 in [0x01, 0x80, 0xFF] {
        var damaged = bytes
        damaged[position] ^= flip
        try Data(damaged).write(to: URL(fileURLWithPath: path))
        let found = try records(QueueFile(path: path, maximum: 1 << 20))
        // A damaged header forgets what was committed, which is sent twice; it loses nothing.
        let expected =
          position < 50
          ? sample : sample.indices.dropFirst().filter { !ranges[$0].contains(position) }.map { sample[$0] }
        XCTAssertEqual(found, expected, "byte \(position) ^ \(flip)")
      }
    }
  }

  func testGarbageAndEmptyFilesStartAnew() throws {
    let directory = try TemporaryDirectory()
    let path = directory.file("queue")
    for content in [Data(), Data(repeating: 0, count: 500), Data((0..<5000).map { UInt8(truncatingIfNeeded: $0 * 7) })]
    {
      try content.write(to: URL(fileURLWithPath: path))
      let file = try QueueFile(path: path, maximum: 1 << 20)
      XCTAssertEqual(try records(file), [])
      try file.append([1, 2, 3])
      XCTAssertEqual(try records(file), [[1, 2, 3]])
    }
  }

  func testAFileOfVelociraptorIsTakenOver() throws {
    let directory = try TemporaryDirectory()
    let path = directory.file("queue")
    let hex =
      "5652425e3200000000000000440000000000000032000040000000000a0000000000000000000000000000000000000000000a00"
      + "0000000000000a080a03462e3110d507"
    var bytes: [UInt8] = []
    var rest = Substring(hex)
    while let value = UInt8(rest.prefix(2), radix: 16) {
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    let file = try QueueFile(path: path, maximum: 1 << 20)
    XCTAssertTrue(file.recovery.importedFromVelociraptor)
    let expected: [[UInt8]] = [[0x0a, 0x08, 0x0a, 0x03, 0x46, 0x2e, 0x31, 0x10, 0xd5, 0x07]]
    XCTAssertEqual(try records(file), expected)
  }

  func testSpaceIsGivenBack() throws {
    let directory = try TemporaryDirectory()
    let path = directory.file("queue")
    let file = try QueueFile(path: path, maximum: 1 << 20, compactionThreshold: 1000)
    for round in 0..<100 {
      try file.append([UInt8](repeating: UInt8(round), count: 100))
      if round > 2 {
        file.rewind()
        _ = try file.next()
        try file.commit()
      }
    }
    XCTAssertLessThan(try content(path).count, 3000)
    XCTAssertEqual(try records(file).map { $0[0] }, [97, 98, 99])
    file.rewind()
    while try file.next() != nil {}
    try file.commit()
    XCTAssertEqual(try content(path).count, 50)
  }

  func testASecondAgentIsKeptOut() throws {
    let directory = try TemporaryDirectory()
    let path = directory.file("queue")
    let first = try QueueFile(path: path, maximum: 1 << 20)
    try first.append([1])
    XCTAssertThrowsError(try QueueFile(path: path, maximum: 1 << 20)) {
      XCTAssertTrue("\($0)".contains("in use by another agent"), "\($0)")
    }
  }

  func testASymbolicLinkIsNotFollowed() throws {
    let directory = try TemporaryDirectory()
    let target = directory.file("target")
    try Data("precious".utf8).write(to: URL(fileURLWithPath: target))
    try FileManager.default.createSymbolicLink(atPath: directory.file("queue"), withDestinationPath: target)
    XCTAssertThrowsError(try QueueFile(path: directory.file("queue"), maximum: 1 << 20))
    XCTAssertEqual(try content(target), Array("precious".utf8))
  }
}

final class OutboundQueueTests: XCTestCase {
  private func queue(
    _ storage: any QueueStorage = MemoryQueue(), capacity: Int = 1 << 20, bodySize: Int = 8192,
    deadLetters: DeadLetters? = nil
  ) -> OutboundQueue {
    OutboundQueue(
      storage: storage, capacity: capacity, bodySize: bodySize, compress: true, deadLetters: deadLetters,
      log: LogRecorder().logger)
  }

  private func ids(_ lease: OutboundQueue.Lease?) throws -> [String] {
    try (lease?.lists ?? []).flatMap { list in
      try MessageListCodec.jobs(try MessageListCodec.plain(list, compressed: true)).map(\.sessionID)
    }
  }

  /// several lists, each of about a quarter of the body.
  func testALeaseHasSeveralListsAndKeepsToTheBodySize() throws {
    let queue = queue()
    var random = RandomSource(seed: 3)
    for index in 0..<60 {
      let noise = (0..<500).map { _ in String(UInt8.random(in: 0...255, using: &random), radix: 16) }.joined()
      try queue.append(Make.message("F.\(index)", text: noise))
    }
    let lease = try XCTUnwrap(try queue.leaseBulk(recordLimit: nil))
    XCTAssertGreaterThan(lease.lists.count, 3)
    let total = lease.lists.reduce(0) { $0 + $1.count }
    XCTAssertGreaterThanOrEqual(total, 8192)
    XCTAssertLessThan(total, 8192 + 4096)
    XCTAssertEqual(try ids(lease), (0..<lease.records).map { "F.\($0)" })
    try queue.commit(lease)
    XCTAssertEqual(try ids(try queue.leaseBulk(recordLimit: 1)), ["F.\(lease.records)"])
  }

  func testRollbackPutsEverythingBackInOrder() throws {
    let queue = queue()
    for id in ["a", "b", "c"] { try queue.append(Make.message(id)) }
    let lease = try XCTUnwrap(try queue.leaseBulk(recordLimit: 2))
    XCTAssertEqual(try ids(lease), ["a", "b"])
    queue.rollback(lease)
    XCTAssertEqual(try ids(try queue.leaseBulk(recordLimit: nil)), ["a", "b", "c"])
  }

  /// 20 MiB of urgent messages pass, because delivered ones are freed.
  func testUrgentMessagesAreFreed() throws {
    let queue = queue(bodySize: 1 << 20)
    let text = String(repeating: "x", count: 500_000)
    for _ in 0..<40 {
      try queue.appendUrgent(Make.message("urgent", text: text))
      let lease = try XCTUnwrap(try queue.leaseUrgent())
      XCTAssertEqual(lease.records, 1)
      try queue.commit(lease)
    }
    XCTAssertEqual(queue.urgentState, .none)
    XCTAssertEqual(queue.bulkBytes, 0)
  }

  func testUrgentMessagesBeyondTheBoundGoToTheBulkQueue() throws {
    let queue = queue(bodySize: 10_000)
    for _ in 0..<5 { try queue.appendUrgent(Make.message("urgent", text: String(repeating: "x", count: 9000))) }
    XCTAssertGreaterThan(queue.bulkBytes, 0)
    XCTAssertLessThan(try XCTUnwrap(try queue.leaseUrgent()).records, 5)
  }

  func testACertificateRequestGoesFirstAndAlone() throws {
    let queue = queue()
    try queue.appendUrgent(Make.message("one"))
    try queue.appendUrgent(Make.message("E:Enrol"), kind: .enrolment)
    XCTAssertEqual(queue.urgentState, .enrolment)
    let lease = try XCTUnwrap(try queue.leaseUrgent())
    XCTAssertEqual(try ids(lease), ["E:Enrol"])
    try queue.commit(lease)
    XCTAssertEqual(try ids(try queue.leaseUrgent()), ["one"])
  }

  /// rows of a cancelled flow are dropped, its logs and stats kept.
  func testRowsOfACancelledFlowAreLeftOut() throws {
    let queue = queue()
    try queue.append(Make.message("F.1"))
    try queue.append(ResponseMessages.line("ERROR", "kept", session: "F.1", seconds: 1))
    try queue.append(Make.message("F.2"))
    queue.dropRows(ofFlow: "F.1")
    let lease = try XCTUnwrap(try queue.leaseBulk(recordLimit: nil))
    let jobs = try lease.lists.flatMap { try MessageListCodec.jobs(try MessageListCodec.plain($0, compressed: true)) }
    XCTAssertEqual(jobs.map(\.sessionID), ["F.1", "F.2"])
    XCTAssertTrue(jobs[0].hasLogMessage)
    XCTAssertEqual(lease.records, 2)
  }

  func testOnlyDroppedRowsLeaveNothingToSend() throws {
    let queue = queue()
    try queue.append(Make.message("F.1"))
    queue.dropRows(ofFlow: "F.1")
    XCTAssertNil(try queue.leaseBulk(recordLimit: nil))
    XCTAssertTrue(queue.isEmpty)
  }

  /// a full queue blocks; nothing is dropped.
  func testAFullQueueBlocksUntilSomethingIsDelivered() throws {
    let queue = queue(capacity: 1000)
    let text = String(repeating: "x", count: 600)
    try queue.append(Make.message("a", text: text))
    let done = expectation(description: "the second append returns")
    let isDone = Mutex(false)
    QueryThread.start("appender") {
      try? queue.append(Make.message("b", text: text))
      isDone.withLock { $0 = true }
      done.fulfill()
    }
    // It is written before it blocks.
    while queue.bulkBytes < 1200 { sched_yield() }
    XCTAssertFalse(isDone.withLock { $0 })
    let lease = try XCTUnwrap(try queue.leaseBulk(recordLimit: 1))
    XCTAssertFalse(isDone.withLock { $0 })
    try queue.commit(lease)
    wait(for: [done], timeout: patience)
    XCTAssertEqual(try ids(try queue.leaseBulk(recordLimit: nil)), ["b"])
  }

  func testABlockedAppendEndsWhenItsFlowIsCancelled() throws {
    let queue = queue(capacity: 10)
    let done = expectation(description: "the append returns")
    QueryThread.start("appender") {
      try? queue.append(Make.message("a", text: String(repeating: "x", count: 600)), isAbandoned: { true })
      done.fulfill()
    }
    wait(for: [done], timeout: patience)
  }

  func testWhatIsSetAsideIsKeptForPeople() throws {
    let directory = try TemporaryDirectory()
    let letters = DeadLetters(path: directory.file("dead"), capacity: 2000)
    let queue = queue(deadLetters: letters)
    for _ in 0..<10 {
      try queue.append(Make.message("poison", text: String(repeating: "x", count: 500)))
      let lease = try XCTUnwrap(try queue.leaseBulk(recordLimit: nil))
      try queue.setAside(lease, reason: "answered 400 3 times")
    }
    XCTAssertTrue(queue.isEmpty)
    let sizes = try ["dead", "dead.old"].map { try Data(contentsOf: URL(fileURLWithPath: directory.file($0))).count }
    for size in sizes { XCTAssertTrue((500...2000).contains(size), "\(size)") }
  }

  func testAQueueThatCannotBeOnDiskIsInMemoryWithAWarning() throws {
    var settings = AgentSettings()
    settings.queuePath = "/proc/none/queue"
    let log = LogRecorder()
    let queue = try OutboundQueue.open(settings, log: log.logger)
    try queue.append(Make.message("a"))
    XCTAssertTrue(log.contains("kept in memory"), "\(log.all)")
  }
}
