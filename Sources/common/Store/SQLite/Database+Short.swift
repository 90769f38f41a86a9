import Foundation
import GRDB
import PublicIdentity

extension Database {
  /// Runs one statement, prepared once per connection.
  func run(_ sql: String, _ arguments: StatementArguments = []) throws {
    try cachedStatement(sql: sql).execute(arguments: arguments)
  }

  func row(_ sql: String, _ arguments: StatementArguments = []) throws -> Row? {
    try Row.fetchOne(cachedStatement(sql: sql), arguments: arguments)
  }

  func rows(_ sql: String, _ arguments: StatementArguments = []) throws -> [Row] {
    try Row.fetchAll(cachedStatement(sql: sql), arguments: arguments)
  }

  func number(_ sql: String, _ arguments: StatementArguments = []) throws -> Int64? {
    try Int64.fetchOne(cachedStatement(sql: sql), arguments: arguments)
  }
}

extension Row {
  func timestamp(_ column: String) -> Timestamp? {
    (self[column] as Int64?).map(Timestamp.init(microseconds:))
  }

  /// A BLOB that holds text an agent chose; broken UTF-8 is shown repaired, what is stored stays.
  func agentText(_ column: String) -> String {
    (self[column] as Data?).map { String(decoding: $0, as: UTF8.self) } ?? ""
  }

  func bytes(_ column: String) -> [UInt8] {
    (self[column] as Data?).map(Array.init) ?? []
  }
}

/// The statements that tests check for full scans are those below and in the extensions of `SQLiteStore`.
enum SQL {
  static let clientKey = "SELECT id FROM clients WHERE org = ? AND client = ?"
  static let audit = "INSERT INTO audit (at, who, origin, action, org, client, detail) VALUES (?, ?, ?, ?, ?, ?, ?)"
  static let change = "INSERT INTO changes (kind, org, client, at) VALUES (?, ?, ?, ?)"
}

extension Database {
  /// The client's integer key; nil when it is unknown.
  func key(of client: ClientName) throws -> Int64? {
    try number(SQL.clientKey, [client.org, client.id.rawValue])
  }

  func announce(_ event: StoreEvent, at: Timestamp) throws {
    let (kind, org, client) = event.stored
    try run(SQL.change, [kind, org, client, at.microseconds])
  }

  func record(_ action: String, on client: ClientName?, detail: String, by: Operator, at: Timestamp) throws {
    try run(
      SQL.audit,
      [at.microseconds, by.name, by.origin, action, client?.org ?? "", client?.id.rawValue ?? "", detail])
  }
}

extension StoreEvent {
  /// As it is stored and sent; the client is empty for what concerns a whole org.
  var stored: (kind: Int64, org: String, client: String) {
    switch self {
    case .tasksQueued(let client): (0, client.org, client.id.rawValue)
    case .clientDeleted(let client): (1, client.org, client.id.rawValue)
    case .keyChanged(let client): (2, client.org, client.id.rawValue)
    case .seatTaken(let client): (3, client.org, client.id.rawValue)
    case .foremanChanged(let org): (4, org, "")
    }
  }

  init?(kind: Int64, org: String, client: String) {
    if kind == 4 {
      self = .foremanChanged(org: org)
      return
    }
    guard let client = ClientName(org: org, stored: client) else { return nil }
    switch kind {
    case 0: self = .tasksQueued(client)
    case 1: self = .clientDeleted(client)
    case 2: self = .keyChanged(client)
    case 3: self = .seatTaken(client)
    default: return nil
    }
  }
}

extension ClientName {
  /// From the store's own columns.
  init?(org: String, stored id: String) {
    guard let id = ClientID(id) else { return nil }
    self.init(id: id, org: org)
  }
}
