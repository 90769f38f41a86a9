import PublicIdentity

/// What operators want of many clients at once (server.md §4). Each change announces `.foremanChanged`. All errors are
/// `StoreError`.
package protocol ForemanStore: Sendable {
  /// The event tables and running hunts of all orgs.
  func foremanOrders(now: Timestamp) async throws -> ForemanOrders

  /// Replaces what clients with the setting's label watch; its time and author are the store's to set.
  func setEventTable(_ setting: EventTableSetting, by: Operator) async throws
  /// The settings of an org in the order of their labels.
  func eventTables(org: String) async throws -> [EventTableSetting]

  func createHunt(_ hunt: NewHunt, by: Operator) async throws -> HuntID
  /// The newest hunts of an org first, with their progress.
  func hunts(org: String, limit: Int) async throws -> [HuntRecord]
  func hunt(_ id: HuntID, org: String) async throws -> HuntRecord?
  /// The clients of a hunt after `cursor` (0 from the start), at most `limit`.
  func members(of hunt: HuntID, org: String, after cursor: Int64, limit: Int) async throws -> [HuntMember]
  /// Ends a hunt: no client joins any more, and what clients have not fetched yet is withdrawn. Throws `.notFound`.
  func stopHunt(_ id: HuntID, org: String, by: Operator) async throws
}
