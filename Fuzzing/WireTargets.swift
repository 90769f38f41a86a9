import Foundation
import Wire
import WorkerLink

extension FuzzTarget {
  /// What a frontend does with every body before anything is known about it.
  static let scan = FuzzTarget(name: "scan", abstract: "the outer scan of a body") {
    let session = try FuzzSession()
    return [session.body(lists: [[1, 2, 3]]), envelopePad, [0x58, 0x00], []]
  } run: { bytes in
    guard let scan = try? EnvelopeScan(bytes) else { return }
    for range in [
      scan.encrypted, scan.encryptedCipher, scan.packetIV, scan.encryptedCipherMetadata, scan.fullHMAC,
    ] {
      require(range.lowerBound >= 0 && range.upperBound <= bytes.count, "a field lies outside of its body")
    }
    require((try? EnvelopeScan(bytes + envelopePad)) == scan, "padding changes nothing")
  }

  /// Messages between frontends and workers: frames after their lengths, three bytes each.
  static let frames = FuzzTarget(name: "frames", abstract: "ZeroMQ messages of the worker link, both ways") {
    let body = OpenedBody(
      source: "C.0123456789abcdef", apiVersion: 4, timestamp: 17, compressed: true, lists: [[1], [], [2, 3]],
      acknowledgement: [7], keyID: 9)
    let requests: [WorkerRequest] = [
      .open(body: [1, 2, 3], acknowledge: true, address: "10.0.0.1"),
      .confirm(body: [1], publicKey: [9, 9], acknowledge: true), .unenrolled(body: [5]),
      .seal(routingKey: [1, 2], source: "C.0123456789abcdef-OABCD", publicKey: [3], list: [4], keyID: 9),
      .forget(source: "C.0123456789abcdef"), .health,
    ]
    let replies: [WorkerReply] = [
      .opened(body), .unverified(source: "C.0123456789abcdef"), .sealed(body: [1]), .needKey, .rejected(reason: 3),
      .health(WorkerHealth(name: "w", draining: true, coldDepth: 1)),
    ]
    return requests.map { join($0.frames(id: 1, milliseconds: 1)) } + replies.map { join($0.frames(id: 2)) }
  } run: { bytes in
    let frames = split(bytes)
    if let (header, request) = try? WorkerRequest.parse(frames) {
      let again = try? WorkerRequest.parse(request.frames(id: header.id, milliseconds: header.milliseconds))
      require(again?.request == request && again?.header == header, "a request does not survive its own form")
    }
    if let (header, reply) = try? WorkerReply.parse(frames) {
      let again = try? WorkerReply.parse(reply.frames(id: header.id))
      require(again?.reply == reply, "a reply does not survive its own form")
    }
  }

  /// The content of a body after it was opened, as a frontend inflates and parses it: the first byte says whether it is
  /// compressed.
  static let lists = FuzzTarget(name: "lists", abstract: "message lists of opened bodies, inflated and parsed") {
    var job = Proto_VeloMessage()
    job.sessionID = "F.AAAAAAAAAAAAA"
    job.vqlresponse.jsonlresponse = "{\"A\":1}\n"
    job.csr.pem = Data("-----BEGIN CERTIFICATE REQUEST-----".utf8)
    let plain = try MessageListCodec.serialize([job, job])
    return [[0] + plain, [1] + (try Zlib.deflate(plain)), [0]]
  } run: { bytes in
    guard let first = bytes.first else { return }
    guard let plain = try? Zlib.plain(Array(bytes.dropFirst()), compressed: first & 1 == 1),
      let jobs = try? MessageListCodec.jobs(plain)
    else { return }
    require((try? MessageListCodec.serialize(jobs)) != nil, "what was read cannot be written")
  }

  private static func join(_ frames: [[UInt8]]) -> [UInt8] {
    frames.flatMap { frame -> [UInt8] in
      let count = frame.count
      return [UInt8(count & 255), UInt8(count >> 8 & 255), UInt8(count >> 16 & 255)] + frame
    }
  }

  private static func split(_ bytes: [UInt8]) -> [[UInt8]] {
    var frames: [[UInt8]] = []
    var rest = bytes[...]
    while rest.count >= 3, frames.count < 64 {
      let count = rest.prefix(3).reversed().reduce(0) { $0 << 8 | Int($1) }
      rest = rest.dropFirst(3)
      frames.append(Array(rest.prefix(count)))
      rest = rest.dropFirst(count)
    }
    return frames
  }
}

extension Zlib {
  /// As `MessageListCodec.plain` with a limit that keeps a fuzzer fast.
  fileprivate static func plain(_ bytes: [UInt8], compressed: Bool) throws -> [UInt8] {
    compressed ? try inflate(bytes, limit: 1 << 20) : bytes
  }
}
