import Foundation
import PublicIdentity
import Wire

/// What clients with one label are to watch, or all clients (server.md §4).
package struct EventTableSetting: Sendable, Equatable {
  package var org: String
  /// Empty for all clients.
  package var label: String
  /// The artifacts it was made of; empty when nothing is to be watched any more.
  package var artifacts: [String]
  /// Their parameters, as the operator gave them.
  package var parameters: [String: String]
  /// The compiled queries; its version is not used.
  package var table: Proto_VQLEventTable
  package var changedAt: Timestamp
  package var changedBy: String

  package init(
    org: String = "", label: String = "", artifacts: [String], parameters: [String: String],
    table: Proto_VQLEventTable, changedAt: Timestamp = .now(), changedBy: String = ""
  ) {
    self.org = org
    self.label = label
    self.artifacts = artifacts
    self.parameters = parameters
    self.table = table
    self.changedAt = changedAt
    self.changedBy = changedBy
  }
}

/// How the table of one client is put together.
package struct EventTableOptions: Sendable {
  /// Seconds rows may wait on the client when their artifact does not say; `defaults.event_max_wait`.
  package var maxWait: UInt64 = 120
  /// Up to so many seconds less one are added at random, so that clients do not send at the same time;
  /// `defaults.event_max_wait_jitter`.
  package var maxWaitJitter: UInt64 = 20
  /// How long a client may report another table than it was given before it is given one again.
  package var patience: Duration = .seconds(120)

  package init() {}
}

extension EventTableSetting {
  /// The message that gives a client its table.
  /// - Parameters:
  ///   - settings: those of its org; the ones for its labels follow those for all clients.
  ///   - version: nanoseconds since 1970.
  static func message(
    _ settings: [EventTableSetting], for traits: ClientTraits, version: Int64, options: EventTableOptions,
    using random: inout some RandomNumberGenerator
  ) -> Proto_VeloMessage {
    var message = Proto_VeloMessage()
    message.sessionID = "F.Monitoring"
    message.updateEventTable.version = UInt64(clamping: version)
    for setting in settings.sorted(by: { $0.label < $1.label }) where traits.has(label: setting.label) {
      for var event in setting.table.event {
        if event.maxWait == 0 {
          let jitter = options.maxWaitJitter > 0 ? UInt64.random(in: 0..<options.maxWaitJitter, using: &random) : 0
          event.maxWait = options.maxWait + jitter
        }
        message.updateEventTable.event.append(event)
      }
    }
    return message
  }
}

/// The form in which a setting is stored, beside its org, label and time.
struct StoredEventTable: Codable {
  var artifacts: [String]
  var parameters: [String: String]
  var by: String
  /// The serialized `VQLEventTable`.
  var table: Data

  init(_ setting: EventTableSetting, by: Operator) throws {
    artifacts = setting.artifacts
    parameters = setting.parameters
    self.by = by.name
    table = try setting.table.serializedBytes()
  }

  /// - Returns: nil when the bytes are no such setting.
  static func setting(_ bytes: Data, org: String, label: String, at: Timestamp) -> EventTableSetting? {
    guard let stored = try? JSONDecoder().decode(Self.self, from: bytes),
      let table = try? Proto_VQLEventTable(serializedBytes: stored.table)
    else { return nil }
    return EventTableSetting(
      org: org, label: label, artifacts: stored.artifacts, parameters: stored.parameters, table: table, changedAt: at,
      changedBy: stored.by)
  }
}

extension EventTableSetting {
  /// Throws `.invalid` for what a store cannot keep.
  func check() throws {
    guard label.utf8.count <= 128, !label.contains(where: \.isNewline), !(label + org).utf8.contains(0) else {
      throw StoreError(.invalid, "a label has 1 to 128 bytes on one line")
    }
  }

  /// For the audit trail.
  var auditDetail: String {
    let whom = label.isEmpty ? "all clients" : "label \(label)"
    let pairs = parameters.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    let what = artifacts.isEmpty ? ["nothing"] : artifacts + pairs
    return String("\(whom): \(what.joined(separator: " "))".prefix(2_000)).withoutNUL
  }
}
