import Glibc

enum Numeric {
  static func log2(_ value: Double) -> Double { Glibc.log2(value) }
}

extension Functions {
  static let conversions: [FunctionSpec] = [
    FunctionSpec("str", "str*: any", "The text form of a value.", failsAsNull: false) { call in
      .bytes((call.materialized("str") ?? .null).text)
    },
    FunctionSpec("int", "int: any", "An integer from text or a float.", failsAsNull: false) { call in
      switch call.value("int") ?? .null {
      case .bytes(let text): .int(NumberText.parseInteger(text) ?? 0)
      case .double(let double): .int(VQLValue.truncate(double))
      case .int(let int): .int(int)
      case .integer(let int): .integer(int)
      default: .int(0)
      }
    },
    FunctionSpec("atoi", "string*: any", "An integer from text, a float or a bool.") { call in
      switch call.value("string") ?? .null {
      case .bytes(let text): .int(NumberText.parseInteger(text) ?? 0)
      case .double(let double): .int(VQLValue.truncate(double))
      case .bool(let bool): .int(bool ? 1 : 0)
      case let other: .int(other.integer ?? 0)
      }
    },
    FunctionSpec("parse_float", "string*: any", "A float from text.") { call in
      let value = call.value("string") ?? .null
      switch value {
      case .bytes(let text): return .double(NumberText.parseNamedFloat(text) ?? 0)
      case .double, .int, .integer: return value
      default: return .double(0)
      }
    },
    FunctionSpec("uuid", "", "A random UUID.") { _ in
      var bytes = (0..<16).map { _ in UInt8.random(in: 0...255) }
      bytes[6] = bytes[6] & 0x0F | 0x40
      bytes[8] = bytes[8] & 0x3F | 0x80
      let hex = String(decoding: Hex.encode(bytes), as: UTF8.self)
      var text = ""
      for (place, digit) in hex.enumerated() {
        if [8, 12, 16, 20].contains(place) { text += "-" }
        text.append(digit)
      }
      return .string(text)
    },
    FunctionSpec("rand", "range: int", "A random number below a bound.") { call in
      let range = try call.int("range") ?? 0
      return .int(range > 0 ? Int64.random(in: 0..<range) : 0)
    },
    FunctionSpec("version", "function: string, plugin: string", "The version of a built-in, NULL if absent.") { call in
      if let name = call.text("function"), !name.isEmpty { return Registry.function(name) == nil ? .null : .int(0) }
      if let name = call.text("plugin"), !name.isEmpty { return Registry.plugin(name) == nil ? .null : .int(0) }
      return .null
    },
    FunctionSpec("semver", "version*: string", "A semantic version.") { call in
      let text = String(decoding: try call.required("version"), as: UTF8.self)
      guard let version = VersionObject(text) else { throw CallError("invalid semantic version '\(text)'") }
      return .object(version)
    },
  ]
}

/// A semantic version, comparable with text.
final class VersionObject: VQLObject {
  private let numbers: [Int64]
  private let prerelease: String
  private let original: String

  init?(_ text: String) {
    var rest = Substring(text)
    if rest.hasPrefix("v") { rest = rest.dropFirst() }
    if let plus = rest.firstIndex(of: "+") { rest = rest[..<plus] }
    var tail = ""
    if let dash = rest.firstIndex(of: "-") {
      tail = String(rest[rest.index(after: dash)...])
      rest = rest[..<dash]
    }
    let parts = rest.split(separator: ".", omittingEmptySubsequences: false).map { Int64($0) }
    guard !parts.isEmpty, parts.count <= 3, !parts.contains(where: { $0 == nil || ($0 ?? 0) < 0 }) else { return nil }
    numbers = (parts.compactMap { $0 } + [0, 0]).prefix(3).map { $0 }
    prerelease = tail
    original = text
  }

  override var typeName: String { "*semver.Version" }
  override var isTrue: Bool { true }
  private var canonical: String {
    numbers.map(String.init).joined(separator: ".") + (prerelease.isEmpty ? "" : "-" + prerelease)
  }
  override var text: [UInt8] { Array(canonical.utf8) }
  override var output: VQLValue {
    .dict([
      ("Major", .int(numbers[0])), ("Minor", .int(numbers[1])), ("Patch", .int(numbers[2])),
      ("Prerelease", .string(prerelease)), ("Version", .string(canonical)),
    ])
  }
  override func member(_ name: String, in scope: Scope) -> VQLValue? {
    if case .dict(let dict) = output { return dict[name] }
    return nil
  }

  override func compare(_ other: VQLValue) -> Int? {
    let version: VersionObject?
    switch other {
    case .object(let object): version = object as? VersionObject
    case .bytes(let text): version = VersionObject(String(decoding: text, as: UTF8.self))
    default: version = nil
    }
    guard let version else { return nil }
    for (a, b) in zip(numbers, version.numbers) where a != b { return a < b ? -1 : 1 }
    if prerelease == version.prerelease { return 0 }
    if prerelease.isEmpty { return 1 }
    if version.prerelease.isEmpty { return -1 }
    return Self.order(prerelease, version.prerelease)
  }

  private static func order(_ a: String, _ b: String) -> Int {
    let left = a.split(separator: ".")
    let right = b.split(separator: ".")
    for (x, y) in zip(left, right) where x != y {
      switch (Int64(x), Int64(y)) {
      case (let m?, let n?): return m < n ? -1 : 1
      case (_?, nil): return -1
      case (nil, _?): return 1
      default: return x < y ? -1 : 1
      }
    }
    return left.count < right.count ? -1 : left.count > right.count ? 1 : 0
  }
}
