/// All functions and plugins by name.
enum Registry {
  private static let functions: [String: FunctionSpec] = {
    let lists = [
      Functions.control, Functions.collections, Functions.aggregates, Functions.strings, Functions.patterns,
      Functions.encodings, Functions.conversions, Functions.times, Functions.network, Functions.paths,
      Functions.files, Functions.parsers, Functions.system, Functions.tracker, Functions.storage,
      Functions.feeds,
    ]
    return Dictionary(lists.joined().map { ($0.signature.name, $0) }, uniquingKeysWith: { first, _ in first })
  }()

  private static let plugins: [String: PluginSpec] = {
    let lists = [
      Plugins.control, Plugins.collections, Plugins.streams, Plugins.files, Plugins.parsers, Plugins.host,
      Plugins.processes, Plugins.execution, Plugins.databases, Plugins.network, Plugins.tracker, Plugins.watchers,
      Plugins.http, Plugins.journal, Plugins.audit, Plugins.rare,
    ]
    return Dictionary(lists.joined().map { ($0.signature.name, $0) }, uniquingKeysWith: { first, _ in first })
  }()

  static func function(_ name: String) -> FunctionSpec? { functions[name] }
  static func plugin(_ name: String) -> PluginSpec? { plugins[name] }
  static let pluginNames: [String] = plugins.keys.sorted()
  static let functionNames: [String] = functions.keys.sorted()
}

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
}
