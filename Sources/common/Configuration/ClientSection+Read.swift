extension ClientSection {
  /// Keys of a client file that this implementation keeps and does not use.
  private static let foreignKeys = [
    "version", "server_version", "writeback_darwin", "writeback_windows", "tempdir_darwin", "tempdir_windows",
    "windows_installer", "darwin_installer", "linux_installer", "insecure_network_trace_file",
  ]

  /// Reads and checks the section.
  ///
  /// - Throws: ``ConfigurationError`` for a wrong value, an unknown key, or a key that `use` requires.
  init(_ section: SectionReader, use: Use) throws(ConfigurationError) {
    self.init()
    try readIdentity(section, use)
    try readTiming(section)
    try readLimits(section)
    if let reader = try section.section("local_buffer") { localBuffer = try LocalBuffer(reader) }
    if let reader = try section.section("Crypto") { crypto = try ClientCrypto(reader) }
    proxy = try section.string("proxy")
    if let reader = try section.section("proxy_config") { proxyConfig = try ProxyConfig(reader) }
    labels = try section.strings("labels")
    additionalEventArtifacts = try section.strings("additional_event_artifacts")
    fallbackAddresses = try section.map("fallback_addresses")
    for (from, to) in fallbackAddresses {
      for address in [from, to] where ServerURL.split(address[...])?.port == nil {
        throw section.wrong("fallback_addresses", "host:port on both sides", SectionReader.shown(address))
      }
    }
    writebackLinux = try section.string("writeback_linux")
    level2WritebackSuffix = try section.string("level2_writeback_suffix") ?? ""
    tempdirLinux = try section.string("tempdir_linux")
    others = section.keep(Self.foreignKeys)
    try section.finish()
  }

  private mutating func readIdentity(_ section: SectionReader, _ use: Use) throws(ConfigurationError) {
    let generate = "make the file with: microraptor config generate"
    if use == .worker {
      caCertificate = try section.string("ca_certificate") ?? ""
    } else {
      caCertificate = try section.requiredString("ca_certificate", "the CA certificate as PEM", remedy: generate)
      guard caCertificate.contains("-----BEGIN CERTIFICATE-----") else {
        throw section.wrong("ca_certificate", "a PEM block CERTIFICATE", "other text")
      }
    }
    nonce =
      use == .frontend
      ? try section.string("nonce") ?? ""
      : try section.requiredString("nonce", "the deployment's nonce", remedy: generate)
    serverURLs = try section.strings("server_urls")
    if use == .agent, serverURLs.isEmpty {
      throw section.wrong(
        "server_urls", "a list of at least one URL", section.has("server_urls") ? "an empty list" : "no such key")
    }
    for url in serverURLs where ServerURL(url) == nil {
      throw section.wrong(
        "server_urls", "https://, http://, wss:// or ws:// URLs that end in /", SectionReader.shown(url),
        remedy: url.hasSuffix("/") ? nil : "add the final /")
    }
    useSelfSignedSSL = try section.boolean("use_self_signed_ssl") ?? false
    if let name = try section.string("pinned_server_name"), !name.isEmpty { pinnedServerName = name }
  }

  private mutating func readTiming(_ section: SectionReader) throws(ConfigurationError) {
    let year = 31_536_000
    // Zero means the default, as everywhere in these files.
    if let value = try section.integer("min_poll", in: 0...year), value > 0 {
      minPoll = value
      isMinPollSet = true
    }
    maxPoll = try section.positive("max_poll", in: 0...year) ?? maxPoll
    maxPollStd = try section.positive("max_poll_std", in: 0...year) ?? maxPollStd
    webSocketPingWait = try section.positive("ws_ping_wait_sec", in: 0...year) ?? webSocketPingWait
    connectionTimeout = try section.positive("connection_timeout", in: 0...year) ?? connectionTimeout
    defaultMaxWait = try section.positive("default_max_wait", in: 0...year) ?? defaultMaxWait
    defaultServerFlowStatsUpdate =
      try section.positive("default_server_flow_stats_update", in: 0...year) ?? defaultServerFlowStatsUpdate
    if let value = try section.integer("client_info_update_time", in: -1...year), value != 0 {
      clientInfoUpdateTime = value
    }
    nannyMaxConnectionDelay = try section.integer("nanny_max_connection_delay", in: 0...year) ?? 0
  }

  private mutating func readLimits(_ section: SectionReader) throws(ConfigurationError) {
    maxUploadSize = try section.positive("max_upload_size", in: 0...1_073_741_824) ?? maxUploadSize
    if let value = try section.integer("concurrency", in: 0...10_000), value > 0 {
      concurrency = value
      isConcurrencySet = true
    }
    maxMemoryHardLimit = try section.integer("max_memory_hard_limit", in: 0...Int.max) ?? 0
    disableCompression = try section.boolean("disable_compression") ?? false
    preventExecve = try section.boolean("prevent_execve") ?? false
    disableCheckpoints = try section.boolean("disable_checkpoints") ?? false
  }
}

extension SectionReader {
  /// An integer in a range; zero and a missing key give nil.
  func positive(_ key: String, in range: ClosedRange<Int>) throws(ConfigurationError) -> Int? {
    guard let value = try integer(key, in: range), value > 0 else { return nil }
    return value
  }

  /// A TCP port; nil when the key is missing.
  func port(_ key: String) throws(ConfigurationError) -> Int? {
    try integer(key, in: 0...65_535)
  }
}

extension LocalBuffer {
  init(_ section: SectionReader) throws(ConfigurationError) {
    self.init()
    memorySize = try section.positive("memory_size", in: 0...Int.max) ?? memorySize
    diskSize = try section.integer("disk_size", in: 0...Int.max) ?? 0
    filenameLinux = try section.string("filename_linux")
    _ = section.keep(["filename_windows", "filename_darwin"])
    try section.finish()
  }
}

extension ClientCrypto {
  init(_ section: SectionReader) throws(ConfigurationError) {
    self.init()
    rootCerts = try section.string("root_certs") ?? ""
    certificateThumbprints = try section.strings("certificate_thumbprints").map {
      $0.lowercased().filter { $0 != ":" && !$0.isWhitespace }
    }
    for thumbprint in certificateThumbprints where thumbprint.count != 64 || !thumbprint.allSatisfy(\.isHexDigit) {
      throw section.wrong(
        "certificate_thumbprints", "SHA-256 sums of 64 hexadecimal digits", SectionReader.shown(thumbprint))
    }
    if let text = try section.string("certificate_verification_mode"), !text.isEmpty {
      guard let mode = CertificateVerificationMode(rawValue: text.uppercased()) else {
        throw section.wrong(
          "certificate_verification_mode", "PKI, PKI_OR_THUMBPRINT or THUMBPRINT_ONLY", SectionReader.shown(text))
      }
      certificateVerificationMode = mode
    }
    clientCertificate = try section.string("client_certificate")
    clientCertificatePrivateKey = try section.string("client_certificate_private_key")
    allowWeakTLSServer = try section.boolean("allow_weak_tls_server") ?? false
    try section.finish()
  }
}

extension ProxyConfig {
  init(_ section: SectionReader) throws(ConfigurationError) {
    self.init()
    http = try section.string("http")
    https = try section.string("https")
    urlRegexp = try section.map("proxy_url_regexp")
    pac = try section.string("pac")
    ignoreEnvironment = try section.boolean("ignore_environment") ?? false
    try section.finish()
  }
}
