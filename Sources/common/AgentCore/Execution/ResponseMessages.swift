import FoundationEssentials
import Wire

/// The messages a flow or event query sends (wire.md §4).
enum ResponseMessages {
  static let logRequestID: UInt64 = 980
  static let statsRequestID: UInt64 = 981
  static let uploadRequestID: UInt64 = 5

  /// One response part. Bytes that are not UTF-8 are replaced, so that no receiver refuses the body.
  ///
  /// - Parameter byteOffset: uncompressed bytes sent before under this name; nil: not compressed.
  static func rows(
    _ part: PartBuilder.Part, of query: Proto_VQLRequest, at place: Collector.Place, session: String,
    timestamp: UInt64, byteOffset: UInt64?
  ) -> Proto_VeloMessage {
    var response = Proto_VQLResponse()
    response.columns = part.columns
    response.query = query
    response.timestamp = timestamp
    response.queryID = UInt64(place.statement)
    response.part = UInt64(part.number)
    response.totalRows = UInt64(part.rows)
    response.queryStartRow = UInt64(place.startRow)
    if let byteOffset, let packed = try? Zlib.deflate(part.jsonl) {
      response.compressedJsonResponse = Data(packed)
      response.uncompressedSize = UInt64(part.jsonl.count)
      response.byteOffset = byteOffset
    } else {
      response.jsonlresponse = String(decoding: part.jsonl, as: UTF8.self)
    }
    var message = Proto_VeloMessage()
    message.sessionID = session
    message.vqlresponse = response
    return message
  }

  static func log(_ log: Proto_LogMessage, session: String) -> Proto_VeloMessage {
    var message = Proto_VeloMessage()
    message.sessionID = session
    message.requestID = logRequestID
    message.logMessage = log
    return message
  }

  /// A single line outside any flow's own log.
  static func line(_ level: String, _ text: String, session: String, seconds: UInt64) -> Proto_VeloMessage {
    var log = Proto_LogMessage()
    log.numberOfRows = 1
    log.jsonl = LogBatch.line(level, text, seconds)
    log.errorMessage = level == "ERROR" ? text : ""
    return self.log(log, session: session)
  }

  static func stats(_ stats: Proto_FlowStats, session: String) -> Proto_VeloMessage {
    var message = Proto_VeloMessage()
    message.sessionID = session
    message.requestID = statsRequestID
    message.flowStats = stats
    return message
  }

  /// The final word about a flow that cannot be answered otherwise.
  static func ended(
    _ status: Proto_VeloStatus.ReturnedStatus, _ text: String
  ) -> Proto_FlowStats {
    var entry = Proto_VeloStatus()
    entry.status = status
    entry.errorMessage = text
    var stats = Proto_FlowStats()
    stats.flowComplete = true
    stats.queryStatus = [entry]
    return stats
  }
}
