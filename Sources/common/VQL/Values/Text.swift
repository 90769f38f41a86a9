/// Text forms (language.md §6, last part).
extension VQLValue {
  /// The form that `str()`, group keys and string arguments use.
  var text: [UInt8] {
    if case .bytes(let bytes) = self { return bytes }
    var out: [UInt8] = []
    appendText(to: &out)
    return out
  }

  func appendText(to out: inout [UInt8], rfcTimes: Bool = false, depth: Int = 0) {
    switch self {
    case .null: out.append(contentsOf: "Null".utf8)
    case .bool(let value): out.append(contentsOf: (value ? "true" : "false").utf8)
    case .int(let value): NumberText.appendInteger(value, to: &out)
    case .integer(let value): out.append(contentsOf: value.text.utf8)
    case .double(let value): NumberText.appendText(value, to: &out)
    case .bytes(let bytes): out.append(contentsOf: bytes)
    case .array(let elements):
      guard depth < JSONWriter.maximumDepth else { return }
      out.append(UInt8(ascii: "["))
      for (place, element) in elements.enumerated() {
        if place > 0 { out.append(UInt8(ascii: " ")) }
        element.appendText(to: &out, rfcTimes: rfcTimes, depth: depth + 1)
      }
      out.append(UInt8(ascii: "]"))
    case .dict(let dict): JSONWriter.object(dict, zone: nil, depth: 0, to: &out)
    case .time(let time):
      out.append(
        contentsOf: (rfcTimes ? GoLayout.format(time.civil(in: nil), "2006-01-02T15:04:05Z07:00") : time.plainText).utf8
      )
    case .path(let path): out.append(contentsOf: path.text)
    case .query(let query): out.append(contentsOf: query.text.utf8)
    case .lazy(let thunk): thunk.value.appendText(to: &out, rfcTimes: rfcTimes, depth: depth)
    case .object(let object): out.append(contentsOf: object.text)
    }
  }

  /// Compact JSON of the value.
  package func appendJSON(to buffer: inout [UInt8]) { JSONWriter.value(self, zone: nil, to: &buffer) }
}
