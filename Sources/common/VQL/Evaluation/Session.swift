import Glibc

/// How a row sink answers.
package enum VQLSinkResult: Sendable { case more, stop }

/// A row that left the engine: every member is computed.
package struct VQLRow {
  let dict: VQLDict
  let zone: VQLZone?

  /// Column names, in order.
  package var columns: [String] { dict.keys }

  package subscript(_ name: String) -> VQLValue? { dict[name] }

  /// Appends one compact JSON object, columns in order, without a line feed (language.md §3.9).
  package func appendJSON(to buffer: inout [UInt8]) {
    JSONWriter.object(dict, zone: zone, depth: 0, to: &buffer)
  }
}

/// A file that `upload()` sends.
package struct VQLUploadRequest: Sendable {
  /// Path as the accessor names it, and its components.
  package var path: String
  package var components: [String]
  package var accessor: String
  /// Where the server is to store it.
  package var storeAsName: String
  package var storeAsComponents: [String]
  /// Bytes expected; the file may turn out to be longer or shorter.
  package var expectedSize: Int64
  /// Times in nanoseconds since the epoch, nil when unknown.
  package var modified: Int64?
  package var accessed: Int64?
  package var changed: Int64?
  package var born: Int64?
  /// Permission and type bits as `stat` gives them.
  package var mode: UInt32
  /// The scope's `UPLOAD_IS_RESUMABLE` is true: the file may be sent later (flows.md §8).
  package var isResumable = false
}

/// What became of an upload.
package struct VQLUploadResult: Sendable {
  package var size: Int64
  package var storedSize: Int64
  package var sha256: String
  package var md5: String
  package var uploadID: Int64?
  package var error: String?

  package init(
    size: Int64, storedSize: Int64? = nil, sha256: String = "", md5: String = "", uploadID: Int64? = nil,
    error: String? = nil
  ) {
    self.size = size
    self.storedSize = storedSize ?? size
    self.sha256 = sha256
    self.md5 = md5
    self.uploadID = uploadID
    self.error = error
  }
}

/// Where `upload()` sends files; called on the query's thread, and may block.
package protocol VQLUploader: Sendable {
  /// - Parameter read: gives the next bytes of the file, at most as many as asked for; nil at its end.
  func upload(_ request: VQLUploadRequest, read: (_ maxBytes: Int) throws -> [UInt8]?) throws -> VQLUploadResult
}

/// Settings of a session.
package struct VQLSessionOptions: Sendable {
  package init() {}
  /// String variables, in order.
  package var environment: [(key: String, value: String)] = []
  /// The `config` object.
  package var config: VQLValue = .dict(VQLDict())
  /// The variable `_SessionId`.
  package var sessionID = ""
  package var artifacts: [VQLArtifact] = []
  /// Receives log lines, "LEVEL:text" or bare text for the default level, without a line feed.
  package var log: @Sendable (String) -> Void = { _ in }
  /// Where `upload()` sends files; nil: upload logs an error.
  package var uploader: (any VQLUploader)?
  /// Bytes that ORDER BY, GROUP BY and kept queries may hold together.
  package var memoryLimit = 256 << 20
  /// Called once per operation (a row read from a source).
  package var throttle: (@Sendable () throws -> Void)?
  /// Nanoseconds between looks at files that are followed.
  package var pollInterval: Int64 = 3_000_000_000
  /// How `http_client()` reaches the network.
  package var web = VQLWebSettings()
  /// False refuses `execve()`.
  package var allowsExecution = true
}

/// One collector: statements share one scope.
///
/// A session is used by one thread at a time (at least 1 MiB of stack; 8 MiB to reach the full nesting depth);
/// only `cancel` may be called from others, and touches nothing but the atomic flag, hence `@unchecked`.
package final class VQLSession: @unchecked Sendable {
  private let cancellation = Cancellation()
  private let context: Context
  private let root: Scope
  private let bindings = Bindings()
  private var isClosed = false

  package init(options: VQLSessionOptions) {
    context = Context(options: options, cancellation: cancellation)
    let environment = Bindings()
    environment.set("NULL", .value(.null))
    environment.set("_SessionId", .value(.string(options.sessionID)))
    if case .dict(let config) = options.config {
      environment.set("config", .value(.object(ConfigObject(config))))
    } else {
      environment.set("config", .value(options.config))
    }
    environment.set("Artifact", .value(.object(ArtifactReference(name: ""))))
    for (key, value) in options.environment { environment.set(key, .value(.string(value))) }
    let base = Scope(context: context, parent: nil, layer: .bindings(environment), aggregates: AggregateState())
    root = base.child(.bindings(bindings))
  }

  package var statistics: VQLStatistics { context.statistics }

  /// Ends the running query soon, from any thread; later ones do not start.
  ///
  /// - Parameter code: what `run` throws: `.cancelled`, or for example `.timeout`.
  package func cancel(reason: String, code: VQLError.Code = .cancelled) {
    cancellation.cancel(VQLError(code: code, message: reason))
  }

  /// Runs every statement of the text, in order, on the calling thread.
  ///
  /// - Throws: `VQLError` on a syntax error (nothing was run), on cancellation, or what the sink or throttle threw.
  package func run(_ text: String, sink: (VQLRow) throws -> VQLSinkResult) throws {
    let statements = try Parser.program(text)
    context.startThread()
    try withoutActuallyEscaping(sink) { sink in
      for statement in statements {
        try checkStopped()
        context.startStatement(statement.text)
        try StatementRunner.run(statement, in: root, bindings: bindings) { row in
          do {
            return try sink(self.output(row)) == .more
          } catch {
            self.context.failure = error
            return false
          }
        }
      }
    }
    try checkStopped()
  }

  private func checkStopped() throws {
    if let failure = context.failure {
      context.failure = nil
      throw failure
    }
    if cancellation.isCancelled { throw cancellation.error }
  }

  private func output(_ row: VQLValue) -> VQLRow {
    Output.row(row, root)
  }

  /// Runs destructors: temporary files go, children are killed, caches close.
  package func close() {
    guard !isClosed else { return }
    isClosed = true
    root.close()
    root.parent?.close()
    let counts = context.statistics
    context.log(
      .debug,
      "Query Stats: {\"RowsScanned\":\(counts.rowsScanned),\"PluginsCalled\":\(counts.pluginsCalled),"
        + "\"FunctionsCalled\":\(counts.functionsCalled),\"ProtocolSearch\":0,\"ScopeCopy\":0}")
  }
}

/// The agent's configuration: members answer to `snake_case` and to `CamelCase`.
final class ConfigObject: VQLObject {
  private let dict: VQLDict
  init(_ dict: VQLDict) { self.dict = dict }
  override var typeName: String { "*config.Config" }
  override var isTrue: Bool { dict.count > 0 }
  override var output: VQLValue { .dict(dict) }
  override var text: [UInt8] { VQLValue.dict(dict).text }

  override func member(_ name: String, in scope: Scope) -> VQLValue? {
    let wanted = Self.plain(name)
    guard let value = dict[name] ?? dict.keys.first(where: { Self.plain($0) == wanted }).flatMap({ dict[$0] }) else {
      return nil
    }
    if case .dict(let inner) = value { return .object(ConfigObject(inner)) }
    return value
  }

  private static func plain(_ name: String) -> String { name.lowercased().filter { $0 != "_" } }
}

enum StatementRunner {
  static func run(
    _ statement: Statement, in scope: Scope, bindings: Bindings, _ emit: (VQLValue) -> Bool
  ) throws {
    switch statement {
    case .letting(let node): define(node, in: scope, bindings)
    case .select(let node): _ = SelectRunner.run(node, scope, emit)
    }
  }

  private static func define(_ node: LetNode, in scope: Scope, _ bindings: Bindings) {
    let context = scope.context
    if Registry.function(node.name) != nil {
      context.log(.warn, "LET expression is masking a built in function \(node.name)")
    }
    guard node.materialized else { return bindings.set(node.name, .stored(node)) }
    if node.parameters != nil {
      context.log(
        .warn,
        "Expression \(node.name) takes parameters but is materialized! Did you mean to use '='?")
    }
    let value: VQLValue
    switch node.body {
    case .query(let select): value = .query(VQLQuery(.select(select)))
    case .expression(let expr): value = expr.eval(scope).resolved
    }
    if case .query(let query) = value {
      bindings.set(node.name, .value(.query(VQLQuery(.rows(keep(query, scope))))))
    } else {
      bindings.set(node.name, .value(value))
    }
  }

  /// Runs a query and keeps its rows for the rest of the session, as far as memory allows.
  private static func keep(_ query: VQLQuery, _ scope: Scope) -> [VQLValue] {
    if let rows = query.rows { return rows }
    var rows: [VQLValue] = []
    query.run(scope) { row in
      guard scope.context.reserve(row.footprint()) else {
        scope.context.log(
          .error, "Materialized LET exceeds the memory limit of \(scope.context.options.memoryLimit) bytes.")
        return false
      }
      rows.append(row)
      return true
    }
    return rows
  }
}

/// Makes rows ready to leave the engine: lazy members computed, nested queries run.
enum Output {
  private static let maximumDepth = 10

  static func row(_ row: VQLValue, _ scope: Scope) -> VQLRow {
    var zone: VQLZone?
    if case .value(.bytes(let name)) = scope.lookup("TZ") {
      zone = VQLZone(named: String(decoding: name, as: UTF8.self))
    }
    guard case .dict(let dict) = row else { return VQLRow(dict: VQLDict(), zone: zone) }
    if dict.values.allSatisfy(isPlain) && dict.shape.visible == nil { return VQLRow(dict: dict, zone: zone) }
    let made = VQLDict()
    dict.eachMember { made.set($0, value($1, scope, depth: 1)) }
    return VQLRow(dict: made, zone: zone)
  }

  private static func isPlain(_ value: VQLValue) -> Bool {
    switch value {
    case .null, .bool, .int, .integer, .double, .bytes, .time, .path: true
    default: false
    }
  }

  static func value(_ value: VQLValue, _ scope: Scope, depth: Int) -> VQLValue {
    if isPlain(value) { return value }
    guard depth <= maximumDepth else { return .null }
    switch value {
    case .lazy(let thunk): return Self.value(thunk.value, scope, depth: depth)
    case .query(let query):
      return .array(query.collect(scope).map { Self.value($0, scope, depth: depth + 1) })
    case .array(let elements): return .array(elements.map { Self.value($0, scope, depth: depth + 1) })
    case .dict(let dict):
      let made = VQLDict()
      dict.eachMember { made.set($0, Self.value($1, scope, depth: depth + 1)) }
      return .dict(made)
    case .object(let object): return Self.value(object.output, scope, depth: depth + 1)
    default: return value
    }
  }
}
