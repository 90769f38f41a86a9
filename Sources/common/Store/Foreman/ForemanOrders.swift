import PublicIdentity

/// What the operators want of all clients, as of one moment. A frontend keeps it in memory and compares each client's
/// standing with it, so that a contact without news costs no query more.
package struct ForemanOrders: Sendable, Equatable {
  private var byOrg: [String: OrgOrders] = [:]

  package init() {}

  package init(tables: [EventTableSetting], hunts: [HuntOrder]) {
    for table in tables { byOrg[table.org, default: OrgOrders()].add(table) }
    for hunt in hunts { byOrg[hunt.org, default: OrgOrders()].hunts.append(hunt) }
    for org in byOrg.keys { byOrg[org]?.hunts.sort { $0.startedAt < $1.startedAt } }
  }

  func of(_ org: String) -> OrgOrders? { byOrg[org] }
}

/// The orders of one org.
struct OrgOrders: Sendable, Equatable {
  private(set) var tables: [EventTableSetting] = []
  /// When a table changed last; nil when there never was one.
  private(set) var tablesChanged: Timestamp?
  private(set) var hasLabelTables = false
  /// In the order of their start.
  var hunts: [HuntOrder] = []

  mutating func add(_ table: EventTableSetting) {
    tables.append(table)
    tablesChanged = max(tablesChanged ?? table.changedAt, table.changedAt)
    if !table.label.isEmpty { hasLabelTables = true }
  }

  /// The least version (nanoseconds) that the table of a client may have; nil without tables. A change of labels
  /// demands a new one only where tables go by label.
  func tableDemand(_ standing: ClientStanding) -> Int64? {
    guard let tablesChanged else { return nil }
    let changed = hasLabelTables ? max(tablesChanged, standing.labelsChanged) : tablesChanged
    return changed.microseconds.multipliedReportingOverflow(by: 1_000).partialValue
  }
}

/// What one client is to be given now.
struct ForemanDue: Sendable {
  var interrogates = false
  /// The new version of its event table.
  var tableVersion: Int64?
  var tables: [EventTableSetting] = []
  var hunts: [HuntOrder] = []
  /// What `huntsSeen` becomes; nil when it stays.
  var huntsSeen: Timestamp?

  var isEmpty: Bool { !interrogates && tableVersion == nil && huntsSeen == nil }
  /// Whether its labels and system have to be known.
  var needsTraits: Bool { tableVersion != nil || !hunts.isEmpty }

  /// - Parameters:
  ///   - interrogates: whether a client that was never asked who it is may be asked now.
  ///   - patience: how long a client may report another table than it was given.
  init(
    _ standing: ClientStanding, _ orders: OrgOrders?, interrogates: Bool, now: Timestamp, patience: Duration
  ) {
    self.interrogates = interrogates && !standing.isInterrogated
    guard let orders else { return }
    if let newest = orders.hunts.last?.startedAt, newest > standing.huntsSeen {
      huntsSeen = newest
      hunts = orders.hunts.filter { $0.startedAt > standing.huntsSeen && $0.expiresAt > now }
    }
    guard let demand = orders.tableDemand(standing) else { return }
    let time = now.microseconds &* 1_000
    // It said again and again that it runs an older one: its state was lost, or the table was.
    let isForgotten =
      standing.tableReported < standing.tableGiven && standing.tableGiven &+ patience.wholeMicroseconds &* 1_000 < time
    guard standing.tableGiven < demand || isForgotten else { return }
    tableVersion = max(time, demand, standing.tableGiven &+ 1, standing.tableReported &+ 1)
    tables = orders.tables
  }
}
