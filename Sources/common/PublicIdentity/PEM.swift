import FoundationEssentials

/// PEM text by the protocol's rule: blocks of other types are skipped and the first match is used (crypto.md §1).
package enum PEM {
  /// The DER bytes of the first block of this type, or nil.
  package static func firstBlock(_ type: String, in text: String) -> [UInt8]? {
    blocks(type, in: text).first
  }

  /// The DER bytes of every block of this type.
  package static func blocks(_ type: String, in text: String) -> [[UInt8]] {
    let begin = "-----BEGIN \(type)-----"
    let end = "-----END \(type)-----"
    var result: [[UInt8]] = []
    var body: [Substring]?
    for line in text.split(omittingEmptySubsequences: true, whereSeparator: \.isNewline) {
      let trimmed = String(line.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
      if trimmed == begin {
        body = []
      } else if trimmed == end {
        // Headers such as "DEK-Info: …" mark an encrypted block, which is not readable here.
        if let lines = body, !lines.contains(where: { $0.contains(":") }),
          let data = Data(base64Encoded: lines.joined()), !data.isEmpty
        {
          result.append([UInt8](data))
        }
        body = nil
      } else if body != nil {
        body?.append(Substring(trimmed))
      }
    }
    return result
  }

  /// One block, lines of 64 characters, with a final line feed.
  package static func encode(_ type: String, _ der: [UInt8]) -> String {
    let base64 = Array(Data(der).base64EncodedString().utf8)
    var text = "-----BEGIN \(type)-----\n"
    for start in stride(from: 0, to: base64.count, by: 64) {
      text += String(decoding: base64[start..<min(start + 64, base64.count)], as: UTF8.self) + "\n"
    }
    return text + "-----END \(type)-----\n"
  }
}
