/// Why a pipeline did not succeed.
enum PGFailure: Error, Sendable {
  /// The server refused a statement; nothing of the transaction stays.
  case refused(state: String, message: String)
  /// The connection was lost. Statements that were sent may or may not have been carried out.
  case lost(String)
  /// No connection was there in time.
  case unreachable(StoreError)

  /// Whether the same transaction may be tried again at once: a deadlock or a serialization failure.
  var isRetriable: Bool {
    switch self {
    case .refused(let state, _): state == "40001" || state == "40P01"
    case .lost: true
    case .unreachable: false
    }
  }

  /// The server ends the connection with these: like a lost one.
  static func endsConnection(state: String) -> Bool {
    state.hasPrefix("57P") || state.hasPrefix("08")
  }

  var storeError: StoreError {
    switch self {
    case .refused(let state, let message): Self.error(state: state, message)
    case .lost(let message): StoreError(.unavailable, "the connection to PostgreSQL was lost: \(message)")
    case .unreachable(let error): error
    }
  }

  /// The error for an SQLSTATE, with the remedy.
  static func error(state: String, _ message: String) -> StoreError {
    let detail = "\(message) [\(state)]"
    switch state {
    case "53100":
      return StoreError(.full, "PostgreSQL's disk is full (\(detail)); free space, the store then continues by itself")
    case "25006":
      return StoreError(.readOnly, "PostgreSQL is read-only (\(detail)); name the primary in Datastore.url")
    case "55P03", "57014":
      return StoreError(.busy, "PostgreSQL did not answer in time (\(detail)); look for long transactions")
    case "42501":
      return StoreError(.readOnly, "the database role lacks a right (\(detail)); grant it to the role of Datastore.url")
    case "XX001", "XX002":
      return StoreError(.corrupt, "PostgreSQL reports damaged data (\(detail)); restore it from a backup")
    case "28P01", "28000":
      return StoreError(.unavailable, "PostgreSQL refuses the login (\(detail)); check Datastore.url and pg_hba.conf")
    case "3D000":
      return StoreError(.unavailable, "the database is not there (\(detail)); create it or correct Datastore.url")
    default: break
    }
    switch state.prefix(2) {
    case "08", "53", "57", "58", "40":
      return StoreError(.unavailable, "PostgreSQL is not available (\(detail)); check the server and its log")
    case "22", "54": return StoreError(.invalid, "a value cannot be stored (\(detail))")
    default: return StoreError(.internalError, "PostgreSQL refused a statement (\(detail))")
    }
  }

  /// An error of connecting, from libpq's text (there is no SQLSTATE for it).
  static func connecting(_ message: String) -> StoreError {
    let line = message.split(separator: "\n").joined(separator: "; ")
    if line.contains("read-only") {
      return StoreError(.readOnly, "no PostgreSQL server takes writes: \(line); name the primary in Datastore.url")
    }
    return StoreError(.unavailable, "cannot connect to PostgreSQL: \(line); check Datastore.url and the server")
  }
}
