import Wire

/// What a `FlowStats` says about its flow (server.md §2, FlowStats).
struct FlowProgress: Equatable {
  /// The agent does not know the flow (client.md §6.3).
  var isUnknown: Bool
  var isComplete: Bool
  var hasError: Bool
  /// The first error's text.
  var errorText: String
  var totals: FlowTotals

  init(_ stats: Proto_FlowStats) {
    isComplete = stats.flowComplete
    isUnknown = false
    hasError = false
    errorText = ""
    totals = FlowTotals()
    if stats.flowComplete, stats.queryStatus.count == 1, let only = stats.queryStatus.first {
      isUnknown = only.status == .unknownFlow || only.errorMessage.hasPrefix("Flow not known")
    }
    for status in stats.queryStatus { add(status) }
  }

  private mutating func add(_ status: Proto_VeloStatus) {
    if status.status != .ok, status.status != .progress {
      if !hasError { errorText = status.errorMessage }
      hasError = true
    }
    totals.rows = totals.rows.addingClamped(status.resultRows)
    totals.logs = totals.logs.addingClamped(status.logRows)
    totals.uploadedFiles = totals.uploadedFiles.addingClamped(status.uploadedFiles)
    totals.uploadedBytes = totals.uploadedBytes.addingClamped(status.uploadedBytes)
    totals.expectedUploadedBytes = totals.expectedUploadedBytes.addingClamped(status.expectedUploadedBytes)
    totals.duration = max(totals.duration, status.duration)
    totals.lastActive = max(totals.lastActive, Int64(saturating: status.lastActive))
    let first = Int64(saturating: status.firstActive)
    if first > 0 { totals.firstActive = totals.firstActive == 0 ? first : min(totals.firstActive, first) }
  }
}

extension Int64 {
  /// The sum, at most `Int64.max`; a negative addend (a client's nonsense) counts as zero.
  func addingClamped(_ other: Int64) -> Int64 {
    let (sum, overflow) = addingReportingOverflow(Swift.max(0, other))
    return overflow ? .max : sum
  }
}

/// The rule of `query_start_row` (server.md §2, Rows).
enum RowRule {
  enum Decision: Equatable {
    /// Store with this index for the first row.
    case store(first: Int64)
    /// These rows are there already.
    case drop
  }

  /// - Parameter next: the index after the last stored row of this name; 0 without rows.
  ///
  /// A part that starts below what is stored was stored before. A part after the first without a start index comes
  /// from an agent that does not count, and rows of a child flow count from zero: both are appended. A gap is
  /// accepted, and the rows keep the agent's numbers, so that this part is recognised too when it comes again.
  static func decide(_ part: RowsPart, next: Int64) -> Decision {
    if part.isChild || (part.part > 0 && part.startRow == 0) { return .store(first: next) }
    if next > part.startRow { return .drop }
    // Numbers near the end of the range would leave no room for later rows.
    return part.startRow > Int64.max / 2 ? .store(first: next) : .store(first: part.startRow)
  }
}
