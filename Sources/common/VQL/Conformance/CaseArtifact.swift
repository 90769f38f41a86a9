extension VQLArtifact {
  /// Reads a definition as case files write them.
  package init(caseYAML text: String) throws {
    guard case .dict(let dict) = try YAMLReader.value(Array(text.utf8)), let name = dict["name"]?.string else {
      throw VQLError(code: .runtime, message: "an artifact definition has no name")
    }
    func words(_ value: VQLValue?) -> String {
      value.map { $0.isNull ? "" : String(decoding: $0.text, as: UTF8.self) } ?? ""
    }
    func dicts(_ value: VQLValue?) -> [VQLDict] {
      guard case .array(let elements)? = value else { return [] }
      return elements.compactMap { if case .dict(let dict) = $0 { dict } else { nil } }
    }
    var imports: [String] = []
    if case .array(let names)? = dict["imports"] { imports = names.map { words($0) } }
    self.init(
      name: name, type: words(dict["type"]), precondition: words(dict["precondition"]), export: words(dict["export"]),
      imports: imports,
      parameters: dicts(dict["parameters"]).map {
        Parameter(name: words($0["name"]), type: words($0["type"]), defaultValue: words($0["default"]))
      },
      sources: dicts(dict["sources"]).map { source in
        var queries = [words(source["query"])]
        if case .array(let texts)? = source["queries"] { queries = texts.map { words($0) } }
        return Source(name: words(source["name"]), precondition: words(source["precondition"]), queries: queries)
      })
  }
}
