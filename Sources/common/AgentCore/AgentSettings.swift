import Configuration

/// Everything the agent needs to know, with the defaults of client.md §1. Times are durations, sizes are bytes.
package struct AgentSettings: Sendable {
  // MARK: deployment
  /// Base URLs, each ending in `/`.
  package var serverURLs: [String] = []
  /// PEM of the deployment CA, the anchor of server.pem and of TLS rule (a).
  package var caCertificate = ""
  /// Selects the org; a weak secret, never logged.
  package var nonce = ""
  package var pinnedServerName = "VelociraptorServer"
  package var tls = TLSSettings()
  package var proxies = ProxyPolicy.direct
  /// `host:port` to `host:port`, tried when the first cannot be connected to.
  package var fallbackAddresses: [String: String] = [:]

  // MARK: timing
  /// Pause after each reader round and between bulk bodies.
  package var minPoll: Duration = .seconds(1)
  /// Set when the configuration names min_poll: then it is the sender limiter's period too.
  package var minPollIsSet = false
  package var maxPoll: Duration = .seconds(60)
  package var maxPollDeviation: Duration = .seconds(30)
  /// Middles of the waits after the first failed rounds; then `max_poll` and its random part.
  package var quickRetries: [Duration] = [.seconds(1), .seconds(3)]
  package var connectionTimeout: Duration = .seconds(300)
  package var webSocketPingWait: Duration = .seconds(60)
  /// `nanny_max_connection_delay`; absent: loops are not watched.
  package var nannyDelay: Duration?
  /// `client_info_update_time`; absent: the host's facts are never sent.
  package var clientInfoInterval: Duration? = .seconds(86_400)
  package var defaultMaxWait: Duration = .seconds(100)
  package var flowStatsInterval: Duration = .seconds(5)

  // MARK: sizes
  package var maxUploadSize = 5_242_880
  package var queueMemorySize = 52_428_800
  package var queueDiskSize = 1_073_741_824
  package var concurrency = 2
  package var compress = true
  /// `prevent_execve` forbids queries to start programs.
  package var allowsExecution = true
  /// `max_memory_hard_limit`: bytes; absent: none.
  package var memoryLimit: Int?

  // MARK: files
  package var writebackPath = ""
  package var writebackSuffix = ""
  /// Absent: the queue lives in memory.
  package var queuePath: String?

  // MARK: identity shown to the server
  package var labels: [String] = []
  package var versionName = "microraptor"
  package var version = "0.1.0"
  package var buildURL = ""
  package var buildTime = ""

  package init() {}

  /// How long a loop may be without a sign of life. One exchange may rightly be silent for as long as its time-out.
  package var longestSilence: Duration? { nannyDelay.map { max($0, connectionTimeout + .seconds(60)) } }

  package var sender: SenderSettings {
    SenderSettings(
      pause: minPoll, limiterPeriod: minPollIsSet ? minPoll : .milliseconds(100), limiterBurst: 100,
      bodySize: maxUploadSize, longestHold: maxPoll)
  }

  package var backOff: BackOff.Policy {
    BackOff.Policy(base: maxPoll, deviation: maxPollDeviation, quick: quickRetries)
  }
}

/// The TLS part of the configuration (http.md §8).
package struct TLSSettings: Sendable {
  package var useSelfSigned = false
  package var mode: CertificateVerificationMode = .pki
  /// A file or a directory of PEM, instead of the system's roots: `SSL_CERT_FILE`, `SSL_CERT_DIR`.
  package var systemRoots: String?
  /// Lower-case hex without separators.
  package var thumbprints: Set<String> = []
  /// Additional roots, PEM.
  package var rootCertificates = ""
  package var clientCertificate = ""
  package var clientPrivateKey = ""

  package init() {}
}
