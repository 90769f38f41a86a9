import Foundation
import Wire

/// What one job asks the store to write. Decisions that need no stored state are already taken.
package enum JobEffect: Sendable {
  case rows(RowsPart)
  case log(LogPart)
  case stats(FlowID, Proto_FlowStats)
  /// The agent has answered the question about the flow that was asked at this time (`FlowQuestion`).
  case answered(FlowID, question: Timestamp)
  case upload(UploadPiece)
  case uploadTransaction(FlowID, Proto_UploadTransaction)
  case monitoringRows(MonitoringPart)
  /// What the host says about itself, and labels it asks for.
  case hostFacts(HostFacts, labels: [String])
  /// The agent answered a status question with something else: it does not know such questions.
  case statusUnsupported
  /// A check-in; nothing is stored for it.
  case checkIn(eventTableVersion: UInt64)

  /// Whether a re-sent list must be recognised because of this effect.
  var isDurable: Bool {
    if case .checkIn = self { return false }
    return true
  }
}

/// Rows of one statement (wire.md §4, VQLResponse).
package struct RowsPart: Sendable, Equatable {
  package var flow: FlowID
  package var isChild: Bool
  package var artifact: String
  /// JSONL as received, inflated, ended by an LF.
  package var jsonl: Data
  package var count: Int64
  package var startRow: Int64
  package var part: UInt64
}

/// Lines of a flow's log (wire.md §4, LogMessage).
package struct LogPart: Sendable, Equatable {
  package var flow: FlowID
  package var isChild: Bool
  package var firstID: Int64
  package var count: Int64
  package var level: String
  package var jsonl: Data
  /// The alert that the line carries, as a row of `Server.Internal.Alerts`.
  package var alert: Data?
}

/// Rows or log lines of an event query, with `ClientId` in each row.
package struct MonitoringPart: Sendable, Equatable {
  package enum Kind: Int64, Sendable {
    case rows = 0
    case log = 1
  }

  package var kind: Kind
  package var artifact: String
  package var jsonl: Data
  package var count: Int64
}

/// A piece of an upload, inflated.
package struct UploadPiece: Sendable, Equatable {
  package var flow: FlowID
  package var number: Int64
  package var accessor: String
  package var components: [String]
  package var offset: Int64
  package var data: Data
  package var isLast: Bool
  package var size: Int64
  package var storedSize: Int64
  package var index: Data

  /// The client's path, for display.
  package var clientPath: String { components.joined(separator: "/") }
}

/// What one job comes to: effects, and a refusal if a part of it could not be used.
package struct JobOutcome: Sendable {
  package var effects: [JobEffect] = []
  package var failure: JobFailure?

  static let ignored = JobOutcome()

  static func refused(_ reason: JobFailure.Reason, _ detail: String) -> JobOutcome {
    JobOutcome(effects: [], failure: JobFailure(reason, detail))
  }

  static func effects(_ effects: JobEffect...) -> JobOutcome {
    JobOutcome(effects: effects, failure: nil)
  }
}
