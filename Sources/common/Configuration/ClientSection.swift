import FoundationEssentials

/// The `Client` section (client.md §1), with defaults applied.
///
/// An agent reads all of it. A server's copy may leave out what a server does not need: see ``Use``.
package struct ClientSection: Sendable, Equatable {
  /// Who reads the section, and thus what must be there.
  package enum Use: Sendable {
    /// `ca_certificate`, `nonce` and `server_urls` are required.
    case agent
    /// Only `ca_certificate` is required: a frontend needs no nonce.
    case frontend
    /// Only `nonce` is required.
    case worker
  }

  /// `server_urls`: list of URLs that end in `/`; where the agent connects to.
  package var serverURLs: [String] = []
  /// `ca_certificate`: PEM; the deployment's trust anchor.
  package var caCertificate = ""
  /// `nonce`: text, base64 of 8 random bytes when generated; selects the org. A weak secret: never log it.
  package var nonce = ""
  /// `use_self_signed_ssl`: bool, default false; the pinned name is the TLS server name.
  package var useSelfSignedSSL = false
  /// `pinned_server_name`: text, default `VelociraptorServer`; the name that `/server.pem` must carry.
  package var pinnedServerName = "VelociraptorServer"
  /// `Crypto`: additional trust settings.
  package var crypto = ClientCrypto()
  /// `min_poll`: seconds, default 1, at least 1; pause after each round of the reader and the sender.
  package var minPoll = 1
  /// Whether `min_poll` was given: then it is also the period of the sender's limiter.
  package var isMinPollSet = false
  /// `max_poll`: seconds, default 60, at least 1; wait after an error, and how long the server keeps a reader waiting.
  package var maxPoll = 60
  /// `max_poll_std`: seconds, default 30, at least 0; random part of waits, uniform over whole seconds below it.
  package var maxPollStd = 30
  /// `ws_ping_wait_sec`: seconds, default 60, at least 1; websockets.
  package var webSocketPingWait = 60
  /// `connection_timeout`: seconds, default 300, at least 1; connecting, TLS handshake, response headers, idle.
  package var connectionTimeout = 300
  /// `max_upload_size`: bytes, default 5242880, at least 1024; target size of one sender body.
  package var maxUploadSize = 5_242_880
  /// `local_buffer`: where unsent results wait.
  package var localBuffer = LocalBuffer()
  /// `writeback_linux`: path of the state file; expand it with ``writebackPath(environment:)``.
  package var writebackLinux: String?
  /// `level2_writeback_suffix`: text, default empty; suffix of the second state file.
  package var level2WritebackSuffix = ""
  /// `tempdir_linux`: path, default the system's; for temporary files.
  package var tempdirLinux: String?
  /// `concurrency`: default 2, at least 1; flows at a time.
  package var concurrency = 2
  /// Whether `concurrency` was given: servers then count in-flight flows differently.
  package var isConcurrencySet = false
  /// `default_max_wait`: seconds, default 100, at least 1; longest wait before rows are sent.
  package var defaultMaxWait = 100
  /// `default_server_flow_stats_update`: seconds, default 5, at least 1; period of progress reports.
  package var defaultServerFlowStatsUpdate = 5
  /// `client_info_update_time`: seconds, default 86400; -1 = never; period of the agent's report about its host.
  package var clientInfoUpdateTime = 86_400
  /// `nanny_max_connection_delay`: seconds, default 0 = no nanny; a loop silent for longer is restarted.
  package var nannyMaxConnectionDelay = 0
  /// `max_memory_hard_limit`: bytes, default 0 = none; memory above it restarts the agent.
  package var maxMemoryHardLimit = 0
  /// `disable_compression`: bool, default false; message lists are sent uncompressed.
  package var disableCompression = false
  /// `prevent_execve`: bool, default false; queries may start no programs.
  package var preventExecve = false
  /// `disable_checkpoints`: bool, default false.
  package var disableCheckpoints = false
  /// `additional_event_artifacts`: list of names, default empty; extra monitoring artifacts.
  package var additionalEventArtifacts: [String] = []
  /// `fallback_addresses`: map of `host:port` to `host:port`, tried after a DNS or connection failure.
  package var fallbackAddresses: [String: String] = [:]
  /// `proxy`: URL, default none; for both schemes.
  package var proxy: String?
  /// `proxy_config`: takes precedence over ``proxy``.
  package var proxyConfig: ProxyConfig?
  /// `labels`: list of texts, default empty; reported in the client info.
  package var labels: [String] = []
  /// Keys that other agents use (other systems' paths, installers, versions), as they are written.
  package var others: [ConfigEntry] = []

  package init() {}

  /// `writeback_linux` with its variables replaced; nil when the key is absent.
  package func writebackPath(environment: [String: String] = ProcessInfo.processInfo.environment) -> String? {
    writebackLinux.map { PathExpansion.expand($0, nonce: nonce, environment: environment) }
  }

  /// `local_buffer.filename_linux` with its variables replaced; nil when no file buffer is configured.
  package func bufferPath(environment: [String: String] = ProcessInfo.processInfo.environment) -> String? {
    guard localBuffer.diskSize > 0 else { return nil }
    return localBuffer.filenameLinux.map { PathExpansion.expand($0, environment: environment) }
  }
}

/// `Client.local_buffer`.
package struct LocalBuffer: Sendable, Equatable {
  /// `memory_size`: bytes, default 52428800, at least 65536; size of the buffer in memory.
  package var memorySize = 52_428_800
  /// `disk_size`: bytes, default 0 = no file; size of the buffer file.
  package var diskSize = 0
  /// `filename_linux`: path of the buffer file; see ``ClientSection/bufferPath(environment:)``.
  package var filenameLinux: String?

  package init() {}
}

/// `Client.Crypto` (http.md §8).
package struct ClientCrypto: Sendable, Equatable {
  /// `root_certs`: PEM, default empty; further trusted roots.
  package var rootCerts = ""
  /// `certificate_thumbprints`: SHA-256 of accepted leaves' DER; here lower-case hexadecimal without colons.
  package var certificateThumbprints: [String] = []
  /// `certificate_verification_mode`: `PKI` (default), `PKI_OR_THUMBPRINT` or `THUMBPRINT_ONLY`, in any case.
  package var certificateVerificationMode = CertificateVerificationMode.pki
  /// `client_certificate`: PEM, default none; presented when the server asks.
  package var clientCertificate: String?
  /// `client_certificate_private_key`: PEM; secret.
  package var clientCertificatePrivateKey: String?
  /// `allow_weak_tls_server`: bool, default false; the server also takes TLS 1.2.
  package var allowWeakTLSServer = false

  package init() {}
}

/// How the TLS leaf is judged (http.md §8).
package enum CertificateVerificationMode: String, Sendable, CaseIterable {
  case pki = "PKI"
  case pkiOrThumbprint = "PKI_OR_THUMBPRINT"
  case thumbprintOnly = "THUMBPRINT_ONLY"
}

/// `Client.proxy_config` (client.md §9).
package struct ProxyConfig: Sendable, Equatable {
  /// `http`: URL; a missing one copies `https`.
  package var http: String?
  /// `https`: URL; a missing one copies `http`.
  package var https: String?
  /// `proxy_url_regexp`: map of case-insensitive regular expressions on the full URL to proxy URLs; empty = direct.
  package var urlRegexp: [String: String] = [:]
  /// `pac`: URL of a PAC file.
  package var pac: String?
  /// `ignore_environment`: bool, default false; HTTP(S)_PROXY variables are not looked at.
  package var ignoreEnvironment = false

  package init() {}
}
