extension Functions {
  static let collections: [FunctionSpec] = [
    FunctionSpec("dict", "", "Builds a dict from the named arguments.", anyNames: true) { call in
      let dict = VQLDict()
      for (name, value) in call.all { dict.set(name, call.expand(value())) }
      return .dict(dict)
    },
    FunctionSpec("lazy_dict", "", "Builds a dict for argument expansion.", anyNames: true) { call in
      let dict = VQLDict()
      for (name, value) in call.all { dict.set(name, value()) }
      return .dict(dict)
    },
    FunctionSpec("array", "_: any", "Builds an array from its arguments.", anyNames: true) { call in
      var elements: [VQLValue] = []
      for (name, value) in call.all {
        let item = call.expand(value())
        if name == "_", case .array(let list) = item { elements += list } else { elements.append(item) }
      }
      return .array(elements)
    },
    FunctionSpec("get", "item: any, member: string, field: any, default: any", "A member or element.") { call in
      get(call)
    },
    FunctionSpec("set", "item*: any, field*: string, value*: any", "Stores a member in place.") { call in
      let item = call.value("item") ?? .null
      let field = String(decoding: try call.required("field"), as: UTF8.self)
      let value = call.materialized("value") ?? .null
      var budget = 5000
      guard NestingCheck.isShallow(value, 60, &budget) else { throw CallError("value is nested too deeply") }
      switch item {
      case .dict(let dict):
        guard !NestingCheck.holds(value, dict) else { throw CallError("value is nested too deeply") }
        dict.set(field, value)
        return item
      case .object(let object) where object.setMember(field, value): return item
      default: throw CallError("Item type \(item.typeName) not supported. set() expects a dict")
      }
    },
    FunctionSpec("to_dict", "item: any", "Builds a dict from rows of _key and _value, or copies one.") { call in
      guard let item = call.value("item") else { return .null }
      if case .dict(let dict) = item { return .dict(dict.copy()) }
      let dict = VQLDict()
      RowIteration.run(item, call.scope) { row in
        if case .bytes(let key)? = Members.get(row, "_key", call.scope)?.resolved {
          dict.set(String(decoding: key, as: UTF8.self), Members.get(row, "_value", call.scope)?.resolved ?? .null)
        }
        return true
      }
      return .dict(dict)
    },
    FunctionSpec("items", "item: any", "A dict's members as an array of _key and _value.") { call in
      let item = call.materialized("item") ?? .null
      guard case .dict(let dict) = item else { return .array([.dict([("_value", item)])]) }
      var result: [VQLValue] = []
      dict.eachMember { name, value in result.append(.dict([("_key", .string(name)), ("_value", value)])) }
      return .array(result)
    },
    FunctionSpec("len", "list*: any", "Elements of an array, bytes of a string, keys of a dict.") { call in
      let count: Int
      switch call.value("list") ?? .null {
      case .array(let elements): count = elements.count
      case .bytes(let bytes): count = bytes.count
      case .dict(let dict): count = dict.count
      case .query(let query): count = query.rows?.count ?? 0
      case .object(let object): count = object.count ?? 0
      default: count = 0
      }
      return .integer(VQLInteger(bits: Int64(count), kind: .int))
    },
    FunctionSpec("slice", "list*: any, start*: uint, end*: uint", "Part of an array.") { call in
      let start = try call.int("start") ?? 0
      let end = try call.int("end") ?? 0
      let elements: [VQLValue]
      switch call.materialized("list") ?? .null {
      case .array(let list): elements = list
      case .bytes(let bytes): elements = bytes.map { .int(Int64($0)) }
      case .dict(let dict): elements = dict.keys.map { .string($0) }
      default: return .null
      }
      let from = Int(max(0, min(start, Int64(elements.count))))
      let to = Int(max(Int64(from), min(end < 0 ? Int64(elements.count) : end, Int64(elements.count))))
      return .array(Array(elements[from..<to]))
    },
    FunctionSpec("filter", "list*: any[], regex: string, condition: lambda", "Elements that pass a test.") { call in
      let lambda = try call.lambda("condition")
      let regex = call.string("regex").flatMap { $0.isEmpty ? nil : $0 }
      let list: [VQLValue]
      switch call.materialized("list") ?? .null {
      case .null: list = []
      case .array(let elements): list = elements
      case let single: list = [single]
      }
      return .array(
        list.filter { element in
          if let lambda { return lambda.call([element], in: call.scope).isTrue(call.scope) }
          return regex.map { Operators.matches(element, .bytes($0), call.scope) } ?? false
        })
    },
    FunctionSpec("any", "items*: any, filter: lambda, regex: string[]", "TRUE when an element passes.") { call in
      try quantify(call, all: false)
    },
    FunctionSpec("all", "items*: any, filter: lambda, regex: string[]", "TRUE when all elements pass.") { call in
      try quantify(call, all: true)
    },
    FunctionSpec("join", "array*: string[], sep: string", "Joins text with a separator.", failsAsNull: false) { call in
      .bytes(Array(call.strings("array").joined(separator: call.string("sep") ?? [])))
    },
    FunctionSpec(
      "memoize", "query*: query, key*: string, period: int, name: string, filename: string",
      "Keeps a query's rows by key."
    ) { call in
      let key = String(decoding: try call.required("key"), as: UTF8.self)
      let cacheName = "memoize:" + (call.text("name") ?? "\(call.binding.id)")
      if let known = call.context.caches[cacheName] { return known }
      let object = VQLValue.object(KeyedRows(try call.int("period") ?? 60, key, call.query("query"), call.scope))
      call.context.caches[cacheName] = object
      return object
    },
    FunctionSpec("lru", "size: int", "A cache for set() and member access.") { call in
      .object(CacheObject(capacity: Int(max(1, min(try call.int("size") ?? 1000, 1_000_000)))))
    },
    FunctionSpec("patch", "item*: any, patch: any, merge: any", "Applies a JSON patch or merge patch.") { call in
      let item = call.materialized("item") ?? .null
      if let merge = call.materialized("merge"), !merge.isNull { return JSONPatch.merge(item, merge, depth: 0) }
      switch call.materialized("patch") {
      case .array(let operations):
        return try operations.reduce(item) { try JSONPatch.apply($0, $1.resolved) }
      case .some(let single): return try JSONPatch.apply(item, single)
      case nil: throw CallError("either patch or merge is required")
      }
    },
    FunctionSpec("similarity", "set1*: dict, set2*: dict", "How alike two dicts are, from 0 to 1.") { call in
      guard let first = try call.dict("set1"), let second = try call.dict("set2") else { return .null }
      let names = Set(first.keys).union(second.keys)
      guard !names.isEmpty else { return .double(1) }
      let same = names.filter { name in
        guard let a = first[name], let b = second[name] else { return false }
        return Operators.equal(a, b)
      }
      return .double(Double(same.count) / Double(names.count))
    },
    FunctionSpec("typeof", "", "The type name of a value.", anyNames: true) { call in
      .string(call.all.first?.value().typeName ?? "types.Null")
    },
  ]

  private static func get(_ call: Call) -> VQLValue {
    let given = call.value("item")
    let item = given == nil || given?.isNull == true ? VQLValue.object(ScopeObject(call.scope)) : given ?? .null
    let fallback = call.value("default")
    if let field = call.value("field"), !field.isNull { return step(item, field, call.scope) ?? fallback ?? .null }
    guard let member = call.text("member"), !member.isEmpty else {
      call.log("either Field or Member should be specified.")
      return .null
    }
    var value = item
    for part in member.split(separator: ".", omittingEmptySubsequences: false) {
      let key = Int64(part).map { VQLValue.int($0) } ?? .string(String(part))
      guard let next = step(value, value.isArray ? key : .string(String(part)), call.scope) else {
        return fallback ?? .null
      }
      value = next.resolved
    }
    return value
  }

  private static func step(_ item: VQLValue, _ field: VQLValue, _ scope: Scope) -> VQLValue? {
    switch (item, field) {
    case (.dict, _), (.object, _), (.time, _):
      return Members.get(item, String(decoding: field.text, as: UTF8.self), scope)?.resolved
    case (_, .bytes(let name)) where NumberText.parseInteger(name) == nil:
      return Members.get(item, String(decoding: name, as: UTF8.self), scope)?.resolved
    default:
      let found = Members.index(item, field, scope)
      return found.isNull ? nil : found
    }
  }

  private static func quantify(_ call: Call, all: Bool) throws -> VQLValue {
    let lambda = try call.lambda("filter")
    let patterns = call.strings("regex")
    guard lambda != nil || !patterns.isEmpty else { throw CallError("either filter or regex must be specified") }
    func test(_ value: VQLValue) -> Bool {
      if let lambda { return lambda.call([value], in: call.scope).isTrue(call.scope) }
      let check: ([UInt8]) -> Bool = { Operators.matches(value, .bytes($0), call.scope) }
      return all ? patterns.allSatisfy(check) : patterns.contains(where: check)
    }
    var result = all
    func visit(_ value: VQLValue) -> Bool {
      if test(value.resolved) != all {
        result = !all
        return false
      }
      return true
    }
    switch call.value("items") ?? .null {
    case .null: break
    case .array(let elements): for element in elements where !visit(element) { break }
    case .dict(let dict): for value in dict.values where !visit(value) { break }
    case .query(let query): query.run(call.scope, visit)
    case let single: _ = visit(single)
    }
    return .bool(result)
  }
}

/// Keeps values that are stored into others from growing without bound or into cycles.
enum NestingCheck {
  static func isShallow(_ value: VQLValue, _ depth: Int, _ budget: inout Int) -> Bool {
    budget -= 1
    guard depth > 0 else { return false }
    guard budget > 0 else { return true }
    switch value {
    case .array(let elements): return elements.allSatisfy { isShallow($0, depth - 1, &budget) }
    case .dict(let dict): return dict.values.allSatisfy { isShallow($0, depth - 1, &budget) }
    default: return true
    }
  }

  static func holds(_ value: VQLValue, _ target: VQLDict, _ depth: Int = 0) -> Bool {
    guard depth < 64 else { return true }
    switch value {
    case .dict(let dict): return dict === target || dict.values.contains { holds($0, target, depth + 1) }
    case .array(let elements): return elements.contains { holds($0, target, depth + 1) }
    default: return false
    }
  }
}

/// What `lru()` gives.
final class CacheObject: VQLObject {
  private let capacity: Int
  private var entries: [String: VQLValue] = [:]
  private var order: [String] = []

  init(capacity: Int) { self.capacity = capacity }

  override var typeName: String { "*LRUCache" }
  override var isTrue: Bool { !entries.isEmpty }
  override var count: Int? { entries.count }
  override var output: VQLValue { .dict(order.compactMap { name in entries[name].map { (name, $0) } }) }
  override func member(_ name: String, in scope: Scope) -> VQLValue? { entries[name] }

  override func setMember(_ name: String, _ value: VQLValue) -> Bool {
    if entries.updateValue(value, forKey: name) == nil {
      order.append(name)
      if order.count > capacity { entries[order.removeFirst()] = nil }
    }
    return true
  }
}

/// What `memoize()` gives: rows by key, read again when they are older than the period.
final class KeyedRows: VQLObject {
  private let period: Int64
  private let key: String
  private let source: RowSource?
  private var scope: Scope?
  private var rows: [[UInt8]: VQLValue] = [:]
  private var loaded: Int64 = .min
  private var reserved = 0

  init(_ period: Int64, _ key: String, _ source: RowSource?, _ scope: Scope) {
    self.period = period <= 0 ? 60 : period
    self.key = key
    self.source = source
    self.scope = scope
  }

  override var typeName: String { "*Memoizer" }
  override func member(_ name: String, in scope: Scope) -> VQLValue? {
    let now = Clock.seconds
    if loaded == .min || now - loaded >= period {
      loaded = now
      rows = [:]
      let context = scope.context
      context.release(reserved)
      reserved = 0
      source?.run(self.scope ?? scope) { row in
        guard let value = Members.get(row, key, scope) else { return true }
        let size = row.footprint() + 64
        guard context.reserve(size) else {
          context.log(.error, "memoize: the rows exceed the memory limit of \(context.options.memoryLimit) bytes.")
          return false
        }
        reserved += size
        rows[value.resolved.text] = row
        return true
      }
    }
    return rows[Array(name.utf8)] ?? .null
  }
}
