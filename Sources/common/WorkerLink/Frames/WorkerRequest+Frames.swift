import Wire

/// Requests as frames: header and small fields, then the large fields, each a frame of its own, so that a body
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
    var head = FrameHeader(kind: kind, id: id, milliseconds: milliseconds).writer
    switch self {
    case .open(let body, let acknowledge, let address):
      head.field(1, acknowledge ? 1 : 0)
      head.field(5, address)
      return [head.bytes, body]
    case .confirm(let body, let publicKey, let acknowledge):
      head.field(1, acknowledge ? 1 : 0)
      head.field(2, bytes: publicKey)
      return [head.bytes, body]
    case .unenrolled(let body):
      return [head.bytes, body]
    case .seal(let routingKey, let source, let publicKey, let list, let keyID):
      head.field(2, bytes: publicKey)
      head.field(3, source)
      head.field(4, bytes: routingKey)
      head.field(6, keyID)
      return [head.bytes, list]
    case .forget(let source):
      head.field(3, source)
      return [head.bytes]
    case .health:
      return [head.bytes]
    }
  }

  /// Reads a request from its frames, header included.
  package static func parse(
    _ frames: some BidirectionalCollection<[UInt8]>
  ) throws(FrameError) -> (header: FrameHeader, request: WorkerRequest) {
    guard let first = frames.first else { throw .missingFrames }
    let header = try FrameHeader(parsing: first)
    let fields = try RequestFields(first)
    func blob() throws(FrameError) -> [UInt8] {
      guard frames.count == 2, let last = frames.last else { throw .missingFrames }
      return last
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
        .seal(
          routingKey: fields.routingKey, source: fields.source, publicKey: fields.publicKey, list: list,
          keyID: fields.keyID)
      )
    case .forget: return (header, .forget(source: fields.source))
    case .healthRequest: return (header, .health)
    default: throw .kind(header.kind.rawValue)
    }
  }

  /// Calls `body` with the bytes that decide which worker serves this request; with none when any may.
  func withRoutingKey<Value>(_ body: (UnsafeRawBufferPointer) -> Value) -> Value {
    switch self {
    case .open(let bytes, _, _), .confirm(let bytes, _, _), .unenrolled(let bytes):
      return bytes.withUnsafeBytes { buffer in
        guard let scan = try? EnvelopeScan(buffer), !scan.isEmpty else { return body(.init(start: nil, count: 0)) }
        return body(UnsafeRawBufferPointer(rebasing: buffer[scan.encryptedCipher]))
      }
    case .seal(let routingKey, _, _, _, _): return routingKey.withUnsafeBytes(body)
    case .forget, .health: return body(.init(start: nil, count: 0))
    }
  }
}

private struct RequestFields {
  var acknowledge = false
  var publicKey: [UInt8] = []
  var source = ""
  var routingKey: [UInt8] = []
  var address = ""
  var keyID: UInt64 = 0

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
    var reader = WireReader(buffer, range: FrameHeader.size..<buffer.count)
    while let (number, value) = try reader.next() {
      switch (number, value) {
      case (1, .varint(let flag)): fields.acknowledge = flag != 0
      case (2, .bytes(let range)): fields.publicKey = Array(buffer[range])
      case (3, .bytes(let range)): fields.source = String(decoding: buffer[range], as: UTF8.self)
      case (4, .bytes(let range)): fields.routingKey = Array(buffer[range])
      case (6, .varint(let id)): fields.keyID = id
      case (5, .bytes(let range)): fields.address = String(decoding: buffer[range], as: UTF8.self)
      default: break
      }
    }
    return fields
  }
}
