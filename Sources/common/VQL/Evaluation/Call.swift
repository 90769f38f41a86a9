/// One call of a built-in: gives its arguments, converted as declared. Nothing is evaluated before it is asked for.
struct Call {
  let binding: CallArgumentsBinding
  let scope: Scope
  /// The members that replace the arguments, when the call was written with `**`.
  let expanded: VQLDict?

  var context: Context { scope.context }
  var name: String { binding.signature.name }

  func log(_ text: String) { context.log(.none, "\(name): \(text)") }

  private func expression(_ name: String) -> Expr? {
    for (place, spec) in binding.signature.arguments.enumerated() where spec.name == name {
      return binding.expressions[place]
    }
    return nil
  }

  /// The evaluated value, nil when the argument is absent.
  func value(_ name: String) -> VQLValue? {
    if let expanded { return expanded[name] }
    return expression(name)?.eval(scope).resolved
  }

  func has(_ name: String) -> Bool { expanded.map { $0.shape.find(name) != nil } ?? (expression(name) != nil) }

  /// The value with a query replaced by its rows.
  func materialized(_ name: String) -> VQLValue? { value(name).map { expand($0) } }

  func expand(_ value: VQLValue) -> VQLValue {
    if case .query(let query) = value { return .array(query.collect(scope)) }
    return value
  }

  /// All arguments by the names they were given, in order.
  var all: [(name: String, value: () -> VQLValue)] {
    if let expanded { return expanded.keys.map { name in (name, { expanded[name] ?? .null }) } }
    return binding.arguments.list.map { argument in
      (argument.name, { argument.value.eval(scope).resolved })
    }
  }

  /// Arguments that are not declared.
  var others: [(name: String, value: () -> VQLValue)] {
    all.filter { given in !binding.signature.arguments.contains { $0.name == given.name } }
  }

  // MARK: conversions

  private func mismatch(_ name: String, _ expected: String, _ value: VQLValue) -> CallError {
    CallError("Field \(name) should be \(expected) not \(value.typeName).")
  }

  func string(_ name: String) -> [UInt8]? { value(name).map { Self.string($0) } }

  func text(_ name: String) -> String? { string(name).map { String(decoding: $0, as: UTF8.self) } }

  /// Text of a required argument.
  func required(_ name: String) throws -> [UInt8] {
    guard let bytes = string(name) else { throw CallError("Field \(name) is required") }
    return bytes
  }

  static func string(_ value: VQLValue) -> [UInt8] {
    switch value {
    case .null: []
    case .bytes(let bytes): bytes
    case .array(let elements) where elements.count == 1: elements[0].resolved.text
    default: value.text
    }
  }

  func strings(_ name: String) -> [[UInt8]] {
    guard let value = value(name) else { return [] }
    switch value {
    case .null: return []
    case .array(let elements): return elements.flatMap { Self.elementStrings($0.resolved) }
    default: return Self.elementStrings(value)
    }
  }

  private static func elementStrings(_ value: VQLValue) -> [[UInt8]] {
    if case .dict(let dict) = value, dict.count == 1, case .bytes(let only) = dict.value(at: 0).resolved {
      return [only, value.text]
    }
    return [value.text]
  }

  func int(_ name: String) throws -> Int64? {
    guard let value = value(name) else { return nil }
    switch value {
    case .int(let int): return int
    case .integer(let int): return int.bits
    case .double(let double): return VQLValue.truncate(double)
    case .bool(let bool): return bool ? 1 : 0
    default: throw mismatch(name, "an int", value)
    }
  }

  func float(_ name: String) throws -> Double? {
    guard let value = value(name) else { return nil }
    guard let number = value.number else { throw mismatch(name, "a float", value) }
    return number
  }

  func bool(_ name: String) -> Bool { value(name)?.isTrue(scope) ?? false }

  func dict(_ name: String) throws -> VQLDict? {
    guard let value = value(name) else { return nil }
    switch value {
    case .dict(let dict): return dict
    case .object(let object):
      if case .dict(let dict) = object.output { return dict.copy() }
      throw mismatch(name, "a dict", value)
    default: throw mismatch(name, "a dict", value)
    }
  }

  /// A query; other values are wrapped, one row per element.
  func query(_ name: String) -> RowSource? { value(name).map { RowSource($0) } }

  func lambda(_ name: String) throws -> Lambda? {
    guard let value = value(name), !value.isNull else { return nil }
    guard case .bytes(let text) = value else {
      throw CallError(
        "Field \(name) Got field type \(value.typeName): VQL lambda functions need to be a string of the form "
          + "\"x=>...\"")
    }
    do {
      return try context.lambda(text)
    } catch {
      throw CallError("Field \(name) \(error)")
    }
  }

  func time(_ name: String) -> VQLTime {
    value(name).flatMap { TimeParser.convert($0, scope) } ?? VQLTime(seconds: VQLTime.zeroSeconds)
  }

  // MARK: paths

  var accessor: String { has("accessor") ? text("accessor") ?? "auto" : "auto" }

  func path(_ name: String) throws -> VQLPath {
    guard let value = value(name) else { throw CallError("Field \(name) is required") }
    return try Accessors.path(value, accessor: accessor)
  }

  func paths(_ name: String) throws -> [VQLPath] {
    guard let value = value(name) else { throw CallError("Field \(name) is required") }
    let accessor = accessor
    switch value {
    case .array(let elements): return try elements.map { try Accessors.path($0.resolved, accessor: accessor) }
    case .query(let query): return try query.collect(scope).map { try Accessors.path($0, accessor: accessor) }
    case .null: return []
    default: return [try Accessors.path(value, accessor: accessor)]
    }
  }

  // MARK: aggregates

  /// The call site's cell in the current aggregate state.
  var cell: VQLValue? {
    get { scope.aggregates.cells[binding.id] }
    nonmutating set { scope.aggregates.cells[binding.id] = newValue }
  }
}

/// Rows of a query argument.
struct RowSource {
  let value: VQLValue
  init(_ value: VQLValue) { self.value = value }

  func run(_ scope: Scope, _ emit: RowSink) { RowIteration.run(value, scope, emit) }
}
