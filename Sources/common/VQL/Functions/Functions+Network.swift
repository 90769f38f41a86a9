/// What `ip()` gives.
final class AddressObject: VQLObject {
  let address: IPAddress
  init(_ address: IPAddress) { self.address = address }
  override var typeName: String { "net.IP" }
  override var isTrue: Bool { true }
  override var text: [UInt8] { Array(address.text.utf8) }
  override var output: VQLValue { .string(address.text) }

  override func member(_ name: String, in scope: Scope) -> VQLValue? {
    switch name {
    case "String": .string(address.text)
    case "IsPrivate": .bool(address.isPrivate)
    case "IsLoopback": .bool(address.isLoopback)
    case "IsMulticast": .bool(address.isMulticast)
    case "IsUnspecified": .bool(address.isUnspecified)
    case "IsGlobalUnicast": .bool(address.isGlobalUnicast)
    case "IsLinkLocalUnicast": .bool(address.isLinkLocal)
    case "IsLinkLocalMulticast": .bool(address.isLinkLocalMulticast)
    default: nil
    }
  }

  override func compare(_ other: VQLValue) -> Int? {
    guard case .object(let object as AddressObject) = other, object.address.bytes.count == address.bytes.count else {
      return nil
    }
    if address == object.address { return 0 }
    return address.bytes.lexicographicallyPrecedes(object.address.bytes) ? -1 : 1
  }
}

/// What `url()` gives.
final class AddressedURL: VQLObject {
  private let fields: VQLDict
  init(_ fields: VQLDict) { self.fields = fields }
  override var typeName: String { "*url.URL" }
  override var isTrue: Bool { true }
  override var text: [UInt8] { fields["String"].map(Call.string) ?? [] }
  override var output: VQLValue { .dict(fields) }
  override func member(_ name: String, in scope: Scope) -> VQLValue? { fields[name] }
}

extension Functions {
  static let network: [FunctionSpec] = [
    FunctionSpec("ip", "parse: string, netaddr4_le: int, netaddr4_be: int", "An IP address.") { call in
      if let text = call.text("parse"), !text.isEmpty {
        return IPAddress(text: text).map { .object(AddressObject($0)) } ?? .null
      }
      if let number = try call.int("netaddr4_le"), number > 0 {
        return .object(AddressObject(IPAddress([0, 8, 16, 24].map { UInt8(truncatingIfNeeded: number >> $0) })))
      }
      if let number = try call.int("netaddr4_be"), number > 0 {
        return .object(AddressObject(IPAddress([24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> $0) })))
      }
      return .null
    },
    FunctionSpec("cidr_contains", "ip*: string, ranges*: string[]", "Whether an address is in a network.") { call in
      guard let address = IPAddress(text: String(decoding: try call.required("ip"), as: UTF8.self)) else {
        return .bool(false)
      }
      for range in call.strings("ranges") {
        let text = String(decoding: range, as: UTF8.self)
        guard let (network, prefix) = IPAddress.network(text) else {
          call.log("invalid CIDR address: \(text)")
          return .bool(false)
        }
        if address.plain.isInside(network, prefix: prefix) { return .bool(true) }
      }
      return .bool(false)
    },
    FunctionSpec(
      "url", "scheme: string, host: string, path: string, fragment: string, query: any, parse: string",
      "Parses or builds a URL."
    ) { call in
      if let text = call.string("parse"), !text.isEmpty { return .object(AddressedURL(URLText.parse(text))) }
      var query: [UInt8] = []
      if case .dict(let dict)? = call.materialized("query") { query = URLText.query(dict) }
      let fields = URLText.fields(
        scheme: call.string("scheme") ?? [], host: call.string("host") ?? [],
        path: URLText.clean(call.string("path") ?? []), query: query, fragment: call.string("fragment") ?? [])
      return .object(AddressedURL(fields))
    },
  ]
}

/// Parts of URLs.
enum URLText {
  private static func isPlain(_ byte: UInt8) -> Bool {
    CharacterRanges.word.contains(UInt32(byte)) || "-.~".utf8.contains(byte)
  }

  static func escape(_ text: [UInt8], keep: String = "", plus: Bool = false) -> [UInt8] {
    var out: [UInt8] = []
    for byte in text {
      if isPlain(byte) || keep.utf8.contains(byte) {
        out.append(byte)
      } else if plus && byte == 0x20 {
        out.append(UInt8(ascii: "+"))
      } else {
        out.append(UInt8(ascii: "%"))
        out.append(contentsOf: String(decoding: Hex.encode([byte]), as: UTF8.self).uppercased().utf8)
      }
    }
    return out
  }

  static func unescape(_ text: [UInt8], plus: Bool = false) -> [UInt8] {
    var out: [UInt8] = []
    var place = 0
    while place < text.count {
      if text[place] == UInt8(ascii: "%"), place + 2 < text.count, let high = Hex.digit(text[place + 1]),
        let low = Hex.digit(text[place + 2])
      {
        out.append(high << 4 | low)
        place += 3
      } else {
        out.append(plus && text[place] == UInt8(ascii: "+") ? 0x20 : text[place])
        place += 1
      }
    }
    return out
  }

  /// The members as a query string, by name.
  static func query(_ dict: VQLDict) -> [UInt8] {
    var parts: [[UInt8]] = []
    for name in dict.keys.sorted() {
      for value in Printf.operands(dict[name] ?? .null) {
        parts.append(escape(Array(name.utf8), plus: true) + [UInt8(ascii: "=")] + escape(value.text, plus: true))
      }
    }
    return Array(parts.joined(separator: [UInt8(ascii: "&")]))
  }

  /// Resolves `.` and `..`.
  static func clean(_ path: [UInt8]) -> [UInt8] {
    guard !path.isEmpty else { return [] }
    var parts: [ArraySlice<UInt8>] = []
    for part in path.split(separator: UInt8(ascii: "/")) {
      if part.elementsEqual("..".utf8) {
        _ = parts.popLast()
      } else if !part.elementsEqual(".".utf8) {
        parts.append(part)
      }
    }
    return [UInt8(ascii: "/")] + parts.joined(separator: [UInt8(ascii: "/")])
  }

  static func fields(
    scheme: [UInt8], user: [UInt8] = [], host: [UInt8], path: [UInt8], query: [UInt8], fragment: [UInt8],
    opaque: [UInt8] = []
  ) -> VQLDict {
    var whole: [UInt8] = scheme.isEmpty ? [] : scheme + [UInt8(ascii: ":")]
    if !opaque.isEmpty { whole += opaque } else if !host.isEmpty { whole += Array("//".utf8) + user + host }
    whole += escape(path, keep: "/$&+,:;=@")
    if !query.isEmpty { whole += [UInt8(ascii: "?")] + query }
    if !fragment.isEmpty { whole += [UInt8(ascii: "#")] + escape(fragment, keep: "$&+,/:;=?@!()*'") }
    let values = VQLDict()
    for part in query.split(separator: UInt8(ascii: "&")) {
      let halves = part.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(decoding: unescape(Array(halves[0]), plus: true), as: UTF8.self)
      let value = VQLValue.bytes(halves.count > 1 ? unescape(Array(halves[1]), plus: true) : [])
      if case .array(let known)? = values[name] {
        values.set(name, .array(known + [value]))
      } else {
        values.set(name, .array([value]))
      }
    }
    return VQLDict([
      ("Scheme", .bytes(scheme)), ("Opaque", .bytes(opaque)), ("Host", .bytes(host)), ("Path", .bytes(path)),
      ("RawQuery", .bytes(query)), ("Fragment", .bytes(fragment)), ("Query", .dict(values)), ("String", .bytes(whole)),
    ])
  }

  static func parse(_ text: [UInt8]) -> VQLDict {
    var rest = text[...]
    var fragment: [UInt8] = []
    var query: [UInt8] = []
    var scheme: [UInt8] = []
    var user: [UInt8] = []
    var host: [UInt8] = []
    if let hash = rest.firstIndex(of: UInt8(ascii: "#")) {
      fragment = unescape(Array(rest[(hash + 1)...]))
      rest = rest[..<hash]
    }
    if let mark = rest.firstIndex(of: UInt8(ascii: "?")) {
      query = Array(rest[(mark + 1)...])
      rest = rest[..<mark]
    }
    if let colon = rest.firstIndex(of: UInt8(ascii: ":")), colon > 0,
      rest[..<colon].allSatisfy({ isPlain($0) || $0 == UInt8(ascii: "+") }), !rest[..<colon].contains(UInt8(ascii: "/"))
    {
      scheme = rest[..<colon].map { (65...90).contains($0) ? $0 + 32 : $0 }
      rest = rest[(colon + 1)...]
    }
    if rest.starts(with: "//".utf8) {
      rest = rest.dropFirst(2)
      let end = rest.firstIndex(of: UInt8(ascii: "/")) ?? rest.endIndex
      host = Array(rest[..<end])
      if let at = host.lastIndex(of: UInt8(ascii: "@")) {
        user = Array(host[...at])
        host = Array(host[(at + 1)...])
      }
      rest = rest[end...]
    } else if !scheme.isEmpty, rest.first != UInt8(ascii: "/") {
      return fields(scheme: scheme, host: [], path: [], query: query, fragment: fragment, opaque: Array(rest))
    }
    return fields(scheme: scheme, user: user, host: host, path: unescape(Array(rest)), query: query, fragment: fragment)
  }
}
