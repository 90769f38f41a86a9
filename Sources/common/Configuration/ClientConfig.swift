/// A client file: what an agent needs. A stock `client.yaml` and a stock server file are both accepted.
package struct ClientConfig: Sendable, Equatable {
  /// `version`: name and version of the program that wrote the file.
  package var version: BuildVersion
  package var client: ClientSection
  /// `autoexec`: kept and not used.
  package var autoexec: ConfigValue?

  /// Sections of a server file, which an agent does not look into.
  private static let serverKeys = [
    "API", "GUI", "CA", "Frontend", "Datastore", "Logging", "Monitoring", "Mail", "api_config", "obfuscation_nonce",
    "defaults", "security", "Minion", "ExtraFrontends", "remappings", "CryptoWorkers", "Orgs",
  ]

  /// Loads a file.
  ///
  /// - Throws: ``ConfigurationError``.
  package static func load(path: String) throws(ConfigurationError) -> ClientConfig {
    try parse(text: try ConfigFile.read(path), file: path)
  }

  /// Reads text.
  ///
  /// - Parameters:
  ///   - text: YAML.
  ///   - file: a name for messages.
  package static func parse(text: String, file: String) throws(ConfigurationError) -> ClientConfig {
    let root = try SectionReader.file(text: text, file: file)
    let version = try root.section("version").map(BuildVersion.init) ?? BuildVersion()
    guard let section = try root.section("Client") else {
      throw root.wrong("Client", "a section with the client's settings", "no such section")
    }
    let client = try ClientSection(section, use: .agent)
    let autoexec = root.value("autoexec")
    _ = root.keep(serverKeys)
    try root.finish()
    return ClientConfig(version: version, client: client, autoexec: autoexec)
  }
}

/// The `version` section.
package struct BuildVersion: Sendable, Equatable {
  package var name = ""
  package var version = ""
  /// The other keys (commit, compiler, system, …) as they are written.
  package var others: [ConfigEntry] = []

  package init() {}

  init(_ section: SectionReader) throws(ConfigurationError) {
    name = try section.string("name") ?? ""
    version = try section.string("version") ?? ""
    others = section.keep([
      "commit", "build_time", "compiler", "system", "architecture", "ci_build_url", "install_time", "branch",
    ])
    try section.finish()
  }
}
