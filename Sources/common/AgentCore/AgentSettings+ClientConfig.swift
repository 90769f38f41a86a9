import Configuration
import FoundationEssentials

extension AgentSettings {
  /// The settings of a client file; options of the command line win.
  ///
  /// - Throws: what the file asks for and this version cannot do.
  package init(
    config: ClientConfig, writeback: String? = nil, buffer: String? = nil,
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws(AgentError) {
    self.init()
    let client = config.client
    proxies = try ProxyPolicy(proxy: client.proxy, config: client.proxyConfig, environment: environment)
    for url in client.serverURLs { _ = try BaseURL(url) }
    serverURLs = client.serverURLs
    caCertificate = client.caCertificate
    nonce = client.nonce
    pinnedServerName = client.pinnedServerName
    tls.useSelfSigned = client.useSelfSignedSSL
    tls.systemRoots = ["SSL_CERT_FILE", "SSL_CERT_DIR"].lazy.compactMap { environment[$0] }.first { !$0.isEmpty }
    tls.mode = client.crypto.certificateVerificationMode
    tls.thumbprints = Set(client.crypto.certificateThumbprints)
    tls.rootCertificates = client.crypto.rootCerts
    tls.clientCertificate = client.crypto.clientCertificate ?? ""
    tls.clientPrivateKey = client.crypto.clientCertificatePrivateKey ?? ""
    minPoll = .seconds(client.minPoll)
    minPollIsSet = client.isMinPollSet
    maxPoll = .seconds(client.maxPoll)
    maxPollDeviation = .seconds(client.maxPollStd)
    connectionTimeout = .seconds(client.connectionTimeout)
    webSocketPingWait = .seconds(client.webSocketPingWait)
    fallbackAddresses = client.fallbackAddresses
    clientInfoInterval = client.clientInfoUpdateTime < 0 ? nil : .seconds(client.clientInfoUpdateTime)
    nannyDelay = client.nannyMaxConnectionDelay > 0 ? .seconds(client.nannyMaxConnectionDelay) : nil
    defaultMaxWait = .seconds(client.defaultMaxWait)
    flowStatsInterval = .seconds(client.defaultServerFlowStatsUpdate)
    maxUploadSize = client.maxUploadSize
    queueMemorySize = client.localBuffer.memorySize
    concurrency = client.concurrency
    memoryLimit = client.maxMemoryHardLimit > 0 ? client.maxMemoryHardLimit : nil
    compress = !client.disableCompression
    allowsExecution = !client.preventExecve
    writebackPath = writeback ?? client.writebackPath() ?? ""
    writebackSuffix = client.level2WritebackSuffix
    queuePath = buffer ?? client.bufferPath()
    queueDiskSize = client.localBuffer.diskSize > 0 ? client.localBuffer.diskSize : queueDiskSize
    labels = client.labels
  }
}
