import Wire

/// The beginning of the first frame of every message between a frontend and a worker: 16 bytes; small fields follow in
/// the same frame, large ones in frames of their own.
///
/// | offset | size | content |
/// |---|---|---|
/// | 0 | 2 | `MR` |
/// | 2 | 1 | format version, 2 |
/// | 3 | 1 | kind: the operation of a request or a reply |
/// | 4 | 8 | request id, little endian; chosen by the frontend, echoed by the worker |
/// | 12 | 4 | milliseconds the frontend will still wait, little endian; 0 in replies |
package struct FrameHeader: Sendable, Equatable {
  package static let size = 16
  package static let version: UInt8 = 2

  /// The id of what a worker says without being asked; no request has it.
  package static let announcementID: UInt64 = .max

  package enum Kind: UInt8, Sendable, CaseIterable {
    case open = 1
    case confirm = 2
    case unenrolled = 3
    case seal = 4
    case forget = 5
    case healthRequest = 6

    case opened = 65
    case unverified = 66
    case unauthenticated = 67
    case sealed = 68
    case needKey = 69
    case rejected = 70
    case overloaded = 71
    case done = 72
    case health = 73
  }

  package var kind: Kind
  package var id: UInt64
  package var milliseconds: UInt32

  package init(kind: Kind, id: UInt64, milliseconds: UInt32 = 0) {
    self.kind = kind
    self.id = id
    self.milliseconds = milliseconds
  }

  /// Reads the header at the beginning of a frame.
  package init(parsing bytes: [UInt8]) throws(FrameError) {
    guard bytes.count >= Self.size, bytes[0] == UInt8(ascii: "M"), bytes[1] == UInt8(ascii: "R") else {
      throw FrameError.notOurs
    }
    guard bytes[2] == Self.version else { throw FrameError.version(bytes[2]) }
    guard let kind = Kind(rawValue: bytes[3]) else { throw FrameError.kind(bytes[3]) }
    self.kind = kind
    id = bytes[4..<12].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    milliseconds = bytes[12..<16].reversed().reduce(0) { $0 << 8 | UInt32($1) }
  }

  /// A writer for the fields that follow in the same frame.
  var writer: WireWriter {
    var writer = WireWriter(capacity: 128)
    writer.raw(
      UInt32(UInt8(ascii: "M")) | UInt32(UInt8(ascii: "R")) << 8 | UInt32(Self.version) << 16
        | UInt32(kind.rawValue) << 24)
    writer.raw(id)
    writer.raw(milliseconds)
    return writer
  }
}

/// A message on the link that is not one of ours, or is damaged.
package enum FrameError: Error, Sendable, Equatable, CustomStringConvertible {
  case notOurs
  case version(UInt8)
  case kind(UInt8)
  case missingFrames
  case malformed

  package var description: String {
    switch self {
    case .notOurs: "not a message of this link"
    case .version(let version): "link format version \(version), this process speaks \(FrameHeader.version)"
    case .kind(let kind): "unknown operation \(kind)"
    case .missingFrames: "message is cut short"
    case .malformed: "damaged message"
    }
  }
}
