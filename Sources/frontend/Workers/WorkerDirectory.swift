import Configuration

/// Which crypto-workers there are, as a value: those that are named, and the addresses of names that are looked up.
struct WorkerDirectory {
  enum Note: Equatable {
    /// The name has no address, or cannot be looked up: what was known stays.
    case unknownName(String)
    /// Without CURVE only loopback may be spoken to; these addresses are left out.
    case unsafeAddresses(String, count: Int)
  }

  private(set) var endpoints: [WorkerEndpoint]
  private let isEncrypted: Bool
  /// Addresses by name as it stands in the configuration.
  private var addresses: [WorkerEndpoint: [WorkerEndpoint]] = [:]

  /// - Parameter isEncrypted: whether the link has CURVE keys.
  init(_ endpoints: [WorkerEndpoint], isEncrypted: Bool) {
    self.endpoints = endpoints
    self.isEncrypted = isEncrypted
  }

  /// The configuration names other workers now.
  mutating func configure(_ endpoints: [WorkerEndpoint]) {
    self.endpoints = endpoints
    addresses = addresses.filter { endpoints.contains($0.key) }
  }

  /// The names that are to be looked up.
  var names: [WorkerEndpoint] {
    endpoints.filter { if case .dns = $0 { true } else { false } }
  }

  /// A name was looked up.
  /// - Parameter found: its addresses; empty when there is none or the look-up failed.
  mutating func resolved(_ name: WorkerEndpoint, _ found: [String]) -> Note? {
    guard case .dns(_, let port) = name, endpoints.contains(name) else { return nil }
    guard !found.isEmpty else { return .unknownName(name.description) }
    let safe = Set(found).filter { isEncrypted || WorkerEndpoint.isLoopback($0) }
    if !safe.isEmpty { addresses[name] = safe.sorted().map { .tcp(host: $0, port: port) } }
    let left = Set(found).count - safe.count
    return left > 0 ? .unsafeAddresses(name.description, count: left) : nil
  }

  /// The workers to connect to, each once, in the order of the configuration.
  var workers: [String] {
    var seen: Set<String> = []
    return endpoints.flatMap { endpoint -> [WorkerEndpoint] in
      if case .dns = endpoint { addresses[endpoint] ?? [] } else { [endpoint] }
    }
    .map(\.description).filter { seen.insert($0).inserted }
  }
}
