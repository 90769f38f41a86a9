/// Validation of JSON values against schemas (`parse_json(schema=…)`): the keywords of draft 7 that describe data,
/// with references inside the document. Keywords it does not know are ignored, as the standard asks.
struct JSONSchema {
  private static let maximumDepth = 64
  private static let maximumErrors = 10
  private let root: VQLValue

  init(_ text: [UInt8]) throws {
    guard let parsed = JSONReader.value(text) else { throw CallError("the schema is not valid JSON") }
    root = parsed
  }

  /// What is wrong with a value, in words; empty when it fits.
  func errors(in value: VQLValue, _ context: Context) -> [String] {
    var found: [String] = []
    check(value, root, "(root)", 0, context, &found)
    return found
  }

  private func check(
    _ value: VQLValue, _ schema: VQLValue, _ path: String, _ depth: Int, _ context: Context, _ errors: inout [String]
  ) {
    guard depth < Self.maximumDepth, errors.count < Self.maximumErrors else { return }
    if case .bool(false) = schema { return errors.append("\(path): no value is allowed") }
    guard case .dict(let rules) = schema else { return }
    if let reference = rules["$ref"]?.string {
      guard let target = resolve(reference) else { return errors.append("\(path): cannot resolve \(reference)") }
      return check(value, target, path, depth + 1, context, &errors)
    }
    if let type = rules["type"] {
      let wanted = Printf.operands(type).compactMap(\.string)
      if !wanted.contains(where: { Self.isType(value, $0) }) {
        return errors.append(
          "\(path): Invalid type. Expected: \(wanted.joined(separator: ",")), given: \(Self.type(of: value))")
      }
    }
    if case .array(let choices)? = rules["enum"], !choices.contains(where: { Operators.equal($0.resolved, value) }) {
      errors.append(
        "\(path) must be one of the following: \(String(decoding: rules["enum"]?.text ?? [], as: UTF8.self))")
    }
    if let constant = rules["const"], !Operators.equal(constant, value) {
      errors.append("\(path) does not match: \(String(decoding: constant.text, as: UTF8.self))")
    }
    combined(value, rules, path, depth, context, &errors)
    switch value {
    case .dict(let dict): object(dict, rules, path, depth, context, &errors)
    case .array(let elements): array(elements, rules, path, depth, context, &errors)
    case .bytes(let text): string(text, rules, path, context, &errors)
    default: if case .bool = value {} else if let number = value.number { range(number, rules, path, &errors) }
    }
  }

  private func resolve(_ reference: String) -> VQLValue? {
    guard reference.hasPrefix("#") else { return nil }
    var value = root
    for step in reference.dropFirst().split(separator: "/") {
      let name = step.replacing("~1", with: "/").replacing("~0", with: "~")
      guard case .dict(let dict) = value, let next = dict[String(name)] else { return nil }
      value = next
    }
    return value
  }

  private static func type(of value: VQLValue) -> String {
    switch value {
    case .null: "null"
    case .bool: "boolean"
    case .bytes: "string"
    case .array: "array"
    case .dict: "object"
    case .double(let number) where number != number.rounded(): "number"
    default: "integer"
    }
  }

  private static func isType(_ value: VQLValue, _ name: String) -> Bool {
    let own = type(of: value)
    return own == name || (name == "number" && own == "integer")
  }

  private func combined(
    _ value: VQLValue, _ rules: VQLDict, _ path: String, _ depth: Int, _ context: Context, _ errors: inout [String]
  ) {
    func fits(_ schema: VQLValue) -> Bool {
      var found: [String] = []
      check(value, schema.resolved, path, depth + 1, context, &found)
      return found.isEmpty
    }
    if case .array(let all)? = rules["allOf"] {
      for schema in all { check(value, schema.resolved, path, depth + 1, context, &errors) }
    }
    if case .array(let any)? = rules["anyOf"], !any.contains(where: fits) {
      errors.append("\(path): Must validate at least one schema (anyOf)")
    }
    if case .array(let one)? = rules["oneOf"], one.count(where: fits) != 1 {
      errors.append("\(path): Must validate one and only one schema (oneOf)")
    }
    if let not = rules["not"], fits(not) { errors.append("\(path): Must not validate the schema (not)") }
    if let condition = rules["if"], let next = rules[fits(condition) ? "then" : "else"] {
      check(value, next, path, depth + 1, context, &errors)
    }
  }

  private func object(
    _ dict: VQLDict, _ rules: VQLDict, _ path: String, _ depth: Int, _ context: Context, _ errors: inout [String]
  ) {
    if case .array(let names)? = rules["required"] {
      for name in names.compactMap({ $0.resolved.string }) where dict.shape.find(name) == nil {
        errors.append("\(path): \(name) is required")
      }
    }
    if let least = rules["minProperties"]?.integer, dict.count < least {
      errors.append("\(path): Must have at least \(least) properties")
    }
    if let most = rules["maxProperties"]?.integer, dict.count > most {
      errors.append("\(path): Must have at most \(most) properties")
    }
    var known: VQLDict?
    if case .dict(let properties)? = rules["properties"] { known = properties }
    var patterns: [(Regex, VQLValue)] = []
    if case .dict(let dict)? = rules["patternProperties"] {
      patterns = dict.keys.compactMap { name in
        context.regex(Array(name.utf8), ignoreCase: false).map { ($0, dict[name] ?? .null) }
      }
    }
    for name in dict.keys {
      let value = dict[name] ?? .null
      let inner = path == "(root)" ? name : path + "." + name
      var isKnown = false
      if let schema = known?[name] {
        isKnown = true
        check(value, schema, inner, depth + 1, context, &errors)
      }
      for (regex, schema) in patterns where regex.matches(Array(name.utf8)) {
        isKnown = true
        check(value, schema, inner, depth + 1, context, &errors)
      }
      guard !isKnown, let additional = rules["additionalProperties"] else { continue }
      if case .bool(false) = additional {
        errors.append("\(path): Additional property \(name) is not allowed")
      } else {
        check(value, additional, inner, depth + 1, context, &errors)
      }
    }
  }

  private func array(
    _ elements: [VQLValue], _ rules: VQLDict, _ path: String, _ depth: Int, _ context: Context,
    _ errors: inout [String]
  ) {
    if let least = rules["minItems"]?.integer, elements.count < least {
      errors.append("\(path): Array must have at least \(least) items")
    }
    if let most = rules["maxItems"]?.integer, elements.count > most {
      errors.append("\(path): Array must have at most \(most) items")
    }
    if rules["uniqueItems"]?.isTruth == true, Set(elements.map(\.text)).count != elements.count {
      errors.append("\(path): array items must be unique")
    }
    for (place, element) in elements.enumerated() {
      let inner = "\(path).\(place)"
      if case .array(let schemas)? = rules["items"] {
        guard let schema = place < schemas.count ? schemas[place].resolved : rules["additionalItems"] else { continue }
        check(element.resolved, schema, inner, depth + 1, context, &errors)
      } else if let schema = rules["items"] {
        check(element.resolved, schema, inner, depth + 1, context, &errors)
      }
    }
  }

  private func string(
    _ text: [UInt8], _ rules: VQLDict, _ path: String, _ context: Context, _ errors: inout [String]
  ) {
    let length = Int64(String(decoding: text, as: UTF8.self).unicodeScalars.count)
    if let least = rules["minLength"]?.integer, length < least {
      errors.append("\(path): String length must be greater than or equal to \(least)")
    }
    if let most = rules["maxLength"]?.integer, length > most {
      errors.append("\(path): String length must be less than or equal to \(most)")
    }
    if let pattern = rules["pattern"]?.stringBytes, let regex = context.regex(pattern, ignoreCase: false),
      !regex.matches(text)
    {
      errors.append("\(path): Does not match pattern '\(String(decoding: pattern, as: UTF8.self))'")
    }
  }

  private func range(_ number: Double, _ rules: VQLDict, _ path: String, _ errors: inout [String]) {
    func limit(_ name: String) -> Double? { rules[name]?.number }
    func text(_ value: Double) -> String { String(decoding: VQLValue.double(value).text, as: UTF8.self) }
    if let least = limit("minimum"), number < least {
      errors.append("\(path): Must be greater than or equal to \(text(least))")
    }
    if let most = limit("maximum"), number > most {
      errors.append("\(path): Must be less than or equal to \(text(most))")
    }
    if let least = limit("exclusiveMinimum"), number <= least {
      errors.append("\(path): Must be greater than \(text(least))")
    }
    if let most = limit("exclusiveMaximum"), number >= most {
      errors.append("\(path): Must be less than \(text(most))")
    }
    if let step = limit("multipleOf"), step > 0, (number / step) != (number / step).rounded() {
      errors.append("\(path): Must be a multiple of \(text(step))")
    }
  }
}

extension VQLValue {
  fileprivate var isTruth: Bool {
    if case .bool(let bool) = self { return bool }
    return false
  }
}

extension Call {
  /// Checks a value against the schemas of the argument `schema`; what does not fit fails the call.
  func validate(_ value: VQLValue) throws {
    for text in strings("schema") where !text.isEmpty {
      let problems = try JSONSchema(text).errors(in: value, context)
      if let first = problems.first {
        let more = problems.count > 1 ? " and \(problems.count - 1) more" : ""
        throw CallError("Validation error: \(first)\(more)")
      }
    }
  }
}
