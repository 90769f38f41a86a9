import CLibPQ
import Foundation

/// Where to connect, from a URL or a `key=value` text as libpq reads it. It holds the password and is never printed.
struct PGTarget: Sendable {
  private let url: String
  private let hosts: [String]
  private let ports: [String]

  /// - Throws: `.invalid` for what libpq cannot parse; the message is without the password.
  init(url: String) throws {
    self.url = url
    var message: UnsafeMutablePointer<CChar>?
    guard let options = PQconninfoParse(url, &message) else {
      PQfreemem(message)
      throw StoreError(
        .invalid, "Datastore.url is no PostgreSQL URL; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    }
    defer { PQconninfoFree(options) }
    var values: [String: String] = [:]
    var option = options
    while let keyword = option.pointee.keyword {
      if let value = option.pointee.val { values[String(cString: keyword)] = String(cString: value) }
      option = option.successor()
    }
    let split = { (text: String?) in text?.split(separator: ",", omittingEmptySubsequences: false).map(String.init) }
    hosts = values["hostaddr"] == nil ? split(values["host"]) ?? [] : []
    ports = split(values["port"]) ?? []
  }

  /// Starts to connect; nil when memory is short.
  ///
  /// With several hosts each attempt begins at the next, because libpq applies no time limit per host to connections
  /// that are made without blocking, and only a server that takes writes is accepted.
  func start(attempt: Int) -> OpaquePointer? {
    var settings = [("dbname", url), ("client_encoding", "UTF8"), ("fallback_application_name", "microraptor")]
    if hosts.count > 1 {
      settings.append(("host", Self.rotated(hosts, attempt)))
      if ports.count == hosts.count { settings.append(("port", Self.rotated(ports, attempt))) }
      settings.append(("target_session_attrs", "read-write"))
    }
    settings += [("keepalives_idle", "10"), ("keepalives_interval", "5"), ("keepalives_count", "2")]
    var keywords: [UnsafePointer<CChar>?] = settings.map { UnsafePointer(strdup($0.0)) } + [nil]
    var values: [UnsafePointer<CChar>?] = settings.map { UnsafePointer(strdup($0.1)) } + [nil]
    defer {
      for text in keywords + values { free(UnsafeMutableRawPointer(mutating: text)) }
    }
    return PQconnectStartParams(&keywords, &values, 1)
  }

  private static func rotated(_ texts: [String], _ by: Int) -> String {
    let start = by % texts.count
    return (texts[start...] + texts[..<start]).joined(separator: ",")
  }
}
