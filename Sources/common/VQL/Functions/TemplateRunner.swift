/// Fills a template: `template()` of builtins.md §3.
struct TemplateRunner {
  private static let maximumOutput = 16 << 20
  private let scope: Scope
  /// Values are escaped for a web page.
  private let isHTML: Bool
  private let root: VQLValue
  private var variables: [(name: String, value: VQLValue)]
  private var out: [UInt8] = []

  static func fill(_ template: [UInt8], _ values: VQLDict, isHTML: Bool, _ scope: Scope) throws -> [UInt8] {
    var runner = TemplateRunner(scope: scope, isHTML: isHTML, root: .dict(values))
    try runner.run(try TemplateParser.parse(template), .dict(values))
    return runner.out
  }

  private init(scope: Scope, isHTML: Bool, root: VQLValue) {
    self.scope = scope
    self.isHTML = isHTML
    self.root = root
    variables = [("$", root)]
  }

  private mutating func run(_ nodes: [TemplateNode], _ dot: VQLValue) throws {
    let depth = variables.count
    defer { variables.removeLast(variables.count - depth) }
    for node in nodes {
      guard out.count < Self.maximumOutput, !scope.context.isStopped else { throw CallError("template: too much text") }
      switch node {
      case .text(let text): out += text
      case .print(let pipeline): write(try evaluate(pipeline, dot))
      case .assign(let name, let pipeline): try assign(name, try evaluate(pipeline, dot) ?? .null)
      case .branch(let isWith, let pipeline, let body, let otherwise):
        let value = try evaluate(pipeline, dot) ?? .null
        if isTrue(value) { try run(body, isWith ? value : dot) } else { try run(otherwise, dot) }
      case .range(let names, let pipeline, let body, let otherwise):
        try loop(names, try evaluate(pipeline, dot) ?? .null, body, otherwise, dot)
      }
    }
  }

  private mutating func assign(_ name: String, _ value: VQLValue) throws {
    if let place = variables.lastIndex(where: { $0.name == name }) {
      variables[place].value = value
    } else {
      variables.append((name, value))
    }
  }

  private mutating func loop(
    _ names: [String], _ value: VQLValue, _ body: [TemplateNode], _ otherwise: [TemplateNode], _ dot: VQLValue
  ) throws {
    let elements: [(key: VQLValue, value: VQLValue)]
    switch value {
    case .array(let list): elements = list.enumerated().map { (.int(Int64($0)), $1.resolved) }
    case .dict(let dict): elements = dict.keys.map { (.string($0), dict[$0] ?? .null) }
    default: elements = []
    }
    if elements.isEmpty { return try run(otherwise, dot) }
    for (key, element) in elements {
      let depth = variables.count
      if let first = names.first { variables.append((first, names.count > 1 ? key : element)) }
      if names.count > 1 { variables.append((names[1], element)) }
      try run(body, element)
      variables.removeLast(variables.count - depth)
    }
  }

  /// Numbers are true unless they are zero, other values unless they are empty.
  private func isTrue(_ value: VQLValue) -> Bool {
    if case .bool(let bool) = value { return bool }
    if let number = value.number { return number != 0 }
    return value.isTrue(scope)
  }

  private mutating func write(_ value: VQLValue?) {
    guard let value else {
      out += Array("<no value>".utf8)
      return
    }
    var text: [UInt8] = []
    value.appendText(to: &text, rfcTimes: true)
    out += isHTML ? Self.escape(text) : text
  }

  private static func escape(_ text: [UInt8]) -> [UInt8] {
    let names: [UInt8: String] = [0x26: "&amp;", 0x3C: "&lt;", 0x3E: "&gt;", 0x22: "&#34;", 0x27: "&#39;"]
    return text.flatMap { byte in names[byte].map { Array($0.utf8) } ?? [byte] }
  }

  // MARK: pipelines

  /// The value, nil when a member does not exist.
  private func evaluate(_ pipeline: TemplatePipeline, _ dot: VQLValue) throws -> VQLValue? {
    var result: VQLValue?
    for (place, command) in pipeline.commands.enumerated() {
      var operands = command.dropFirst().map { operand in { try self.value(of: operand, dot) ?? .null } }
      if place > 0 {
        let last = result ?? .null
        operands.append { last }
      }
      if case .function(let name) = command[0] {
        result = try TemplateFunctions.call(name, operands, isTrue: isTrue)
      } else {
        guard operands.isEmpty else { throw CallError("template: can't give argument to non-function") }
        result = try value(of: command[0], dot)
      }
    }
    return result
  }

  private func value(of operand: TemplateOperand, _ dot: VQLValue) throws -> VQLValue? {
    switch operand {
    case .constant(let value): return value
    case .function(let name): return try TemplateFunctions.call(name, [], isTrue: isTrue)
    case .group(let pipeline, let members): return member(members, of: try evaluate(pipeline, dot))
    case .path(nil, let members): return member(members, of: dot)
    case .path(let name?, let members):
      guard let found = variables.last(where: { $0.name == name }) else {
        throw CallError("template: undefined variable \"\(name)\"")
      }
      return member(members, of: found.value)
    }
  }

  private func member(_ names: [String], of value: VQLValue?) -> VQLValue? {
    names.reduce(value) { value, name in value.flatMap { Members.get($0, name, scope)?.resolved } }
  }
}

/// What templates can call.
enum TemplateFunctions {
  static func call(_ name: String, _ operands: [() throws -> VQLValue], isTrue: (VQLValue) -> Bool) throws -> VQLValue {
    if name == "and" || name == "or" {
      var last = VQLValue.null
      for operand in operands {
        last = try operand()
        if isTrue(last) == (name == "or") { break }
      }
      return last
    }
    let values = try operands.map { try $0() }
    func text() -> [UInt8] { Array(values.map(\.text).joined(separator: [0x20])) }
    switch (name, values.count) {
    case ("not", 1): return .bool(!isTrue(values[0]))
    case ("len", 1):
      switch values[0] {
      case .array(let elements): return .int(Int64(elements.count))
      case .bytes(let bytes): return .int(Int64(bytes.count))
      case .dict(let dict): return .int(Int64(dict.count))
      default: throw CallError("template: len of \(values[0].typeName)")
      }
    case ("index", 1...): return try values.dropFirst().reduce(values[0], index)
    case ("print", _): return .bytes(text())
    case ("println", _): return .bytes(text() + [10])
    case ("printf", 1...): return .bytes(Printf.format(values[0].text, Array(values.dropFirst())))
    case ("html", _): return .bytes(Array(values.map(\.text).joined()))
    case ("urlquery", _): return .bytes(URLText.escape(Array(values.map(\.text).joined()), plus: true))
    case ("eq", 2...): return .bool(values.dropFirst().contains { Operators.equal(values[0], $0) })
    case ("ne", 2): return .bool(!Operators.equal(values[0], values[1]))
    case ("lt", 2): return .bool(Operators.less(values[0], values[1]))
    case ("le", 2): return .bool(Operators.less(values[0], values[1]) || Operators.equal(values[0], values[1]))
    case ("gt", 2): return .bool(Operators.greater(values[0], values[1]))
    case ("ge", 2): return .bool(Operators.greater(values[0], values[1]) || Operators.equal(values[0], values[1]))
    case ("not", _), ("len", _), ("index", _), ("printf", _), ("eq", _), ("ne", _), ("lt", _), ("le", _), ("gt", _),
      ("ge", _):
      throw CallError("template: wrong number of args for \(name)")
    default: throw CallError("template: function \"\(name)\" not defined")
    }
  }

  private static func index(_ value: VQLValue, _ key: VQLValue) throws -> VQLValue {
    switch value {
    case .dict(let dict): return dict[String(decoding: key.text, as: UTF8.self)] ?? .null
    case .array(let elements):
      guard let place = key.integer, place >= 0, place < Int64(elements.count) else {
        throw CallError("template: index out of range")
      }
      return elements[Int(place)].resolved
    default: throw CallError("template: can't index item of type \(value.typeName)")
    }
  }
}
