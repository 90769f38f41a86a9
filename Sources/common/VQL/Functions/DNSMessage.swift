/// Questions to name servers and what they answer (RFC 1035), without any input or output.
enum DNSMessage {
  static let types: [String: UInt16] = [
    "A": 1, "NS": 2, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33,
  ]

  /// A question with recursion desired; nil when the name cannot be asked for.
  static func question(_ name: String, type: UInt16, id: UInt16) -> [UInt8]? {
    var out = [UInt8(id >> 8), UInt8(id & 255), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    let labels = name.split(separator: ".")
    guard !labels.isEmpty else { return nil }
    for label in labels {
      guard (1...63).contains(label.utf8.count) else { return nil }
      out.append(UInt8(label.utf8.count))
      out += label.utf8
    }
    guard out.count < 12 + 255 else { return nil }
    return out + [0, UInt8(type >> 8), UInt8(type & 255), 0, 1]
  }

  /// The name under which an address is looked up.
  static func reverseName(_ address: IPAddress) -> String {
    if address.bytes.count == 4 {
      return address.bytes.reversed().map(String.init).joined(separator: ".") + ".in-addr.arpa"
    }
    let digits = Hex.encode(address.bytes).reversed().map { String(decoding: [$0], as: UTF8.self) }
    return digits.joined(separator: ".") + ".ip6.arpa"
  }

  /// The texts of the records of a type; nil when the bytes are no answer to the question.
  static func answers(_ bytes: [UInt8], to question: [UInt8], type: UInt16) throws -> [String]? {
    guard bytes.count >= 12, bytes.prefix(2).elementsEqual(question.prefix(2)), bytes[2] & 0x80 != 0 else { return nil }
    switch bytes[3] & 15 {
    case 0: break
    case 3: throw CallError("no such host")
    case let code: throw CallError("the name server answered with code \(code)")
    }
    func number(_ place: Int) -> Int { place + 1 < bytes.count ? Int(bytes[place]) << 8 | Int(bytes[place + 1]) : 0 }
    var place = 12
    for _ in 0..<number(4) {
      guard name(bytes, &place) != nil else { return nil }
      place += 4
    }
    var found: [String] = []
    for _ in 0..<number(6) {
      guard name(bytes, &place) != nil, place + 10 <= bytes.count else { break }
      let kind = UInt16(number(place))
      let length = number(place + 8)
      place += 10
      guard place + length <= bytes.count else { break }
      if kind == type, let text = text(bytes, place, length, kind) { found.append(text) }
      place += length
    }
    return found
  }

  private static func text(_ bytes: [UInt8], _ start: Int, _ length: Int, _ type: UInt16) -> String? {
    var place = start
    switch type {
    case 1 where length == 4, 28 where length == 16: return IPAddress(Array(bytes[start..<start + length])).text
    case 2, 5, 12: return name(bytes, &place)
    case 15 where length > 2:
      place += 2
      return name(bytes, &place)
    case 33 where length > 6:
      let port = Int(bytes[start + 4]) << 8 | Int(bytes[start + 5])
      place += 6
      return name(bytes, &place).map { "\($0):\(port)" }
    case 16:
      var out: [UInt8] = []
      while place < start + length {
        let count = Int(bytes[place])
        guard place + 1 + count <= start + length else { break }
        out += bytes[(place + 1)..<(place + 1 + count)]
        place += 1 + count
      }
      return String(decoding: out, as: UTF8.self)
    default: return nil
    }
  }

  /// A name, which may continue elsewhere in the message; it ends with a dot.
  private static func name(_ bytes: [UInt8], _ place: inout Int) -> String? {
    var text = ""
    var at = place
    var jumps = 0
    while at < bytes.count {
      let length = Int(bytes[at])
      if length == 0 {
        if jumps == 0 { place = at + 1 }
        return text.isEmpty ? "." : text
      }
      if length & 0xC0 == 0xC0 {
        guard at + 1 < bytes.count, jumps < 20 else { return nil }
        if jumps == 0 { place = at + 2 }
        jumps += 1
        at = (length & 0x3F) << 8 | Int(bytes[at + 1])
      } else {
        guard length < 64, at + 1 + length <= bytes.count, text.utf8.count < 256 else { return nil }
        text += String(decoding: bytes[(at + 1)...(at + length)], as: UTF8.self) + "."
        at += length + 1
      }
    }
    return nil
  }
}
