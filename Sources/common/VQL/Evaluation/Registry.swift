/// All functions and plugins by name.
enum Registry {
  private static let functions: [String: FunctionSpec] = {
    let lists = [
      Functions.control, Functions.collections, Functions.aggregates, Functions.strings, Functions.patterns,
      Functions.encodings, Functions.conversions, Functions.times, Functions.network, Functions.paths,
      Functions.files, Functions.parsers, Functions.system, Functions.tracker, Functions.storage,
      Functions.feeds, Functions.names,
    ]
    return Dictionary(lists.joined().map { ($0.signature.name, $0) }, uniquingKeysWith: { first, _ in first })
  }()

  private static let plugins: [String: PluginSpec] = {
    let lists = [
      Plugins.control, Plugins.collections, Plugins.streams, Plugins.files, Plugins.parsers, Plugins.host,
      Plugins.processes, Plugins.execution, Plugins.databases, Plugins.network, Plugins.tracker, Plugins.watchers,
      Plugins.http, Plugins.journal, Plugins.audit, Plugins.rare, Plugins.yara,
    ]
    return Dictionary(lists.joined().map { ($0.signature.name, $0) }, uniquingKeysWith: { first, _ in first })
  }()

  static func function(_ name: String) -> FunctionSpec? { functions[name] }
  static func plugin(_ name: String) -> PluginSpec? { plugins[name] }
  static let pluginNames: [String] = plugins.keys.sorted()
  static let functionNames: [String] = functions.keys.sorted()
}
