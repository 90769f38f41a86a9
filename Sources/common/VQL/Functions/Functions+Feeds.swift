extension Functions {
  static let feeds: [FunctionSpec] = [
    FunctionSpec(
      "generate", "query*: query, name: string, delay: int, fan_out: int, with_file_buffer: bool",
      "One run of a query whose rows go to all that read it."
    ) { call in
      guard let query = call.query("query") else { return .null }
      let delay = max(0, min(try call.int("delay") ?? 2, 3600))
      let readers = max(0, min(try call.int("fan_out") ?? 0, 1000))
      let generator = Generator(query, call.scope, delay: delay * 1_000_000_000, readers: Int(readers))
      call.scope.root.onClose { generator.stop() }
      return .object(generator)
    },
    FunctionSpec(
      "pipe", "name: string, query*: query, sep: string",
      "Output of a query that can be read as a file, by the accessor pipe."
    ) { call in
      guard let query = call.query("query") else { return .null }
      let pipe = QueryPipe(query, call.string("sep") ?? [], call.scope)
      if let name = call.text("name"), !name.isEmpty { call.context.caches["pipe:" + name] = .object(pipe) }
      return .object(pipe)
    },
  ]
}

/// What `generate()` gives: each reader sees the rows that come after it began to read.
///
/// The query starts when the first reader has come and the delay has passed, or when enough readers have come. It
/// waits for the slowest reader.
final class Generator: RowFeed {
  private static let maximumLag = 1000
  private let query: RowSource
  private let scope: Scope
  private let delay: Int64
  private let wantedReaders: Int
  private var crew: Crew?
  /// Rows that a reader still needs; the first has the number `dropped`.
  private var rows: [VQLValue] = []
  private var dropped = 0
  private var readers: [Int: Int] = [:]
  private var nextReader = 0
  private var isFinished = false

  init(_ query: RowSource, _ scope: Scope, delay: Int64, readers: Int) {
    self.query = query
    self.scope = scope
    self.delay = delay
    wantedReaders = readers
  }

  override var typeName: String { "*Generator" }
  override var isTrue: Bool { true }

  func stop() {
    crew?.stop()
    crew = nil
  }

  override func run(_ scope: Scope, _ emit: RowSink) {
    let context = scope.context
    let reader = nextReader
    nextReader += 1
    readers[reader] = dropped + rows.count
    defer {
      readers[reader] = nil
      trim()
    }
    start()
    while !context.isStopped, let place = readers[reader] {
      if place - dropped < rows.count {
        readers[reader] = place + 1
        guard emit(rows[place - dropped]) else { return }
        trim()
      } else if isFinished {
        return
      } else {
        context.waitForNews()
      }
    }
  }

  private func trim() {
    let least = readers.values.min() ?? dropped + rows.count
    guard least > dropped + 100 || readers.isEmpty else { return }
    rows.removeFirst(min(rows.count, least - dropped))
    dropped = least
  }

  private func start() {
    guard crew == nil, !isFinished else { return }
    let context = scope.context
    let made = Crew(context, forSession: true)
    crew = made
    made.start { [self] _ in
      let begin = Clock.nanoseconds &+ delay
      while !context.isStopped, Clock.nanoseconds < begin, wantedReaders == 0 || readers.count < wantedReaders {
        context.waitForNews()
      }
      query.run(scope) { row in
        while !context.isStopped, rows.count >= Self.maximumLag, !readers.isEmpty { context.waitForNews() }
        guard !context.isStopped, !readers.isEmpty else { return false }
        rows.append(row)
        context.turns?.changed()
        return true
      }
      isFinished = true
      context.turns?.changed()
    }
  }
}

/// What `pipe()` gives: the first column of each row, one after the other.
final class QueryPipe: VQLObject {
  private static let maximumSize = 64 << 20
  private let query: RowSource
  private let separator: [UInt8]
  private let scope: Scope

  init(_ query: RowSource, _ separator: [UInt8], _ scope: Scope) {
    self.query = query
    self.separator = separator
    self.scope = scope
  }

  override var typeName: String { "*Pipe" }
  override var isTrue: Bool { true }

  /// Runs the query; what it gives beyond a limit is refused.
  func content() throws -> [UInt8] {
    var out: [UInt8] = []
    query.run(scope) { row in
      if case .dict(let dict) = row, dict.count > 0 { out += Call.string(dict.value(at: 0).resolved) + separator }
      return out.count <= Self.maximumSize && !scope.context.isStopped
    }
    guard out.count <= Self.maximumSize else {
      throw CallError("the pipe holds more than \(Self.maximumSize) bytes")
    }
    return out
  }
}

/// Reads what a `pipe()` gives; the path is the name of the pipe or of the variable that holds it.
struct PipeAccessor: Accessor {
  func open(_ path: VQLPath, _ scope: Scope) throws -> ByteSource {
    let text = String(decoding: path.literal ?? path.innerText, as: UTF8.self)
    let name = text.hasPrefix("/") ? String(text.dropFirst()) : text
    for found in [scope.variable(name), scope.context.caches["pipe:" + name]] {
      if case .object(let pipe as QueryPipe)? = found { return MemorySource(try pipe.content()) }
    }
    throw CallError("there is no pipe \(name): make one with pipe()")
  }
}

/// The agent's collection store, which this agent does not keep: it sends what it collects and forgets it.
struct CollectionStoreAccessor: Accessor {
  func open(_ path: VQLPath, _ scope: Scope) throws -> ByteSource {
    throw CallError("this agent keeps no collections: results are on the server")
  }
}
