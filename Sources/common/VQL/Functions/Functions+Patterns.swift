extension Regex {
  /// A pattern of a built-in; an invalid one fails the call.
  static func cached(_ pattern: [UInt8], _ call: Call, ignoreCase: Bool = false) throws -> Regex {
    if let known = call.context.regexCache[ignoreCase, pattern] { return known }
    let made = try Regex(pattern, ignoreCase: ignoreCase)
    call.context.regexCache[ignoreCase, pattern] = made
    return made
  }

  /// Name and number of each group; unnamed ones are called g1, g2, ….
  var namedGroups: [(name: String, number: Int)] {
    groupNames.enumerated().dropFirst().map { ($1 ?? "g\($0)", $0) }
  }
}

/// Compiled patterns of built-ins.
struct RegexCache {
  private var folded: [[UInt8]: Regex] = [:]
  private var exact: [[UInt8]: Regex] = [:]

  subscript(_ ignoreCase: Bool, _ pattern: [UInt8]) -> Regex? {
    get { ignoreCase ? folded[pattern] : exact[pattern] }
    set {
      if folded.count + exact.count > 1000 {
        folded = [:]
        exact = [:]
      }
      if ignoreCase { folded[pattern] = newValue } else { exact[pattern] = newValue }
    }
  }
}

extension Functions {
  static let patterns: [FunctionSpec] = [
    FunctionSpec(
      "regex_replace", "source*: string, replace: string, replace_lambda: string, re*: string",
      "Replaces all matches of a pattern."
    ) { call in
      let source = try call.required("source")
      let regex = try Regex.cached(try call.required("re"), call, ignoreCase: true)
      if let lambda = try call.lambda("replace_lambda") {
        return .bytes(
          regex.replaceAll(source) { match in
            let text = Regex.group(0, of: match, in: source) ?? []
            return Call.string(lambda.call([.bytes(text)], in: call.scope))
          })
      }
      let replacement = call.string("replace") ?? []
      return .bytes(regex.replaceAll(source) { regex.expand(replacement, $0, in: source) })
    },
    FunctionSpec(
      "regex_transform", "source*: string, map*: dict, key: string", "Applies several replacements, in order."
    ) { call in
      var text = try call.required("source")
      for name in try call.dict("map")?.keys ?? [] {
        let regex = try Regex.cached(Array(name.utf8), call, ignoreCase: true)
        let replacement = Call.string(try call.dict("map")?[name] ?? .null)
        let source = text
        text = regex.replaceAll(source) { regex.expand(replacement, $0, in: source) }
      }
      return .bytes(text)
    },
    FunctionSpec("parse_string_with_regex", "string*: string, regex*: string[]", "Named groups of patterns.") { call in
      let text = try call.required("string")
      let result = VQLDict()
      for pattern in call.strings("regex") {
        let regex = try Regex.cached(pattern, call, ignoreCase: true)
        guard let match = regex.allMatches(text).last else { continue }
        for (name, number) in regex.namedGroups {
          result.set(name, .bytes(Regex.group(number, of: match, in: text) ?? []))
        }
      }
      return .dict(result)
    },
    FunctionSpec(
      "grok", "grok*: string, data*: string, patterns: any, all_captures: bool", "Parses text with a grok pattern."
    ) { call in
      var extra: [String: String] = [:]
      if case .dict(let dict)? = call.materialized("patterns") {
        dict.eachMember { extra[$0] = String(decoding: $1.text, as: UTF8.self) }
      }
      let source = String(decoding: try call.required("grok"), as: UTF8.self)
      let expression = try Grok.expand(source, extra, allCaptures: call.bool("all_captures"))
      let regex = try Regex.cached(Array(expression.utf8), call)
      let data = try call.required("data")
      guard let match = regex.firstMatch(data) else { return .dict(VQLDict()) }
      var found: [String: VQLValue] = [:]
      for (name, number) in regex.namedGroups where regex.groupNames[number] != nil {
        let shown = Grok.name(of: name)
        let text = Regex.group(number, of: match, in: data) ?? []
        if found[shown] == nil || !text.isEmpty { found[shown] = .bytes(text) }
      }
      return .dict(VQLDict(found.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }))
    },
  ]
}
