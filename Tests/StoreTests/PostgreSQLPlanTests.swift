import Foundation
import TestDatabase
import XCTest

@testable import Store

/// With 100,000 clients and a million flows each hot statement must be a search in an index, never a scan.
final class PostgreSQLPlanTests: XCTestCase {
  private static let hot = [
    PGTransaction.sqlLock, PGIngest.sqlClients, PGIngest.sqlLock, PGIngest.sqlLockFree, PGIngest.sqlRemember,
    PGIngest.sqlNewResultSets, PGIngest.sqlSameLogs, PGIngestNeeds.sqlResultSets, PGIngestNeeds.sqlUploads,
    PGIngestNeeds.sqlFacts, PGFlowDraft.sqlLoad, PGFlowDraft.sqlCreate, PGFlowDraft.sqlSave, PGFlowDraft.sqlRunning,
    PGFlowDraft.sqlRevive, PGFlowDraft.sqlEnd, PGFlowDraft.sqlRequeue, PGFlowDraft.sqlOpenTasks,
    PGFlowDraft.sqlForgetQuestions, PGIngestWrites.sqlContacts, PGIngestWrites.sqlRows, PGIngestWrites.sqlAdvance,
    PGIngestWrites.sqlLogs, PGIngestWrites.sqlFiles, PGIngestWrites.sqlPieces, PGIngestWrites.sqlTrim,
    PGIngestWrites.sqlFacts, PGIngestWrites.sqlLabels, PGMonitoring.sqlInsert, PGMonitoring.sqlAll,
    PGMonitoring.sqlOfClient, PGMonitoring.sqlArtifact, PGMonitoring.sqlArtifacts, PostgreSQLStore.sqlKey,
    PostgreSQLStore.sqlClientKey, PostgreSQLStore.sqlEnroll, PostgreSQLStore.sqlContact, PostgreSQLStore.sqlClient,
    PostgreSQLStore.sqlPage, PostgreSQLStore.sqlPrefix, PostgreSQLStore.sqlWithLabel, PostgreSQLStore.sqlRemoveLabels,
    PostgreSQLStore.sqlAddLabels, PostgreSQLStore.sqlHoldClients, PostgreSQLStore.sqlNewFlows,
    PostgreSQLStore.sqlReopenFlows, PostgreSQLStore.sqlLockKeys, PostgreSQLStore.sqlNewTasks, PostgreSQLStore.sqlOpen,
    PostgreSQLStore.sqlOpenByName, PostgreSQLStore.sqlMessages, PostgreSQLStore.sqlLease, PostgreSQLStore.sqlEndTasks,
    PostgreSQLStore.sqlAsk, PostgreSQLStore.sqlForgetQuestion, PostgreSQLStore.sqlExpireFlows,
    PostgreSQLStore.sqlRelease, PostgreSQLStore.sqlWithdraw, PostgreSQLStore.sqlFlowState, PostgreSQLStore.sqlOpenTask,
    PostgreSQLStore.sqlFlows, PostgreSQLStore.sqlFlow, PostgreSQLStore.sqlFlowKey, PostgreSQLStore.sqlSources,
    PostgreSQLStore.sqlChunks, PostgreSQLStore.sqlLogs, PostgreSQLStore.sqlUploads, PostgreSQLStore.sqlPieces,
    PostgreSQLStore.sqlAuditTrail, PostgreSQLStore.sqlLockExpired, PostgreSQLStore.sqlOldDigests,
    PostgreSQLStore.sqlOldChanges, PostgreSQLStore.sqlOldTokens, PGClient.sqlToken, PGClient.sqlFence,
    PGClient.sqlOutcome, PostgreSQLStore.sqlSeat, PostgreSQLStore.sqlTakeSeat,
    PostgreSQLStore.sqlStanding, PostgreSQLStore.sqlInterrogated, PostgreSQLStore.sqlTableGiven,
    PostgreSQLStore.sqlHuntsSeen, PostgreSQLStore.sqlTraits, PostgreSQLStore.sqlVoidTables, PostgreSQLStore.sqlJoin,
    PostgreSQLStore.sqlMember, PostgreSQLStore.sqlRunningHunts, PostgreSQLStore.sqlHunts, PostgreSQLStore.sqlHunt,
    PostgreSQLStore.sqlHuntProgress, PostgreSQLStore.sqlHuntRows, PostgreSQLStore.sqlMembers,
    PostgreSQLStore.sqlStopHunt, PostgreSQLStore.sqlHuntWaiting, PostgreSQLStore.sqlWithdrawHunt,
    PostgreSQLStore.sqlWithdrawFlows, PostgreSQLStore.sqlLabelsChanged,
    PostgreSQLStore.sqlOldMonitoring, PostgreSQLStore.sqlOldLogs, PostgreSQLStore.sqlOldAudit,
    PostgreSQLStore.sqlOldUploads, PostgreSQLStore.sqlPiecesOfUploads, PostgreSQLStore.sqlRemoveUploads,
    PostgreSQLStore.sqlEndedFlows, PostgreSQLStore.sqlRemoveFlows,
  ]

  func testHotStatementsUseIndexes() async throws {
    let store = try await PostgreSQLStore.open(url: try PostgreSQLServer.shared().newDatabase())
    for (number, sql) in (Self.hot + PGPurge.statements + PostgreSQLStore.flowPurge).enumerated() {
      // As the store runs it: prepared, with a plan that serves all values.
      let types = (1...12).filter { sql.contains("$\($0)::") || sql.contains("$\($0) ") }.count
      let values = Array(repeating: "NULL", count: types).joined(separator: ", ")
      let answers = try await store.client.query([
        PGStatement("PREPARE p\(number) AS \(sql)"),
        PGStatement("EXPLAIN EXECUTE p\(number)\(types == 0 ? "" : "(\(values))")"),
      ])
      let plan = (answers.last?.rows ?? []).map { $0.text(0) }
      XCTAssertFalse(plan.isEmpty)
      for line in plan {
        XCTAssertFalse(line.contains("Seq Scan"), "\(plan.joined(separator: "\n"))\n\(sql)")
      }
    }
    await store.close()
  }

  func testOrderedReadsNeedNoSort() async throws {
    let store = try await PostgreSQLStore.open(url: try PostgreSQLServer.shared().newDatabase())
    let ordered = [
      PostgreSQLStore.sqlPage, PostgreSQLStore.sqlFlows, PostgreSQLStore.sqlLogs, PostgreSQLStore.sqlOpen,
      PGMonitoring.sqlAll, PGMonitoring.sqlOfClient, PostgreSQLStore.sqlAuditTrail, PostgreSQLStore.sqlChunks,
    ]
    for (number, sql) in ordered.enumerated() {
      let types = (1...12).filter { sql.contains("$\($0)::") }.count
      let values = Array(repeating: "NULL", count: types).joined(separator: ", ")
      let answers = try await store.client.query([
        PGStatement("PREPARE o\(number) AS \(sql)"), PGStatement("EXPLAIN EXECUTE o\(number)(\(values))"),
      ])
      let plan = (answers.last?.rows ?? []).map { $0.text(0) }
      // The labels of one client are sorted, inside a sub-plan.
      let main = plan.prefix { !$0.contains("SubPlan") }
      XCTAssertFalse(main.contains { $0.contains("Sort") }, "\(plan.joined(separator: "\n"))\n\(sql)")
    }
    await store.close()
  }
}
