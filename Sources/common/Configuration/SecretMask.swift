/// Hides the secrets of a configuration before it is shown.
package enum SecretMask {
  /// What stands in a secret's place.
  package static let mask = "(hidden)"

  private static let secretKeys: Set<String> = [
    "nonce", "obfuscation_nonce", "routing_secret", "secret_key", "password", "secret", "token", "api_key",
  ]

  private static let secretSuffixes = ["private_key", "_password", "_secret", "_token", "_connection_string"]

  /// The value with private keys, nonces, secrets, and passwords in URLs replaced.
  ///
  /// Any text with a PEM private key is hidden whatever its key is called.
  package static func apply(_ value: ConfigValue) -> ConfigValue {
    switch value {
    case .text(let text): return .text(hide(text))
    case .list(let values): return .list(values.map(apply))
    case .section(let entries): return .section(entries.map(apply))
    case .integer, .boolean, .null: return value
    }
  }

  private static func apply(_ entry: ConfigEntry) -> ConfigEntry {
    if entry.key == "Orgs", case .section(let orgs) = entry.value {
      return ConfigEntry(entry.key, .section(orgs.map { ConfigEntry($0.key, .text(mask)) }))
    }
    let key = entry.key.lowercased()
    let isSecret = secretKeys.contains(key) || secretSuffixes.contains { key.hasSuffix($0) }
    if isSecret, entry.value != .null, entry.value != .text("") {
      return ConfigEntry(entry.key, .text(mask))
    }
    return ConfigEntry(entry.key, apply(entry.value))
  }

  private static func hide(_ text: String) -> String {
    if text.contains("PRIVATE KEY-----") { return mask }
    return hidePassword(text)
  }

  /// `scheme://user:password@host…?password=…` without its passwords.
  private static func hidePassword(_ text: String) -> String {
    guard text.contains("://") else { return text }
    guard let query = text.firstRange(of: "password=") else { return hideUserPassword(text) }
    let rest = text[query.upperBound...].drop { $0 != "&" }
    return hideUserPassword(String(text[..<query.upperBound])) + mask + rest
  }

  private static func hideUserPassword(_ text: String) -> String {
    guard let scheme = text.firstRange(of: "://"), let at = text[scheme.upperBound...].lastIndex(of: "@"),
      let colon = text[scheme.upperBound..<at].firstIndex(of: ":")
    else { return text }
    return text[...colon] + mask + text[at...]
  }
}
