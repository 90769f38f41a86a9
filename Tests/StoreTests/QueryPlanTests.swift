import Foundation
import GRDB
import XCTest

@testable import Store

/// With 100,000 clients and a million flows each hot statement must be a search in an index, never a scan.
final class QueryPlanTests: XCTestCase {
  private static let hot: [(sql: String, arguments: Int)] = [
    (SQL.clientKey, 2), (SQLiteStore.sqlKey, 2), (SQLiteStore.sqlEnroll, 5), (SQLiteStore.sqlClient, 2),
    (SQLiteStore.sqlPage, 3), (SQLiteStore.sqlByKey, 1), (SQLiteStore.sqlPrefix, 5), (SQLiteStore.sqlWithLabel, 1),
    (SQLiteStore.sqlLabels, 1), (SQLiteStore.sqlNewFlow, 5), (SQLiteStore.sqlFlowKey, 2), (SQLiteStore.sqlNewTask, 8),
    (SQLiteStore.sqlOpen, 1), (SQLiteStore.sqlMessage, 1), (SQLiteStore.sqlLease, 2), (SQLiteStore.sqlEndTask, 3),
    (SQLiteStore.sqlAsk, 3), (SQLiteStore.sqlWithdraw, 3), (SQLiteStore.sqlForgetQuestion, 1),
    (SQLiteStore.sqlFlows, 2), (SQLiteStore.sqlFlow, 2),
    (SQLiteStore.sqlSources, 1), (SQLiteStore.sqlChunkBefore, 2), (SQLiteStore.sqlChunks, 2), (SQLiteStore.sqlLogs, 3),
    (SQLiteStore.sqlMonitoring, 3), (SQLiteStore.sqlClientMonitoring, 4), (SQLiteStore.sqlUploads, 1),
    (SQLiteStore.sqlExpired, 1), (IngestWriter.sqlSeen, 2), (IngestWriter.sqlRemember, 3),
    (IngestWriter.sqlContact, 3), (IngestWriter.sqlTableVersion, 3), (IngestWriter.sqlResultSet, 2),
    (IngestWriter.sqlRows, 4), (IngestWriter.sqlAdvance, 4), (IngestWriter.sqlSameLog, 3), (IngestWriter.sqlLog, 5),
    (IngestWriter.sqlUpload, 10), (IngestWriter.sqlUploadDone, 3), (IngestWriter.sqlTransaction, 2),
    (FlowDraft.sqlLoad, 2), (FlowDraft.sqlCreate, 5), (FlowDraft.sqlSave, 11), (FlowDraft.sqlRunning, 1),
    (FlowDraft.sqlRevive, 1), (FlowDraft.sqlEnd, 3), (FlowDraft.sqlLeased, 1), (FlowDraft.sqlRequeue, 1),
    (FlowDraft.sqlAsked, 1), (SQLiteStore.sqlSeat, 2), (SQLiteStore.sqlTakeSeat, 7),
    (SQLiteStore.sqlEndedFlows, 1), (SQLiteStore.sqlUploadsOfFlow, 1), (ChangePoller.after, 1),
    (Database.sqlArtifact, 2),
    (SQLiteStore.sqlStanding, 2), (SQLiteStore.sqlInterrogated, 2), (SQLiteStore.sqlTableGiven, 2),
    (SQLiteStore.sqlHuntsSeen, 2), (SQLiteStore.sqlVoidTables, 2), (SQLiteStore.sqlJoin, 2),
    (SQLiteStore.sqlMember, 3), (SQLiteStore.sqlRunningHunts, 1), (SQLiteStore.sqlHunts, 2), (SQLiteStore.sqlHunt, 2),
    (SQLiteStore.sqlHuntRows, 1), (SQLiteStore.sqlMembers, 3), (SQLiteStore.sqlWithdrawHunt, 1),
    (Database.sqlLabelsChanged, 2),
  ]

  func testHotStatementsUseIndexes() throws {
    let queue = try DatabaseQueue()
    try Schema.migrator().migrate(queue)
    try queue.write { db in
      for (sql, arguments) in Self.hot + (Purge.statements + FlowPurge.statements).map({ ($0, 1) }) {
        let plan = try Row.fetchAll(
          db, sql: "EXPLAIN QUERY PLAN " + sql, arguments: StatementArguments(Array(repeating: 1, count: arguments)))
        for step in plan {
          let detail: String = step["detail"]
          XCTAssertFalse(detail.hasPrefix("SCAN"), "\(detail)\n\(sql)")
          XCTAssertFalse(detail.contains("USE TEMP B-TREE FOR ORDER BY"), "\(detail)\n\(sql)")
        }
      }
    }
  }

  /// A search in the index of all clients of an org is no scan by name, and still looks at every client.
  func testASearchByNameUsesTheIndexOfNames() throws {
    let queue = try DatabaseQueue()
    try Schema.migrator().migrate(queue)
    let plan = try queue.read { db in
      try Row.fetchAll(
        db, sql: "EXPLAIN QUERY PLAN " + SQLiteStore.sqlPrefix,
        arguments: StatementArguments(Array(repeating: "a", count: 5))
      ).map { $0["detail"] as String }
    }
    for index in ["clients_hostname (hostname>? AND hostname<?)", "clients_fqdn (fqdn>? AND fqdn<?)"] {
      XCTAssertTrue(plan.contains { $0.contains(index) }, "\(plan)")
    }
    XCTAssertTrue(plan.contains { $0.contains("(org=? AND client>? AND client<?)") }, "\(plan)")
  }

  /// Steps of housekeeping begin at the oldest record and stop after 500; they name a scan of the table's own order.
  func testHousekeepingIsBounded() throws {
    let steps = [
      SQLiteStore.sqlOldDigests, SQLiteStore.sqlOldChanges, SQLiteStore.sqlOldMonitoring, SQLiteStore.sqlOldLogs,
      SQLiteStore.sqlOldAudit, SQLiteStore.sqlOldUploads,
    ]
    for sql in steps {
      XCTAssertNotNil(sql.range(of: "ORDER BY (id|seq) LIMIT (500|200|50)\\b", options: .regularExpression), sql)
    }
  }
}
