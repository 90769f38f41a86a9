import FoundationEssentials
import Glibc

/// What the agent tells the server about its host (client.md §3).
package struct HostFacts: Equatable, Sendable {
  package var hostname = ""
  package var fqdn = ""
  package var system = "linux"
  /// Platform and version without a separator: `debian12`.
  package var release = ""
  /// In Go's words: `amd64`, `arm64`.
  package var architecture = ""

  package init() {}

  /// The facts of this host. Asks the resolver for the full name, so not for an event loop.
  package static func current() -> HostFacts {
    var facts = HostFacts()
    var names = utsname()
    if uname(&names) == 0 {
      facts.hostname = text(of: names.nodename)
      facts.architecture = goArchitecture(text(of: names.machine))
    }
    facts.fqdn = canonicalName(of: facts.hostname) ?? facts.hostname
    let files = ["/etc/os-release", "/usr/lib/os-release"]
    if let content = files.lazy.compactMap({ try? String(contentsOfFile: $0, encoding: .utf8) }).first {
      facts.release = release(fromOSRelease: content)
    }
    return facts
  }

  private static func text<T>(of field: T) -> String {
    withUnsafeBytes(of: field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }

  static func goArchitecture(_ machine: String) -> String {
    switch machine {
    case "x86_64": "amd64"
    case "aarch64": "arm64"
    case "i386", "i486", "i586", "i686": "386"
    default: machine
    }
  }

  static func release(fromOSRelease content: String) -> String {
    var values: [Substring: Substring] = [:]
    for line in content.split(whereSeparator: \.isNewline) {
      let parts = line.split(separator: "=", maxSplits: 1)
      guard parts.count == 2, let key = parts.first, let value = parts.last else { continue }
      values[key] = value.drop { $0 == "\"" }.prefix { $0 != "\"" }
    }
    return String((values["ID"] ?? "") + (values["VERSION_ID"] ?? ""))
  }

  private static func canonicalName(of host: String) -> String? {
    var hints = addrinfo()
    hints.ai_flags = AI_CANONNAME
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var result: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, nil, &hints, &result) == 0 else { return nil }
    defer { freeaddrinfo(result) }
    guard let name = result?.pointee.ai_canonname else { return nil }
    let text = String(cString: name)
    return text.isEmpty ? nil : text
  }
}
