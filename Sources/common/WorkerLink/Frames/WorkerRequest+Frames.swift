import Wire

/// Requests as frames: header, one frame of small fields, then the large ones, each a frame of its own, so that a body
/// is never copied into another buffer.
extension WorkerRequest {
  package var kind: FrameHeader.Kind {
    switch self {
    case .open: .open
    case .confirm: .confirm
    case .unenrolled: .unenrolled
    case .seal: .seal
    case .forget: .forget
    case .health: .healthRequest
    }
  }

  /// - Parameter milliseconds: how long the sender will still wait.
  package func frames(id: UInt64, milliseconds: UInt32) -> [[UInt8]] {
    let header = FrameHeader(kind: kind, id: id, milliseconds: milliseconds).bytes
    var fields = WireWriter()
    switch self {
    case .open(let body, let acknowledge, let address):
      fields.field(1, acknowledge ? 1 : 0)
      fields.field(5, address)
      return [header, fields.bytes, body]
    case .confirm(let body, let publicKey, let acknowledge):
      fields.field(1, acknowledge ? 1 : 0)
      fields.field(2, bytes: publicKey)
      return [header, fields.bytes, body]
    case .unenrolled(let body):
      return [header, fields.bytes, body]
    case .seal(let routingKey, let source, let publicKey, let list):
      fields.field(2, bytes: publicKey)
      fields.field(3, source)
      fields.field(4, bytes: routingKey)
      return [header, fields.bytes, list]
    case .forget(let source):
      fields.field(3, source)
      return [header, fields.bytes]
    case .health:
      return [header, fields.bytes]
    }
  }

  /// Reads a request from its frames, header included.
  package static func parse(_ frames: [[UInt8]]) throws(FrameError) -> (header: FrameHeader, request: WorkerRequest) {
    guard let first = frames.first else { throw .missingFrames }
    let header = try FrameHeader(parsing: first)
    guard frames.count >= 2 else { throw .missingFrames }
    let fields = try RequestFields(frames[1])
    func blob() throws(FrameError) -> [UInt8] {
      guard frames.count == 3 else { throw .missingFrames }
      return frames[2]
    }
    switch header.kind {
    case .open:
      return (header, .open(body: try blob(), acknowledge: fields.acknowledge, address: fields.address))
    case .confirm:
      return (
        header, .confirm(body: try blob(), publicKey: fields.publicKey, acknowledge: fields.acknowledge)
      )
    case .unenrolled: return (header, .unenrolled(body: try blob()))
    case .seal:
      let list = try blob()
      return (
        header,
        .seal(routingKey: fields.routingKey, source: fields.source, publicKey: fields.publicKey, list: list)
      )
    case .forget: return (header, .forget(source: fields.source))
    case .healthRequest: return (header, .health)
    default: throw .kind(header.kind.rawValue)
    }
  }

  /// The bytes that decide which worker serves this request; nil when any may.
  package var routingKey: [UInt8]? {
    switch self {
    case .open(let body, _, _), .confirm(let body, _, _), .unenrolled(let body):
      guard let scan = try? EnvelopeScan(body), !scan.isEmpty else { return nil }
      return Array(body[scan.encryptedCipher])
    case .seal(let routingKey, _, _, _): return routingKey
    case .forget, .health: return nil
    }
  }
}

private struct RequestFields {
  var acknowledge = false
  var publicKey: [UInt8] = []
  var source = ""
  var routingKey: [UInt8] = []
  var address = ""

  init(_ bytes: [UInt8]) throws(FrameError) {
    let parsed = bytes.withUnsafeBytes { buffer in
      Result { () throws(WireReader.Malformed) in try Self.read(buffer) }
    }
    guard case .success(let fields) = parsed else { throw .malformed }
    self = fields
  }

  private init() {}

  private static func read(_ buffer: UnsafeRawBufferPointer) throws(WireReader.Malformed) -> RequestFields {
    var fields = RequestFields()
    var reader = WireReader(buffer)
    while let (number, value) = try reader.next() {
      switch (number, value) {
      case (1, .varint(let flag)): fields.acknowledge = flag != 0
      case (2, .bytes(let range)): fields.publicKey = Array(buffer[range])
      case (3, .bytes(let range)): fields.source = String(decoding: buffer[range], as: UTF8.self)
      case (4, .bytes(let range)): fields.routingKey = Array(buffer[range])
      case (5, .bytes(let range)): fields.address = String(decoding: buffer[range], as: UTF8.self)
      default: break
      }
    }
    return fields
  }
}
