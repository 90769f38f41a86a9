import Foundation
import GRDB

extension StoreError {
  /// Any error of the SQLite implementation as a `StoreError` that names the remedy.
  static func from(_ error: any Error, path: String) -> StoreError {
    if let known = error as? StoreError { return known }
    if error is CancellationError { return StoreError(.unavailable, "the store is closing; ask again later") }
    guard let sqlite = error as? DatabaseError else {
      return StoreError(.internalError, "the store failed unexpectedly: \(error)")
    }
    let detail = sqlite.message ?? "SQLite error \(sqlite.resultCode.rawValue)"
    switch sqlite.resultCode {
    case .SQLITE_BUSY, .SQLITE_LOCKED:
      return StoreError(.busy, "\(path) is locked by another program (\(detail)); end what holds it and try again")
    case .SQLITE_FULL:
      return StoreError(.full, "the disk of \(path) is full; free space, the store then continues by itself")
    case .SQLITE_READONLY:
      return StoreError(.readOnly, "\(path) cannot be written (\(detail)); check the mount, the owner and the mode")
    case .SQLITE_CORRUPT, .SQLITE_NOTADB:
      return StoreError(.corrupt, "\(path) is damaged or no SQLite file (\(detail)); restore it from a backup")
    case .SQLITE_CANTOPEN, .SQLITE_PERM, .SQLITE_AUTH:
      return StoreError(
        .unavailable, "\(path) cannot be opened (\(detail)); check Datastore.location and its permissions")
    case .SQLITE_IOERR, .SQLITE_NOMEM, .SQLITE_PROTOCOL, .SQLITE_INTERRUPT, .SQLITE_ABORT:
      return StoreError(
        .unavailable, "input or output on \(path) failed (\(detail)); check the disk and its system log")
    case .SQLITE_TOOBIG:
      return StoreError(.invalid, "a value is too large for the store (\(detail))")
    default:
      return StoreError(.internalError, "the store failed on \(path): \(detail)")
    }
  }

  /// An error of a file operation as errno tells it.
  static func errno(_ code: Int32, _ what: String) -> StoreError {
    let text = String(cString: strerror(code))
    switch code {
    case ENOSPC, EDQUOT: return StoreError(.full, "\(what): \(text); free space, the store then continues by itself")
    case EROFS, EACCES, EPERM: return StoreError(.readOnly, "\(what): \(text); check the mount, the owner and the mode")
    default: return StoreError(.unavailable, "\(what): \(text)")
    }
  }
}
