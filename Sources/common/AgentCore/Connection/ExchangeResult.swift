/// What one POST came to, as far as the data that was sent and the choice of server are concerned (http.md §6).
package enum ExchangeResult: Equatable, Sendable {
  /// A cleanly ended 200 whose envelope is authentic: serialized message lists of the server, perhaps none.
  case sealed([[UInt8]])
  /// A websocket's 200 for results. The protocol seals nothing into it (http.md §7).
  case accepted
  /// A cleanly ended 200 with nothing in it. Nobody vouched for it.
  case empty
  /// A cleanly ended 200 with padding only: how a reader's wait ends without a task (http.md §5). For results it is a
  /// server that failed to process them.
  case padding
  /// A cleanly ended 200 with something that is not an authentic answer of our server: a captive portal, another key.
  case foreign(String)
  /// 301 with its `Location`.
  case redirect(String?)
  /// 400 or 413: this body will not be taken.
  case refused(Int)
  /// 406: the server does not know our key.
  case enrol
  /// 409: a reader of this identity is connected already, perhaps our own dead one that the server has not noticed.
  case conflict
  /// 408, 429 or 503: not now.
  case busy(Int, retryAfter: Duration?)
  /// Any other status.
  case rejected(Int, retryAfter: Duration?)
  /// No connection, or one that ended before an answer began.
  case broken(String)
  /// A 200 that was cut: the server served us and then went away.
  case interrupted(String)

  /// Whether the server did its part, so that the connector stays with it.
  package var keepsServer: Bool {
    switch self {
    case .sealed, .accepted, .empty, .padding, .refused, .enrol, .conflict: true
    case .foreign, .redirect, .busy, .rejected, .broken, .interrupted: false
    }
  }

  /// For log lines.
  package var summary: String {
    switch self {
    case .sealed(let lists): "200, authentic answer with \(lists.count) message lists"
    case .accepted: "200, taken"
    case .empty: "200, empty"
    case .padding: "200, padding only"
    case .foreign(let reason): "200, but not an answer of our server (\(reason))"
    case .redirect(let location): "301 to \(location ?? "nowhere")"
    case .refused(let status): "\(status), the body is refused"
    case .enrol: "406, please enrol"
    case .conflict: "409, a reader of this identity is connected already"
    case .busy(let status, let after): "\(status), busy\(Self.suffix(after))"
    case .rejected(403, let after):
      "403, the server cannot open our message\(Self.suffix(after)): its key has changed and a new session follows, or "
        + "Client.nonce is not this deployment's"
    case .rejected(404, let after): "404, no such page\(Self.suffix(after)): is the server's base_path in server_urls?"
    case .rejected(let status, let after): "\(status)\(Self.suffix(after))"
    case .broken(let reason), .interrupted(let reason): reason
    }
  }

  private static func suffix(_ after: Duration?) -> String {
    after.map { ", Retry-After \($0.inSeconds)" } ?? ""
  }
}
