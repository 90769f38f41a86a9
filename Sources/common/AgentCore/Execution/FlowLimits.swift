/// The limits of a whole flow (client.md §6.1). A value; its owner guards it.
struct FlowLimits: Equatable {
  let maxRows: UInt64
  let maxUploadBytes: UInt64
  private(set) var rows: UInt64 = 0
  private(set) var uploadBytes: UInt64 = 0

  init(maxRows: UInt64, maxUploadBytes: UInt64) {
    self.maxRows = maxRows
    self.maxUploadBytes = maxUploadBytes
  }

  /// - Returns: the error that cancels the flow, when a limit is crossed.
  mutating func add(rows count: Int, flow: String) -> String? {
    rows += UInt64(max(0, count))
    guard maxRows > 0, rows > maxRows else { return nil }
    return "Rows \(rows) exceeded limit \(maxRows) for flow \(flow). Cancelling."
  }

  mutating func add(uploadBytes count: Int, flow: String) -> String? {
    uploadBytes += UInt64(max(0, count))
    guard maxUploadBytes > 0, uploadBytes > maxUploadBytes else { return nil }
    return "Upload bytes \(uploadBytes) exceeded limit \(maxUploadBytes) for flow \(flow). Cancelling."
  }
}
