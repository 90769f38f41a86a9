import Foundation
import PublicIdentity
import Store

/// Finds the clients an operator names.
struct ClientSelection {
  let store: any Store

  /// The client with this id, or the only one with this host name or FQDN.
  func one(_ text: String) async throws -> ClientRecord {
    if let name = ClientName(text) {
      guard let record = try await store.client(name) else {
        throw CommandFailure(.notFound, "no client \(text); `microraptor clients` lists them")
      }
      return record
    }
    var filter = ClientFilter()
    filter.search = text
    filter.limit = 200
    let found = try await store.clients(filter)
    let wanted = text.lowercased()
    let exact = found.filter { $0.facts.hostname.lowercased() == wanted || $0.facts.fqdn.lowercased() == wanted }
    if exact.count == 1 { return exact[0] }
    if exact.count > 1 {
      throw CommandFailure(.notFound, "\(exact.count) clients are named \(text); use an id:\n\(Self.list(exact))")
    }
    guard !found.isEmpty else {
      throw CommandFailure(.notFound, "no client is named \(text); `microraptor clients` lists them")
    }
    throw CommandFailure(
      .notFound, "no client is named \(text); these begin so:\n\(Self.list(Array(found.prefix(10))))")
  }

  /// The named clients, those of a label, or all.
  func several(_ names: [String], all: Bool, label: String?) async throws -> [ClientRecord] {
    var records: [ClientRecord] = []
    for name in names { records.append(try await one(name)) }
    if all || label != nil {
      var filter = ClientFilter()
      filter.search = label.map { "label:\($0)" }
      while true {
        let page = try await store.clients(filter)
        records += page
        guard page.count == filter.limit, let last = page.last else { break }
        filter.after = last.client.id.rawValue
      }
    }
    var seen: Set<ClientName> = []
    let unique = records.filter { seen.insert($0.client).inserted }
    guard !unique.isEmpty else {
      throw CommandFailure(.notFound, label.map { "no client has the label \($0)" } ?? "there are no clients yet")
    }
    return unique
  }

  func flow(_ client: ClientRecord, _ text: String) async throws -> FlowRecord {
    guard let id = FlowID(text) else {
      throw CommandFailure(.usage, "\(text) is no flow id (F. and 13 characters)")
    }
    guard let flow = try await store.flow(FlowName(client: client.client, flow: id)) else {
      throw CommandFailure(
        .notFound, "\(client.shortName) has no flow \(text); `microraptor flows \(client.client)` lists them")
    }
    return flow
  }

  private static func list(_ records: [ClientRecord]) -> String {
    records.map { "  \($0.client)  \(Terminal.printable($0.facts.hostname))" }.joined(separator: "\n")
  }
}

extension ClientRecord {
  /// The host name, or the id when it is not known yet.
  var shortName: String {
    facts.hostname.isEmpty ? client.description : Terminal.printable(facts.hostname)
  }

  /// Whether a reader of the client was heard within two of its longest polls.
  func isOnline(at now: Timestamp) -> Bool {
    lastSeen.map { $0.advanced(by: .seconds(180)) >= now } ?? false
  }
}

/// Spans of time as people say them.
enum TimeText {
  static func ago(_ time: Timestamp?, at now: Timestamp) -> String {
    guard let time else { return "never" }
    let seconds = max(0, now.seconds - time.seconds)
    return switch seconds {
    case 0..<60: "\(seconds) s ago"
    case 60..<3_600: "\(seconds / 60) min ago"
    case 3_600..<172_800: "\(seconds / 3_600) h ago"
    default: "\(seconds / 86_400) days ago"
    }
  }

  /// Local ISO 8601 in UTC, to the second.
  static func utc(_ time: Timestamp?) -> String {
    guard let time else { return "" }
    return time.date.formatted(.iso8601)
  }
}
