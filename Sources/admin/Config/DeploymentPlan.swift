import Configuration
import Foundation

/// What the operator chose for a new deployment; every choice has a sensible default.
struct DeploymentPlan: Sendable, Equatable {
  /// A choice that cannot be carried out.
  struct Problem: Error, Equatable, CustomStringConvertible {
    let description: String
  }

  /// The first frontend's port unless told otherwise.
  static let defaultPort = 8000
  /// Most frontends or workers in one directory; larger deployments spread over machines.
  static let processLimit = 512

  /// Absolute; the files lie in it.
  var directory: String
  /// Names and addresses in the TLS certificate.
  var hostNames: [String] = []
  /// Where agents connect to: one URL for each frontend.
  var urls: [String] = []
  var bindAddress = "0.0.0.0"
  var bindPort = defaultPort
  /// Where frontends find the workers.
  var workerEndpoints: [WorkerEndpoint] = []
  /// Whether the link to the workers leaves the machine, so that it needs CURVE keys.
  var needsCurve: Bool { workerEndpoints.contains(where: \.needsCurve) }
  var datastore: DatastoreSection
  /// Of the message certificate and the TLS leaf.
  var validityDays = 365
  /// `Client.max_poll` in seconds.
  var maxPoll: Int?

  /// The choices as they come from flags or the wizard.
  struct Choices: Sendable {
    var directory = ""
    var hostNames: [String] = []
    var ports: [Int] = []
    var frontends: Int?
    var workers = 1
    /// Endpoints of workers, such as `tcp://10.0.0.5:9000`; they replace the sockets that `workers` counts.
    var workerEndpoints: [String] = []
    var datastore: String?
    var urls: [String] = []
    var bindAddress = "0.0.0.0"
    var validityDays = 365
    var maxPoll: Int?
  }

  /// Checks the choices and fills in what follows from them.
  ///
  /// Frontend number i is reached at host name i (the last one when there are fewer) and port i (8000 on hosts of their
  /// own, 8000 + i on one host).
  ///
  /// - Throws: ``Problem`` that names the option to change.
  init(_ choices: Choices) throws(Problem) {
    guard !choices.directory.isEmpty else {
      throw Problem(description: "--directory is needed: where the files shall lie")
    }
    let directory = URL(fileURLWithPath: choices.directory).standardizedFileURL.path
    self.directory = directory
    datastore = try Self.datastore(choices.datastore, directory)
    guard (1...36_500).contains(choices.validityDays) else {
      throw Problem(description: "--validity-days: expected 1 to 36500, found \(choices.validityDays)")
    }
    validityDays = choices.validityDays
    if let maxPoll = choices.maxPoll, !(1...86_400).contains(maxPoll) {
      throw Problem(description: "--max-poll: expected 1 to 86400 seconds, found \(maxPoll)")
    }
    maxPoll = choices.maxPoll
    bindAddress = choices.bindAddress
    try Self.check("--workers", choices.workerEndpoints.isEmpty ? choices.workers : choices.workerEndpoints.count)
    workerEndpoints =
      try choices.workerEndpoints.isEmpty
      ? Self.endpoints(directory, choices.workers) : Self.endpoints(choices.workerEndpoints)
    urls = try Self.urls(choices)
    bindPort = choices.ports.first ?? Self.defaultPort
    var names = choices.hostNames.isEmpty && choices.urls.isEmpty ? ["localhost", "127.0.0.1"] : choices.hostNames
    for host in urls.compactMap({ ServerURL($0)?.host }) where !names.contains(host) {
      names.append(host)
    }
    hostNames = names
  }

  /// What is written into the files as `Frontend.hostname`.
  var publicName: String { hostNames.first ?? "localhost" }

  private static func check(_ option: String, _ count: Int) throws(Problem) {
    guard (1...processLimit).contains(count) else {
      throw Problem(description: "\(option): expected 1 to \(processLimit), found \(count)")
    }
  }

  private static func datastore(_ text: String?, _ directory: String) throws(Problem) -> DatastoreSection {
    guard let text, !text.isEmpty, text.lowercased() != "sqlite" else {
      return DatastoreSection(implementation: .sqlite, location: directory + "/datastore")
    }
    if text.hasPrefix("postgresql://") || text.hasPrefix("postgres://") {
      return DatastoreSection(implementation: .postgresql, location: text)
    }
    guard !text.contains("://") else {
      throw Problem(description: "--datastore: expected a directory or a postgresql:// URL")
    }
    return DatastoreSection(implementation: .sqlite, location: URL(fileURLWithPath: text).standardizedFileURL.path)
  }

  private static func endpoints(_ directory: String, _ workers: Int) throws(Problem) -> [WorkerEndpoint] {
    var endpoints: [WorkerEndpoint] = []
    for number in 1...workers {
      do throws(WorkerEndpoint.Failure) {
        endpoints.append(try WorkerEndpoint("ipc://\(directory)/run/worker-\(number).sock"))
      } catch {
        throw Problem(description: "--directory: \(error)")
      }
    }
    return endpoints
  }

  /// Endpoints as the operator gave them; hosts other than loopback are accepted, because keys are made for them.
  static func endpoints(_ texts: [String]) throws(Problem) -> [WorkerEndpoint] {
    var endpoints: [WorkerEndpoint] = []
    for text in texts {
      do throws(WorkerEndpoint.Failure) {
        endpoints.append(try WorkerEndpoint(text, isEncrypted: true))
      } catch {
        throw Problem(description: "--workers: \(error)")
      }
    }
    guard Set(endpoints).count == endpoints.count else {
      throw Problem(description: "--workers: an endpoint is there twice")
    }
    return endpoints
  }

  /// Where a worker listens so that frontends reach it at the endpoint. ZeroMQ binds to addresses, not to host names.
  static func bindEndpoint(of endpoint: WorkerEndpoint) -> WorkerEndpoint {
    if case .dns(let host, let port) = endpoint {
      return .tcp(host: WorkerEndpoint.isLoopback(host) ? "127.0.0.1" : "0.0.0.0", port: port)
    }
    guard endpoint.needsCurve, case .tcp(let host, let port) = endpoint else { return endpoint }
    var bytes = in6_addr()
    let isAddress = inet_pton(AF_INET, host, &bytes) == 1 || inet_pton(AF_INET6, host, &bytes) == 1
    return isAddress ? endpoint : .tcp(host: "0.0.0.0", port: port)
  }

  private static func urls(_ choices: Choices) throws(Problem) -> [String] {
    if !choices.urls.isEmpty {
      for url in choices.urls where ServerURL(url) == nil {
        throw Problem(description: "--url: expected https://name:port/ with the final /, found “\(url)”")
      }
      return choices.urls
    }
    let hosts = choices.hostNames.isEmpty ? ["localhost"] : choices.hostNames
    let count = choices.frontends ?? max(choices.ports.count, hosts.count)
    try check("--frontends", count)
    guard choices.ports.count <= count else {
      throw Problem(description: "--frontend-port: given \(choices.ports.count) times for \(count) frontends")
    }
    guard choices.ports.allSatisfy({ (1...65_535).contains($0) }) else {
      throw Problem(description: "--frontend-port: expected 1 to 65535")
    }
    var urls: [String] = []
    for index in 0..<count {
      let host = index < hosts.count ? hosts[index] : hosts.last ?? "localhost"
      let port = index < choices.ports.count ? choices.ports[index] : following(choices.ports, index, hosts.count)
      guard port <= 65_535 else { throw Problem(description: "--frontend-port: \(port) is no port") }
      let authority = host.contains(":") ? "[\(host)]" : host
      let url = port == 443 ? "https://\(authority)/" : "https://\(authority):\(port)/"
      guard ServerURL(url) != nil else {
        throw Problem(description: "--hostname: “\(host)” is neither a host name nor an IP address")
      }
      guard !urls.contains(url) else {
        throw Problem(description: "--frontend-port: two frontends would have the URL \(url)")
      }
      urls.append(url)
    }
    return urls
  }

  /// The port of a frontend without one of its own.
  private static func following(_ ports: [Int], _ index: Int, _ hosts: Int) -> Int {
    let isOnOwnHost = index < hosts
    guard let last = ports.last else { return isOnOwnHost && hosts > 1 ? defaultPort : defaultPort + index }
    return isOnOwnHost && hosts > 1 ? last : last + index - ports.count + 1
  }
}
