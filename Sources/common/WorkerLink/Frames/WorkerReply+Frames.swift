import Wire

/// Replies as frames: header and small fields, then the large fields.
extension WorkerReply {
  package var kind: FrameHeader.Kind {
    switch self {
    case .opened: .opened
    case .unverified: .unverified
    case .unauthenticated: .unauthenticated
    case .sealed: .sealed
    case .needKey: .needKey
    case .rejected: .rejected
    case .overloaded: .overloaded
    case .done: .done
    case .health: .health
    }
  }

  /// - Parameter id: the id of the request that this answers.
  package func frames(id: UInt64) -> [[UInt8]] {
    var head = FrameHeader(kind: kind, id: id).writer
    switch self {
    case .opened(let body), .unauthenticated(let body):
      head.field(1, body.source)
      head.field(2, UInt64(body.apiVersion))
      head.field(3, body.timestamp)
      head.field(4, body.compressed ? 1 : 0)
      head.field(6, body.keyID)
      return [head.bytes, body.acknowledgement] + body.lists
    case .unverified(let source):
      head.field(1, source)
      return [head.bytes]
    case .sealed(let body):
      return [head.bytes, body]
    case .rejected(let reason):
      head.field(5, UInt64(reason))
      return [head.bytes]
    case .health(let health):
      head.field(1, health.name)
      let numbers: [(UInt64, UInt64)] = [
        (10, health.draining ? 1 : 0), (11, health.coldDepth), (12, health.coldLimit), (13, health.sessions),
        (14, health.sessionLimit), (15, health.rsaPrivateOperations), (16, health.opened), (17, health.rejected),
      ]
      for (number, value) in numbers { head.field(number, value) }
      return [head.bytes]
    case .needKey, .overloaded, .done:
      return [head.bytes]
    }
  }

  /// Reads a reply from its frames, header included.
  package static func parse(_ frames: [[UInt8]]) throws(FrameError) -> (header: FrameHeader, reply: WorkerReply) {
    guard let first = frames.first else { throw .missingFrames }
    let header = try FrameHeader(parsing: first)
    let fields = try ReplyFields(first)
    switch header.kind {
    case .opened, .unauthenticated:
      guard frames.count >= 2 else { throw .missingFrames }
      let body = OpenedBody(
        source: fields.source, apiVersion: fields.apiVersion, timestamp: fields.timestamp,
        compressed: fields.compressed, lists: Array(frames[2...]), acknowledgement: frames[1],
        keyID: fields.keyID)
      return (header, header.kind == .opened ? .opened(body) : .unauthenticated(body))
    case .unverified: return (header, .unverified(source: fields.source))
    case .sealed:
      guard frames.count == 2 else { throw .missingFrames }
      return (header, .sealed(body: frames[1]))
    case .needKey: return (header, .needKey)
    case .rejected: return (header, .rejected(reason: fields.reason))
    case .overloaded: return (header, .overloaded)
    case .done: return (header, .done)
    case .health: return (header, .health(fields.health))
    default: throw .kind(header.kind.rawValue)
    }
  }
}

private struct ReplyFields {
  var source = ""
  var apiVersion: UInt32 = 0
  var timestamp: UInt64 = 0
  var compressed = false
  var reason: UInt8 = 0
  var keyID: UInt64 = 0
  var health = WorkerHealth()

  init(_ bytes: [UInt8]) throws(FrameError) {
    let parsed = bytes.withUnsafeBytes { buffer in
      Result { () throws(WireReader.Malformed) in try Self.read(buffer) }
    }
    guard case .success(let fields) = parsed else { throw .malformed }
    self = fields
  }

  private init() {}

  private static func read(_ buffer: UnsafeRawBufferPointer) throws(WireReader.Malformed) -> ReplyFields {
    var fields = ReplyFields()
    var reader = WireReader(buffer, range: FrameHeader.size..<buffer.count)
    while let (number, value) = try reader.next() {
      switch (number, value) {
      case (1, .bytes(let range)):
        fields.source = String(decoding: buffer[range], as: UTF8.self)
        fields.health.name = fields.source
      case (2, .varint(let version)): fields.apiVersion = UInt32(truncatingIfNeeded: version)
      case (3, .varint(let timestamp)): fields.timestamp = timestamp
      case (4, .varint(let flag)): fields.compressed = flag != 0
      case (5, .varint(let reason)): fields.reason = UInt8(truncatingIfNeeded: reason)
      case (6, .varint(let id)): fields.keyID = id
      case (10, .varint(let flag)): fields.health.draining = flag != 0
      case (11, .varint(let depth)): fields.health.coldDepth = depth
      case (12, .varint(let limit)): fields.health.coldLimit = limit
      case (13, .varint(let sessions)): fields.health.sessions = sessions
      case (14, .varint(let limit)): fields.health.sessionLimit = limit
      case (15, .varint(let operations)): fields.health.rsaPrivateOperations = operations
      case (16, .varint(let opened)): fields.health.opened = opened
      case (17, .varint(let rejected)): fields.health.rejected = rejected
      default: break
      }
    }
    return fields
  }
}
