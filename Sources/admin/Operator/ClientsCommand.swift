import ArgumentParser
import Foundation
import Store

/// `microraptor clients`.
struct ClientsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "clients", abstract: "List clients.",
    discussion: "SEARCH is the beginning of a client id, host name or FQDN, or label:NAME.")

  @OptionGroup var access: StoreAccess
  @Flag(name: .long, help: "A JSON array with all that is known of each client.")
  var json = false
  @Option(name: .long, help: "Only clients in contact within the last N minutes.")
  var seen: Int?
  @Option(name: .long, help: "At most so many.")
  var limit = 1_000
  @Argument(help: "What to search for; everything without it.")
  var search: String?

  func validate() throws {
    guard limit > 0 else { throw ValidationError("--limit must be at least 1") }
    if let seen, seen <= 0 { throw ValidationError("--seen must be at least 1") }
  }

  func run() async throws {
    try await access.withStore { store in
      let now = Timestamp.now()
      var filter = ClientFilter()
      filter.search = search
      filter.limit = limit
      filter.seenSince = seen.map { now.advanced(by: .seconds(-60 * Int64($0))) }
      let records = try await store.clients(filter)
      if json {
        Terminal.print(try ClientJSON.text(records.map(ClientJSON.init)))
        return
      }
      let rows = records.map { record in
        [
          record.client.description, record.facts.hostname, record.facts.system, record.facts.release,
          TimeText.ago(record.lastSeen, at: now), record.lastAddress, record.labels.joined(separator: " "),
        ]
      }
      Terminal.print(
        TableLayout.table(["Client", "Host", "System", "Release", "Last seen", "Address", "Labels"], rows))
      if records.isEmpty { Terminal.note(search == nil ? "there are no clients yet" : "no client matches") }
      if records.count == limit { Terminal.note("more may follow: give --limit") }
    }
  }
}

/// A client as JSON, with the keys of the protocol's ClientInfo where they exist (wire.md §5).
struct ClientJSON: Encodable {
  var clientId: String
  var orgId: String
  var hostname: String
  var fqdn: String
  var system: String
  var release: String
  var architecture: String
  var clientName: String
  var clientVersion: String
  var buildTime: String
  var buildUrl: String
  var installTime: Int64
  var macAddresses: [String]
  var labels: [String]
  var firstSeenAt: Int64
  /// Microseconds.
  var ping: Int64
  var ipAddress: String

  init(_ record: ClientRecord) {
    clientId = record.client.id.rawValue
    orgId = record.client.org
    hostname = record.facts.hostname
    fqdn = record.facts.fqdn
    system = record.facts.system
    release = record.facts.release
    architecture = record.facts.architecture
    clientName = record.facts.clientName
    clientVersion = record.facts.clientVersion
    buildTime = record.facts.buildTime
    buildUrl = record.facts.buildURL
    installTime = record.facts.installTime
    macAddresses = record.facts.macAddresses
    labels = record.labels
    firstSeenAt = record.firstSeen.seconds
    ping = record.lastSeen?.microseconds ?? 0
    ipAddress = record.lastAddress
  }

  /// Pretty JSON with an LF.
  static func text(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self) + "\n"
  }
}
