import Glibc
import NIOCore
import NIOHTTP2
import NIOPosix

/// What an operator needs to read of a failed connection.
enum ConnectionFailure {
  static func text(_ error: any Error) -> String {
    if let error = error as? NIOConnectionError {
      if let reason = error.connectionErrors.first?.error { return text(reason) }
      if error.dnsAError != nil || error.dnsAAAAError != nil { return "the name \(error.host) cannot be resolved" }
    }
    if let error = error as? IOError { return String(cString: strerror(error.errnoCode)) }
    if case ChannelError.connectTimeout(let time) = error {
      return "no answer in \(time.nanoseconds / 1_000_000_000) s"
    }
    if let closed = error as? NIOHTTP2Errors.StreamClosed { return "the server reset the stream (\(closed.errorCode))" }
    return String(describing: error)
  }
}
