/// The operator's file: access to the store, and the client section to hand out again.
package struct AdminConfig: Sendable, Equatable {
  package var version: BuildVersion
  /// The `Client` section with the CA certificate.
  package var client: ClientSection
  /// `version` and `Client` as they are written, for `config client`.
  package var clientFile: ConfigValue
  package var datastore: DatastoreSection
  /// `CA.private_key_filename`: path of the CA key; may be taken offline, needed only to sign.
  package var caPrivateKeyFilename: String?
  /// `Monitoring.targets`: `HOST:PORT` of each process's metrics, for `microraptor watch`.
  package var monitoringTargets: [String] = []

  /// Loads a file; refuses one that other users may read.
  ///
  /// - Throws: ``ConfigurationError``.
  package static func load(path: String) throws(ConfigurationError) -> AdminConfig {
    let text = try ConfigFile.read(path)
    try ConfigFile.requirePrivate(path)
    return try parse(text: text, file: path)
  }

  /// Reads text.
  package static func parse(text: String, file: String) throws(ConfigurationError) -> AdminConfig {
    let root = try SectionReader.file(text: text, file: file)
    let version = try root.section("version").map(BuildVersion.init) ?? BuildVersion()
    let client = try ClientSection(try root.required("Client"), use: .agent)
    let ca = try root.section("CA")
    var config = AdminConfig(
      version: version, client: client, clientFile: .section(root.keep(["version", "Client"])),
      datastore: try DatastoreSection(try root.required("Datastore")),
      caPrivateKeyFilename: try ca?.string("private_key_filename"))
    try ca?.finish()
    let monitoring = try root.section("Monitoring")
    config.monitoringTargets = try monitoring?.strings("targets") ?? []
    try monitoring?.finish()
    _ = root.keep(["Logging", "defaults", "security", "obfuscation_nonce"])
    try root.finish()
    return config
  }
}
