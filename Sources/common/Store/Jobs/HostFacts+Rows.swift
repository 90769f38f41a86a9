import Foundation

extension HostFacts {
  /// The artifacts whose rows describe the host after interrogation (server.md §6).
  static let interrogationSources: Set<String> = [
    "Generic.Client.Info/BasicInformation", "Custom.Generic.Client.Info/BasicInformation",
  ]

  /// Reads a row of `Server.Internal.ClientInfo` (client.md §3).
  /// - Returns: nil when the row is no object.
  static func clientInfo(row: some Sequence<UInt8>) -> (HostFacts, labels: [String])? {
    guard let object = RowReader(row) else { return nil }
    var facts = HostFacts()
    facts.hostname = object.text("hostname")
    facts.fqdn = object.text("fqdn")
    facts.system = object.text("system")
    facts.release = object.text("release")
    facts.architecture = object.text("architecture")
    facts.clientName = object.text("client_name")
    facts.clientVersion = object.text("client_version")
    facts.buildURL = object.text("build_url")
    facts.buildTime = object.text("build_time")
    facts.installTime = object.number("install_time")
    return (facts, object.texts("labels"))
  }

  /// Reads a row of `Generic.Client.Info/BasicInformation` (client.md §11).
  /// - Returns: nil when the row is no object or has no `OS` (verify.md S-2).
  static func interrogation(row: some Sequence<UInt8>) -> (HostFacts, labels: [String])? {
    guard let object = RowReader(row), !object.text("OS").isEmpty else { return nil }
    var facts = HostFacts()
    facts.hostname = object.text("Hostname")
    facts.fqdn = object.text("Fqdn")
    facts.system = object.text("OS")
    facts.release = object.text("Platform") + object.text("PlatformVersion")
    facts.architecture = object.text("Architecture")
    facts.clientName = object.text("Name")
    facts.clientVersion = object.text("Version")
    facts.buildURL = object.text("build_url")
    facts.buildTime = object.text("BuildTime")
    facts.installTime = object.number("install_time")
    facts.macAddresses = object.texts("MACAddresses")
    return (facts, object.texts("Labels"))
  }

  /// These facts where known, the older ones elsewhere.
  func merged(over older: HostFacts) -> HostFacts {
    func pick(_ key: KeyPath<HostFacts, String>) -> String {
      self[keyPath: key].isEmpty ? older[keyPath: key] : self[keyPath: key]
    }
    var facts = HostFacts()
    facts.hostname = pick(\.hostname)
    facts.fqdn = pick(\.fqdn)
    facts.system = pick(\.system)
    facts.release = pick(\.release)
    facts.architecture = pick(\.architecture)
    facts.clientName = pick(\.clientName)
    facts.clientVersion = pick(\.clientVersion)
    facts.buildURL = pick(\.buildURL)
    facts.buildTime = pick(\.buildTime)
    facts.installTime = installTime == 0 ? older.installTime : installTime
    facts.macAddresses = macAddresses.isEmpty ? older.macAddresses : macAddresses
    return facts
  }
}

/// Reads members of one JSON row that an agent wrote: wrong types are absent, texts are short and printable.
private struct RowReader {
  private let object: [String: Any]

  init?(_ row: some Sequence<UInt8>) {
    guard let value = try? JSONSerialization.jsonObject(with: Data(row)), let object = value as? [String: Any] else {
      return nil
    }
    self.object = object
  }

  func text(_ key: String) -> String {
    (object[key] as? String).map(Self.clean) ?? ""
  }

  func texts(_ key: String) -> [String] {
    guard let values = object[key] as? [Any] else { return [] }
    return values.prefix(64).compactMap { ($0 as? String).map(Self.clean) }.filter { !$0.isEmpty }
  }

  func number(_ key: String) -> Int64 {
    if let number = object[key] as? NSNumber { return Int64(exactly: number.doubleValue.rounded()) ?? 0 }
    return Int64(text(key)) ?? 0
  }

  /// At most 256 characters, without control characters: these texts reach terminals.
  private static func clean(_ text: String) -> String {
    let scalars = text.unicodeScalars.filter { $0.properties.generalCategory != .control }
    return String(String(String.UnicodeScalarView(scalars)).prefix(256))
  }
}
