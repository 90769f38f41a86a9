/// Bytes that structures are read from.
final class BinaryData {
  private let source: ByteSource
  private var whole: [UInt8]?
  /// Sources that cannot jump are read into memory up to this size.
  private static let maximum = 64 << 20

  init(_ source: ByteSource) throws {
    self.source = source
    if try source.bytes(at: 0, count: 1) == nil { whole = try source.readAll(limit: Self.maximum) }
  }

  func bytes(_ offset: Int64, _ count: Int) -> [UInt8] {
    guard offset >= 0, count > 0 else { return [] }
    let count = min(count, Self.maximum)
    if let whole {
      guard offset < Int64(whole.count) else { return [] }
      return Array(whole[Int(offset)..<min(whole.count, Int(offset) + count)])
    }
    return (try? source.bytes(at: offset, count: count)) ?? []
  }
}

/// A struct while it is read: fields on demand.
final class StructObject: VQLObject {
  let profile: BinaryProfile
  let definition: BinaryProfile.Definition
  let data: BinaryData
  let start: Int64
  /// Makes the struct that holds this one anew: a reference to it would be a cycle, as it keeps its members.
  var parent: (() -> StructObject)?
  private var values: [String: VQLValue] = [:]
  private var reading: Set<String> = []

  init(_ profile: BinaryProfile, _ definition: BinaryProfile.Definition, _ data: BinaryData, _ start: Int64) {
    self.profile = profile
    self.definition = definition
    self.data = data
    self.start = start
  }

  override var typeName: String { "*vtypes.StructObject" }
  override var isTrue: Bool { true }

  override var output: VQLValue {
    let dict = VQLDict()
    for field in definition.fields where !field.name.hasPrefix("__") {
      dict.set(field.name, member(field.name, in: profile.scope) ?? .null)
    }
    return .dict(dict)
  }

  override func member(_ name: String, in scope: Scope) -> VQLValue? {
    if let known = values[name] { return known }
    switch name {
    case "SizeOf": return .int(size)
    case "StartOf", "OffsetOf": return .int(start)
    case "EndOf": return .int(start &+ size)
    case "ParentOf": return parent.map { .object($0()) } ?? .null
    default: break
    }
    // A field whose length asks for the field itself would never end.
    guard let field = definition.fields.first(where: { $0.name == name }), reading.insert(name).inserted else {
      return nil
    }
    defer { reading.remove(name) }
    guard scope.context.enter() else { return .null }
    defer { scope.context.leave() }
    let offset = profile.number(field.offset, self) ?? 0
    let value = profile.read(field.type, field.options, self, start &+ offset).value
    values[name] = value
    return value
  }

  var size: Int64 { profile.number(definition.size, self) ?? 0 }

  /// Makes another object for the same place.
  var remake: () -> StructObject {
    let (profile, definition, data, start, parent) = (profile, definition, data, start, parent)
    return {
      let made = StructObject(profile, definition, data, start)
      made.parent = parent
      return made
    }
  }
}

/// Struct definitions of `parse_binary` (builtins.md §4).
final class BinaryProfile {
  struct Field {
    let name: String
    let offset: VQLValue
    let type: String
    let options: VQLDict
  }
  struct Definition {
    let name: String
    let size: VQLValue
    let fields: [Field]
  }
  private static let maximumCount: Int64 = 100_000

  let scope: Scope
  private var definitions: [String: Definition] = [:]

  init(_ text: [UInt8], _ scope: Scope) throws {
    self.scope = scope
    guard case .array(let structs)? = JSONReader.value(text) else { throw CallError("profile is not a JSON array") }
    for case .array(let parts) in structs where parts.count >= 3 {
      guard let name = parts[0].string, case .array(let fields) = parts[2] else { continue }
      let list: [Field] = fields.compactMap { item in
        guard case .array(let field) = item, field.count >= 3, let name = field[0].string, let type = field[2].string
        else { return nil }
        var options = VQLDict()
        if field.count > 3, case .dict(let dict) = field[3] { options = dict }
        return Field(name: name, offset: field[1], type: type, options: options)
      }
      definitions[name] = Definition(name: name, size: parts[1], fields: list)
    }
  }

  func parse(_ name: String, _ data: BinaryData, at offset: Int64) throws -> VQLValue {
    if let definition = definitions[name] { return .object(StructObject(self, definition, data, offset)) }
    let holder = StructObject(self, Definition(name: "", size: .int(0), fields: []), data, offset)
    return read(name, VQLDict(), holder, offset).value
  }

  /// A number, or a lambda over the struct.
  func number(_ value: VQLValue, _ object: StructObject) -> Int64? {
    switch value {
    case .bytes(let text):
      if let number = NumberText.parseInteger(text) { return number }
      guard let lambda = try? scope.context.lambda(text) else { return nil }
      let result = lambda.call([.object(object)], in: scope)
      return result.integer ?? result.number.map { VQLValue.truncate($0) }
    default: return value.integer ?? value.number.map { VQLValue.truncate($0) }
    }
  }

  private func option(_ options: VQLDict, _ name: String, _ object: StructObject) -> Int64? {
    options[name].flatMap { number($0, object) }
  }

  /// The value at a place and how many bytes it took.
  func read(
    _ type: String, _ options: VQLDict, _ object: StructObject, _ offset: Int64
  ) -> (value: VQLValue, size: Int64) {
    if let (value, size) = integer(type, object.data, offset) { return (value, size) }
    if let definition = definitions[type] {
      let inner = StructObject(self, definition, object.data, offset)
      inner.parent = object.remake
      return (.object(inner), inner.size)
    }
    let inner = options["type"]?.string ?? "uint8"
    let innerOptions: VQLDict
    if case .dict(let dict)? = options["type_options"] { innerOptions = dict } else { innerOptions = VQLDict() }
    switch type {
    case "String", "Unicode": return string(type, options, object, offset)
    case "Array": return array(inner, innerOptions, options, object, offset)
    case "Pointer", "Pointer8", "Pointer16", "Pointer32", "Pointer64":
      let width = type == "Pointer" ? "64" : String(type.dropFirst(7))
      guard let (target, size) = integer("uint" + width, object.data, offset), let place = target.integer else {
        return (.null, 8)
      }
      return (read(inner, innerOptions, object, place).value, size)
    case "Profile":
      let place = option(options, "offset", object) ?? offset
      return (read(inner, innerOptions, object, place).value, 0)
    case "Enumeration": return enumeration(inner, innerOptions, options, object, offset)
    case "BitField":
      let (value, size) = read(inner, innerOptions, object, offset)
      let low = max(0, min(63, option(options, "start_bit", object) ?? 0))
      let high = max(low, min(64, option(options, "end_bit", object) ?? 64))
      let bits = UInt64(bitPattern: value.integer ?? 0) >> UInt64(low)
      let width = UInt64(high - low)
      return (.int(Int64(truncatingIfNeeded: width >= 64 ? bits : bits & ((1 << width) - 1))), size)
    case "Flags": return flags(inner, innerOptions, options, object, offset)
    case "Timestamp", "WinFileTime", "FatTimestamp": return time(type, inner, innerOptions, options, object, offset)
    case "Value": return (lambdaValue(options["value"] ?? .null, object), 0)
    case "Union":
      let selected = String(decoding: lambdaValue(options["selector"] ?? .null, object).text, as: UTF8.self)
      guard case .dict(let choices)? = options["choices"], let choice = choices[selected]?.string else {
        return (.null, 0)
      }
      return read(choice, VQLDict(), object, offset)
    case "leb128": return leb128(object.data, offset)
    default: return (.null, 0)
    }
  }

  private func lambdaValue(_ value: VQLValue, _ object: StructObject) -> VQLValue {
    guard case .bytes(let text) = value, let lambda = try? scope.context.lambda(text) else { return value }
    return lambda.call([.object(object)], in: scope)
  }

  private func integer(_ type: String, _ data: BinaryData, _ offset: Int64) -> (VQLValue, Int64)? {
    let names: [String: (Int, Bool)] = [
      "uint8": (1, false), "int8": (1, true), "uint16": (2, false), "int16": (2, true), "uint32": (4, false),
      "int32": (4, true), "uint64": (8, false), "int64": (8, true), "byte": (1, false), "char": (1, true),
      "float64": (8, false), "float32": (4, false),
    ]
    let big = type.hasSuffix("b") && type != "byteb" && names[type] == nil
    guard let (size, signed) = names[big ? String(type.dropLast()) : type] else { return nil }
    let bytes = data.bytes(offset, size)
    guard bytes.count == size else { return (.null, Int64(size)) }
    let value = (big ? bytes : bytes.reversed()).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    if type.hasPrefix("float") {
      return (.double(size == 8 ? Double(bitPattern: value) : Double(Float(bitPattern: UInt32(value)))), Int64(size))
    }
    let shift = UInt64(64 - size * 8)
    if signed { return (.int(Int64(bitPattern: value << shift) >> Int64(shift)), Int64(size)) }
    if value > UInt64(Int64.max) { return (.integer(VQLInteger(bits: Int64(bitPattern: value), kind: .uint64)), 8) }
    return (.int(Int64(value)), Int64(size))
  }

  private func string(
    _ type: String, _ options: VQLDict, _ object: StructObject, _ offset: Int64
  ) -> (VQLValue, Int64) {
    let wide = type == "Unicode" || options["encoding"]?.string?.lowercased() == "utf16"
    let length = options["length"].flatMap { number($0, object) }
    let limit = max(0, min(length ?? option(options, "max_length", object) ?? 1024, 16 << 20))
    var bytes = object.data.bytes(offset, Int(limit))
    var taken = Int64(bytes.count)
    let term: [UInt8]
    if let hex = options["term_hex"]?.string {
      term = stride(from: 0, to: hex.utf8.count - 1, by: 2).compactMap { place in
        UInt8(hex.dropFirst(place).prefix(2), radix: 16)
      }
    } else if let text = options["term"]?.stringBytes {
      term = text
    } else {
      term = length == nil || wide ? (wide ? [0, 0] : [0]) : [0]
    }
    if !term.isEmpty {
      var from = 0
      while let found = Bytes.find(term, in: bytes, from: from) {
        if wide && found % 2 == 1 {
          from = found + 1
          continue
        }
        bytes = Array(bytes[..<found])
        if length == nil { taken = Int64(found + term.count) }
        break
      }
    }
    if wide {
      var units: [UInt16] = []
      for place in stride(from: 0, to: bytes.count - bytes.count % 2, by: 2) {
        units.append(UInt16(bytes[place]) | UInt16(bytes[place + 1]) << 8)
      }
      return (.string(String(decoding: units, as: UTF16.self)), taken)
    }
    return (.bytes(bytes), taken)
  }

  private func array(
    _ inner: String, _ innerOptions: VQLDict, _ options: VQLDict, _ object: StructObject, _ offset: Int64
  ) -> (VQLValue, Int64) {
    let limit = option(options, "max_count", object) ?? 1000
    let count = max(0, min(option(options, "count", object) ?? 0, limit, Self.maximumCount))
    let sentinel = options["sentinel"]?.stringBytes.flatMap { try? scope.context.lambda($0) }
    var elements: [VQLValue] = []
    var place = offset
    for _ in 0..<count {
      if scope.context.isStopped { break }
      let (value, size) = read(inner, innerOptions, object, place)
      if value.isNull && size > 0 { break }
      if let sentinel, sentinel.call([value], in: scope).isTrue(scope) { break }
      elements.append(value)
      place &+= size
    }
    return (.array(elements), place &- offset)
  }

  private func enumeration(
    _ inner: String, _ innerOptions: VQLDict, _ options: VQLDict, _ object: StructObject, _ offset: Int64
  ) -> (VQLValue, Int64) {
    let (value, size) = read(inner, innerOptions, object, offset)
    let key = value.integer ?? 0
    if case .dict(let choices)? = options["choices"], let name = choices[String(key)] { return (name, size) }
    if case .dict(let map)? = options["map"], let name = map.keys.first(where: { map[$0]?.integer == key }) {
      return (.string(name), size)
    }
    return (value, size)
  }

  private func flags(
    _ inner: String, _ innerOptions: VQLDict, _ options: VQLDict, _ object: StructObject, _ offset: Int64
  ) -> (VQLValue, Int64) {
    let (value, size) = read(inner, innerOptions, object, offset)
    let bits = value.integer ?? 0
    var names: [VQLValue] = []
    if case .dict(let map)? = options["bitmap"] {
      for name in map.keys {
        if let bit = map[name]?.integer, (0..<64).contains(bit), bits >> bit & 1 == 1 { names.append(.string(name)) }
      }
    }
    return (.array(names), size)
  }

  private func time(
    _ type: String, _ inner: String, _ innerOptions: VQLDict, _ options: VQLDict, _ object: StructObject,
    _ offset: Int64
  ) -> (VQLValue, Int64) {
    let kind = options["type"] == nil ? (type == "FatTimestamp" ? "uint32" : "uint64") : inner
    let (value, size) = read(kind, innerOptions, object, offset)
    guard let number = value.integer else { return (.null, size) }
    switch type {
    case "WinFileTime":
      let seconds = number / 10_000_000 &- 11_644_473_600
      return (.time(VQLTime(seconds: seconds, nanoseconds: Int32(abs(number % 10_000_000) * 100))), size)
    case "FatTimestamp":
      let (date, clock) = (number & 0xFFFF, number >> 16 & 0xFFFF)
      let month = max(1, min(12, Int(date >> 5 & 15)))
      let days = CivilTime.days(year: 1980 + (date >> 9 & 127), month: month, day: max(1, Int(date & 31)))
      let second = (clock >> 11 & 31) * 3600 + (clock >> 5 & 63) * 60 + (clock & 31) * 2
      return (.time(VQLTime(seconds: days * 86400 + second)), size)
    default:
      let factor = max(1, option(options, "factor", object) ?? 1)
      return (.time(VQLTime(seconds: number / factor)), size)
    }
  }

  private func leb128(_ data: BinaryData, _ offset: Int64) -> (VQLValue, Int64) {
    var value: UInt64 = 0
    for (place, byte) in data.bytes(offset, 10).enumerated() {
      value |= UInt64(byte & 0x7F) << UInt64(min(63, 7 * place))
      if byte & 0x80 == 0 { return (.int(Int64(bitPattern: value)), Int64(place + 1)) }
    }
    return (.null, 0)
  }
}
