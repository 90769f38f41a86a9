import Foundation

/// What the server says over a websocket: JSON that plays the part of an HTTP answer; absent members mean 0 or empty
/// (http.md §7).
struct WebSocketAnswer: Codable, Equatable, Sendable {
  var code: Int
  var err: String?
  /// The body, in base64.
  var data: String?

  init(code: Int, text: String? = nil, body: [UInt8] = []) {
    self.code = code
    err = text.flatMap { $0.isEmpty ? nil : $0 }
    data = body.isEmpty ? nil : Data(body).base64EncodedString()
  }

  /// The JSON; nil never happens with these members, and an answer that is not sent is an error to the peer.
  var json: [UInt8]? {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return (try? encoder.encode(self)).map { [UInt8]($0) }
  }
}
