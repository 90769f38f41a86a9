/// Descriptions of every built-in, for help and the reference page.
package enum VQLReference {
  package struct Entry: Sendable {
    package enum Kind: String, Sendable { case function, plugin }
    package let kind: Kind
    package let name: String
    package let arguments: [(name: String, type: String, required: Bool)]
    /// Arguments of any other name are accepted too.
    package let acceptsAnyName: Bool
    package let summary: String
  }

  /// All plugins and functions, by name.
  package static var entries: [Entry] {
    let plugins = Registry.pluginNames.compactMap { Registry.plugin($0) }.map { make(.plugin, $0.signature) }
    let functions = Registry.functionNames.compactMap { Registry.function($0) }.map { make(.function, $0.signature) }
    return plugins + functions
  }

  /// The entries of one name: a plugin, a function or both.
  package static func entries(named name: String) -> [Entry] { entries.filter { $0.name == name } }

  private static func make(_ kind: Entry.Kind, _ signature: Signature) -> Entry {
    Entry(
      kind: kind, name: signature.name,
      arguments: signature.arguments.map { ($0.name, $0.type.rawValue, $0.required) },
      acceptsAnyName: signature.anyNames, summary: signature.summary)
  }

  // MARK: the page

  /// The reference page of all built-ins, in Markdown; `docs/vql-reference.md` holds it.
  package static var page: String {
    let plugins = entries.filter { $0.kind == .plugin }
    let functions = entries.filter { $0.kind == .function }
    return """
      # VQL: plugins, functions and accessors

      Written by `microraptor vql --reference` from the descriptions in the code; a test compares. \(plugins.count) plugins
      stand after FROM and give rows, \(functions.count) functions stand in expressions, \(Accessors.names.count) accessors
      open files. An argument marked * is required.

      ## Plugins

      \(plugins.map(section).joined(separator: "\n\n"))

      ## Functions

      \(functions.map(section).joined(separator: "\n\n"))

      ## Accessors

      \(Accessors.names.map { "`\($0)`" }.joined(separator: ", "))

      """
  }

  private static func section(_ entry: Entry) -> String {
    var list = entry.arguments.map { "\($0.name)\($0.required ? "*" : ""): \($0.type)" }
    if entry.acceptsAnyName { list.append("any other names") }
    return "### `\(entry.name)(\(list.joined(separator: ", ")))`\n\n\(entry.summary)"
  }
}
