/// One request of the agent (http.md §2); a message of a websocket stands for it where the URL says so (§7).
package struct TransportRequest: Sendable {
  package var url: BaseURL
  /// `server.pem`, `reader` or `control`.
  package var handler: String
  /// Absent: GET.
  package var body: [UInt8]?
  package var isUrgent = false
  package var isRedirected = false
  /// A longer response body is an error.
  package var responseLimit = 128 << 20
  /// Told the status as soon as the headers are there.
  package var onHeaders: (@Sendable (Int) -> Void)?
  /// Told of each step forward: a connection made, bytes that left or came. Called often, from any thread.
  package var onProgress: (@Sendable () -> Void)?

  package init(url: BaseURL, handler: String, body: [UInt8]?) {
    self.url = url
    self.handler = handler
    self.body = body
  }
}

/// A response that ended cleanly.
package struct TransportAnswer: Equatable, Sendable {
  package var status: Int
  package var body: [UInt8]
  package var location: String?
  package var retryAfter: Duration?
  /// The `Date` header as it came.
  package var date: String?
  /// It came as a websocket message (http.md §7).
  package var isMessage: Bool

  package init(
    status: Int, body: [UInt8], location: String? = nil, retryAfter: Duration? = nil, date: String? = nil,
    isMessage: Bool = false
  ) {
    self.status = status
    self.body = body
    self.location = location
    self.retryAfter = retryAfter
    self.date = date
    self.isMessage = isMessage
  }
}

/// Sends requests; throws when there is no connection or the response was cut.
package protocol Transport: Sendable {
  func perform(_ request: TransportRequest) async throws -> TransportAnswer
  func close() async
}
