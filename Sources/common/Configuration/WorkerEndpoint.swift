/// Where a crypto-worker listens for frontends: `ipc:///path`, `tcp://loopback:port`, or with CURVE `tcp://host:port`.
///
/// Plain TCP between machines would show decrypted jobs to the network and let anyone ask the worker to sign. ZeroMQ's
/// CURVE is what protects it: without keys for it such endpoints are refused.
package enum WorkerEndpoint: Sendable, Hashable, CustomStringConvertible {
  /// A Unix socket; at most ``pathLimit`` bytes.
  case ipc(path: String)
  /// A name or an address; IPv6 without brackets.
  case tcp(host: String, port: Int)

  /// The longest socket path that the system accepts, in bytes.
  package static let pathLimit = 107

  package struct Failure: Error, Sendable, Equatable, CustomStringConvertible {
    package let expected: String
    package let found: String
    package let remedy: String?

    package var description: String {
      "expected \(expected), found \(found)" + (remedy.map { " (\($0))" } ?? "")
    }
  }

  /// Reads an endpoint.
  ///
  /// - Parameter isEncrypted: whether there are CURVE keys, so that hosts other than loopback may be named.
  /// - Throws: ``Failure`` with what was expected and what to do.
  package init(_ text: String, isEncrypted: Bool = false) throws(Failure) {
    if text.hasPrefix("ipc://") {
      self = .ipc(path: try Self.socketPath(String(text.dropFirst(6))))
    } else if text.hasPrefix("tcp://") {
      self = try Self.host(text, isEncrypted)
    } else {
      throw Failure(
        expected: "ipc:///absolute/path or tcp://host:port", found: SectionReader.shown(text), remedy: nil)
    }
  }

  /// The form that ZeroMQ takes.
  package var description: String {
    switch self {
    case .ipc(let path): return "ipc://\(path)"
    case .tcp(let host, let port): return host.contains(":") ? "tcp://[\(host)]:\(port)" : "tcp://\(host):\(port)"
    }
  }

  private static func socketPath(_ path: String) throws(Failure) -> String {
    guard path.hasPrefix("/") else {
      throw Failure(
        expected: "ipc:// and an absolute path", found: SectionReader.shown("ipc://" + path),
        remedy: "abstract sockets (ipc://@…) have no file permissions and are not accepted")
    }
    guard path.utf8.count <= pathLimit else {
      throw Failure(
        expected: "a socket path of at most \(pathLimit) bytes", found: "\(path.utf8.count) bytes",
        remedy: "use a directory with a shorter name")
    }
    return path
  }

  /// Whether only CURVE makes this endpoint safe: it can be reached from other machines.
  package var needsCurve: Bool {
    switch self {
    case .ipc: return false
    case .tcp(let host, _): return !Self.isLoopback(host)
    }
  }

  private static func host(_ text: String, _ isEncrypted: Bool) throws(Failure) -> WorkerEndpoint {
    guard let (host, port) = ServerURL.split(text.dropFirst(6)), let port, !host.isEmpty,
      host.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "-._:".contains($0)) })
    else {
      throw Failure(
        expected: "tcp://host:port", found: SectionReader.shown(text),
        remedy: text.contains("*") ? "for all interfaces use tcp://0.0.0.0:port" : nil)
    }
    guard isEncrypted || isLoopback(host) else {
      throw Failure(
        expected: "ipc:// or a loopback tcp:// endpoint", found: SectionReader.shown(text),
        remedy: "tcp:// between machines needs CURVE keys under CryptoWorkers.curve; to make them, run: "
          + "microraptor config workers --directory DIRECTORY \(text) (new deployments: config generate --workers)")
    }
    return .tcp(host: host, port: port)
  }

  /// 127.0.0.0/8, ::1 and `localhost`.
  private static func isLoopback(_ host: String) -> Bool {
    if host == "::1" || host == "localhost" { return true }
    let parts = host.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts.first == "127" && parts.allSatisfy { UInt8($0) != nil }
  }
}
