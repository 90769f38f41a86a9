import FoundationEssentials
import SwiftProtobuf

/// Reading and writing of the decrypted side: each element of `message_list` is one MessageList, compressed on its
/// own (crypto.md §6, "Reading the jobs").
package enum MessageListCodec {
  /// Largest inflated MessageList in bytes.
  package static let inflateLimit = 104_857_600

  package enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case unableToDecompress
    case unparseable

    package var description: String {
      switch self {
      case .unableToDecompress: "Unable to decompress MessageList"
      case .unparseable: "MessageList is not valid protobuf"
      }
    }
  }

  /// Inflates one element when `compressed`.
  package static func plain(_ element: [UInt8], compressed: Bool) throws(Failure) -> [UInt8] {
    guard compressed else { return element }
    do throws(Zlib.Failure) {
      return try Zlib.inflate(element, limit: inflateLimit)
    } catch {
      throw .unableToDecompress
    }
  }

  /// Parses a plain MessageList.
  package static func jobs(_ plain: [UInt8]) throws(Failure) -> [Proto_VeloMessage] {
    do {
      return try Proto_MessageList(serializedBytes: plain).job
    } catch {
      throw .unparseable
    }
  }

  /// Serializes jobs to one MessageList. Fails only when a message holds text that is not UTF-8, which Swift strings
  /// cannot; the error is kept for callers that build messages from bytes.
  package static func serialize(_ jobs: [Proto_VeloMessage]) throws -> [UInt8] {
    var list = Proto_MessageList()
    list.job = jobs
    return try list.serializedBytes()
  }
}
