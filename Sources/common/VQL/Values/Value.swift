/// A value of the query language (language.md §3).
///
/// Values are confined to the thread that runs their session; a value handed to another thread (options, rows kept
/// by the caller) must no longer be changed by a query, which is why the type may be passed between threads.
package enum VQLValue: @unchecked Sendable {
  case null
  case bool(Bool)
  case int(Int64)
  /// An integer whose type name or range differs from a signed 64 bit one.
  case integer(VQLInteger)
  case double(Double)
  /// A string: a sequence of bytes, normally UTF-8.
  case bytes([UInt8])
  case array([VQLValue])
  case dict(VQLDict)
  case time(VQLTime)
  case path(VQLPath)
  case query(VQLQuery)
  /// A member that is computed when it is touched.
  case lazy(VQLThunk)
  case object(VQLObject)

  /// A string value from text.
  package static func string(_ text: String) -> VQLValue { .bytes(Array(text.utf8)) }

  /// A dictionary value from pairs, in order; a repeated name keeps its first place and last value.
  package static func dict(_ pairs: [(String, VQLValue)]) -> VQLValue {
    let dict = VQLDict()
    for (name, value) in pairs { dict.set(name, value) }
    return .dict(dict)
  }
}

/// An integer with the type name that the reference engine reports for it.
package final class VQLInteger {
  package enum Kind: String { case int, uint64, uint32, uint16, uint8, int32, int16, int8 }
  let bits: Int64
  let kind: Kind

  init(bits: Int64, kind: Kind) {
    self.bits = bits
    self.kind = kind
  }

  var text: String { kind == .uint64 ? String(UInt64(bitPattern: bits)) : String(bits) }
}

/// A computed member: evaluated at most once.
package final class VQLThunk {
  private var compute: (() -> VQLValue)?
  private var cached: VQLValue = .null

  init(_ compute: @escaping () -> VQLValue) { self.compute = compute }

  var value: VQLValue {
    if let compute {
      self.compute = nil
      cached = compute().resolved
    }
    return cached
  }
}

/// An opaque object with documented members; subclasses answer what they support.
package class VQLObject {
  init() {}
  var typeName: String { "object" }
  /// What the object is in JSON.
  var output: VQLValue { .null }
  var isTrue: Bool { false }
  var text: [UInt8] { Array("object".utf8) }
  /// A member, or nil when there is none of that name.
  func member(_ name: String, in scope: Scope) -> VQLValue? { nil }
  /// Stores a member; false when the object is not writable.
  func setMember(_ name: String, _ value: VQLValue) -> Bool { false }
  /// -1, 0 or 1 against another value, nil when they cannot be compared.
  func compare(_ other: VQLValue) -> Int? { nil }
  var count: Int? { nil }
}

extension VQLValue {
  /// The value with lazy members computed.
  var resolved: VQLValue {
    if case .lazy(let thunk) = self { return thunk.value }
    return self
  }

  var isNull: Bool {
    switch self {
    case .null: true
    case .lazy(let thunk): thunk.value.isNull
    default: false
    }
  }

  /// The integer, for every member of the integer family (not bools).
  var integer: Int64? {
    switch self {
    case .int(let value): value
    case .integer(let value): value.bits
    default: nil
    }
  }

  /// The string's bytes.
  var stringBytes: [UInt8]? {
    if case .bytes(let bytes) = self { return bytes }
    return nil
  }

  /// The string as text, invalid UTF-8 replaced.
  package var string: String? {
    if case .bytes(let bytes) = self { return String(decoding: bytes, as: UTF8.self) }
    return nil
  }

  /// Numbers and bools as a float.
  var number: Double? {
    switch self {
    case .int(let value): Double(value)
    case .integer(let value): value.kind == .uint64 ? Double(UInt64(bitPattern: value.bits)) : Double(value.bits)
    case .double(let value): value
    case .bool(let value): value ? 1 : 0
    default: nil
    }
  }

  var isArray: Bool {
    if case .array = self { return true }
    return false
  }

  /// Type name as the reference reports it.
  var typeName: String {
    switch self {
    case .null: "types.Null"
    case .bool: "bool"
    case .int: "int64"
    case .integer(let value): value.kind.rawValue
    case .double: "float64"
    case .bytes: "string"
    case .array: "[]types.Any"
    case .dict: "*ordereddict.Dict"
    case .time: "time.Time"
    case .path: "*accessors.OSPath"
    case .query: "*vfilter.StoredQuery"
    case .lazy(let thunk): thunk.value.typeName
    case .object(let object): object.typeName
    }
  }

  /// Truncation that never traps: out of range gives the smallest integer, as the reference does on amd64.
  static func truncate(_ value: Double) -> Int64 {
    guard value.isFinite, value >= -9.223372036854775808e18, value < 9.223372036854775808e18 else { return .min }
    return Int64(value)
  }
}
