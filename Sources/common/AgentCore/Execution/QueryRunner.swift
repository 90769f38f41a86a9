import Glibc
import VQL
import Wire

/// `CollectorEngine` on the VQL engine. All that AgentCore knows of running VQL is in this file.
package struct VQLEngine: CollectorEngine {
  private let settings: AgentSettings
  private let installTime: UInt64

  package init(settings: AgentSettings, installTime: UInt64 = 0) {
    self.settings = settings
    self.installTime = installTime
  }

  package func makeSession(_ request: EngineRequest) throws -> any EngineSession {
    var options = VQLSessionOptions()
    options.environment = request.environment
    options.config = config
    options.sessionID = request.sessionID
    options.artifacts = request.artifacts.map(Self.artifact)
    // The engine's own messages end with a line feed inside the text (flows.md §4).
    options.log = { [log = request.log] text in log(text.hasSuffix("\n") ? text : text + "\n") }
    options.allowsExecution = settings.allowsExecution
    options.uploader = request.uploads.map { Uploader(target: $0, operation: request.operation) }
    options.web = web
    options.throttle = { [operation = request.operation] in operation() }
    return Session(VQLSession(options: options))
  }

  /// Queries reach the network as the agent does: its roots, its own servers' name, its proxies. Where the operator pins
  /// certificates by thumbprint, a query cannot switch verification off.
  private var web: VQLWebSettings {
    var web = VQLWebSettings()
    web.trustedRoots = settings.caCertificate + "\n" + settings.tls.rootCertificates
    web.pinnedName = settings.pinnedServerName
    web.mayIgnoreCertificates = settings.tls.mode == .pki
    let proxies = settings.proxies
    web.proxy = { isTLS, host, port in
      let name = host.contains(":") ? "[\(host)]" : host
      let url = try BaseURL("\(isTLS ? "https" : "http")://\(name):\(port)/")
      return proxies.proxy(for: url).map {
        VQLWebSettings.Proxy(host: $0.host, port: $0.port, authorization: $0.authorization)
      }
    }
    return web
  }

  /// The `config` object: what artifacts read, in both spellings, and no secret. Made for each session, as its values
  /// belong to one thread.
  private var config: VQLValue {
    let version = VQLValue.dict([
      ("Name", .string(settings.versionName)), ("name", .string(settings.versionName)),
      ("Version", .string(settings.version)), ("version", .string(settings.version)),
      ("BuildTime", .string(settings.buildTime)), ("build_time", .string(settings.buildTime)),
      ("ci_build_url", .string(settings.buildURL)), ("CiBuildUrl", .string(settings.buildURL)),
      ("install_time", .int(Int64(clamping: installTime))), ("InstallTime", .int(Int64(clamping: installTime))),
    ])
    let labels = VQLValue.array(settings.labels.map { .string($0) })
    let urls = VQLValue.array(settings.serverURLs.map { .string($0) })
    return .dict([
      ("Version", version), ("version", version), ("Labels", labels), ("labels", labels), ("server_urls", urls),
      ("ServerUrls", urls), ("tempdir_linux", .string("")), ("TempdirLinux", .string("")),
    ])
  }

  private static func artifact(_ message: Proto_Artifact) -> VQLArtifact {
    VQLArtifact(
      name: message.name, type: message.type, precondition: message.precondition, export: message.export,
      imports: message.imports,
      parameters: message.parameters.map {
        VQLArtifact.Parameter(name: $0.name, type: $0.type, defaultValue: $0.default)
      },
      sources: message.sources.map { source in
        VQLArtifact.Source(
          name: source.name, precondition: source.precondition,
          queries: source.queries.isEmpty && !source.query.isEmpty ? [source.query] : source.queries)
      })
  }

  private final class Session: EngineSession {
    private let session: VQLSession

    init(_ session: VQLSession) { self.session = session }

    func run(_ text: String, sink: (EngineRow) throws -> Bool) throws {
      try session.run(text) { row in
        let wanted = try sink(EngineRow(columns: row.columns) { row.appendJSON(to: &$0) })
        return wanted ? .more : .stop
      }
    }

    func cancel(reason: String) { session.cancel(reason: reason) }
    func close() { session.close() }
  }

  private struct Uploader: VQLUploader {
    /// Accessors whose files this host can open again later, and go on with from any place.
    private static let resumable = ["", "auto", "file", "ext4", "ntfs"]

    let target: any UploadTarget
    let operation: @Sendable () -> Void

    func upload(
      _ request: VQLUploadRequest, read: (_ maxBytes: Int) throws -> [UInt8]?
    ) throws -> VQLUploadResult {
      var file = UploadFile()
      file.path = request.path
      file.components = request.storeAsComponents.isEmpty ? request.components : request.storeAsComponents
      file.accessor = request.accessor
      file.storeAsName = request.storeAsName
      file.expectedSize = request.expectedSize
      file.modified = request.modified ?? 0
      file.accessed = request.accessed ?? 0
      file.changed = request.changed ?? 0
      file.born = request.born ?? 0
      file.mode = Int64(request.mode)
      if request.isResumable, Self.resumable.contains(request.accessor) {
        return VQLUploadResult(size: request.expectedSize, storedSize: 0, uploadID: try target.later(file))
      }
      file.isSparse = ["", "auto", "file"].contains(request.accessor) && LocalFile.isSparse(request.path)
      let stream = try target.begin(file)
      let sent = try UploadCopy.copy(to: stream, isSparse: file.isSparse) { maximum in
        operation()
        return try read(maximum)
      }
      return VQLUploadResult(
        size: sent.size, storedSize: sent.storedSize, sha256: sent.sha256, md5: sent.md5, uploadID: stream.number)
    }
  }
}
