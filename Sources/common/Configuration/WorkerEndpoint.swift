/// Where a crypto-worker listens for frontends: `ipc:///path`, `tcp://loopback:port`, or with CURVE `tcp://host:port`. In a
/// frontend's file also `dns+tcp://name:port`: all addresses of the name, looked up again and again while running.
///
/// Plain TCP between machines would show decrypted jobs to the network and let anyone ask the worker to sign. ZeroMQ's
/// CURVE is what protects it: without keys for it such endpoints are refused.
package enum WorkerEndpoint: Sendable, Hashable, CustomStringConvertible {
  /// A Unix socket; at most ``pathLimit`` bytes.
  case ipc(path: String)
  /// A name or an address; IPv6 without brackets.
  case tcp(host: String, port: Int)
  /// A name whose addresses are workers; only frontends can use it.
  case dns(host: String, port: Int)

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
      let (host, port) = try Self.host(text, "tcp://", isEncrypted)
      self = .tcp(host: host, port: port)
    } else if text.hasPrefix("dns+tcp://") {
      let (host, port) = try Self.host(text, "dns+tcp://", isEncrypted)
      self = .dns(host: host, port: port)
    } else {
      throw Failure(
        expected: "ipc:///absolute/path, tcp://host:port or dns+tcp://name:port", found: SectionReader.shown(text),
        remedy: nil)
    }
  }

  /// As in the file; the form that ZeroMQ takes, but for `dns+tcp://`.
  package var description: String {
    switch self {
    case .ipc(let path): return "ipc://\(path)"
    case .tcp(let host, let port): return host.contains(":") ? "tcp://[\(host)]:\(port)" : "tcp://\(host):\(port)"
    case .dns(let host, let port): return "dns+tcp://\(host):\(port)"
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
    case .tcp(let host, _), .dns(let host, _): return !Self.isLoopback(host)
    }
  }

  private static func host(
    _ text: String, _ scheme: String, _ isEncrypted: Bool
  ) throws(Failure) -> (host: String, port: Int) {
    guard let (host, port) = ServerURL.split(text.dropFirst(scheme.count)), let port, !host.isEmpty,
      host.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "-._:".contains($0)) })
    else {
      throw Failure(
        expected: "\(scheme)host:port", found: SectionReader.shown(text),
        remedy: text.contains("*") ? "for all interfaces use tcp://0.0.0.0:port" : nil)
    }
    guard isEncrypted || isLoopback(host) else {
      throw Failure(
        expected: "ipc:// or a loopback tcp:// endpoint", found: SectionReader.shown(text),
        remedy: "tcp:// between machines needs CURVE keys under CryptoWorkers.curve; to make them, run: "
          + "microraptor config workers --directory DIRECTORY \(text) (new deployments: config generate --workers)")
    }
    return (host, port)
  }

  /// 127.0.0.0/8, ::1 and `localhost`.
  package static func isLoopback(_ host: String) -> Bool {
    if host == "::1" || host == "localhost" { return true }
    let parts = host.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts.first == "127" && parts.allSatisfy { UInt8($0) != nil }
  }
}
