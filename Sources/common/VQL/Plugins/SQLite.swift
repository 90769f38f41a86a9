import Glibc

/// The system's SQLite library, loaded when it is first needed: hosts without it lose one plugin, not the agent.
final class SQLiteLibrary: @unchecked Sendable {
  // Safe to share: function addresses that never change, and the library serialises its own work.
  typealias Handle = OpaquePointer
  typealias Open =
    @convention(c) (UnsafePointer<CChar>, UnsafeMutablePointer<Handle?>, Int32, UnsafePointer<CChar>?) -> Int32
  typealias Close = @convention(c) (Handle?) -> Int32
  typealias Prepare =
    @convention(c) (
      Handle?, UnsafePointer<CChar>, Int32, UnsafeMutablePointer<Handle?>, UnsafeMutablePointer<UnsafePointer<CChar>?>?
    ) -> Int32
  typealias Step = @convention(c) (Handle?) -> Int32
  typealias ColumnInt = @convention(c) (Handle?, Int32) -> Int32
  typealias ColumnWide = @convention(c) (Handle?, Int32) -> Int64
  typealias ColumnDouble = @convention(c) (Handle?, Int32) -> Double
  typealias ColumnName = @convention(c) (Handle?, Int32) -> UnsafePointer<CChar>?
  typealias ColumnBlob = @convention(c) (Handle?, Int32) -> UnsafeRawPointer?
  typealias BindInt = @convention(c) (Handle?, Int32, Int64) -> Int32
  typealias BindDouble = @convention(c) (Handle?, Int32, Double) -> Int32
  typealias BindNull = @convention(c) (Handle?, Int32) -> Int32
  typealias BindText = @convention(c) (Handle?, Int32, UnsafeRawPointer?, Int32, Int) -> Int32
  typealias Message = @convention(c) (Handle?) -> UnsafePointer<CChar>?
  typealias Interrupt = @convention(c) (Handle?) -> Void

  let open: Open
  let close: Close
  let prepare: Prepare
  let step: Step
  let finalize: Step
  let columnCount: Step
  let columnType: ColumnInt
  let columnBytes: ColumnInt
  let columnInt: ColumnWide
  let columnDouble: ColumnDouble
  let columnName: ColumnName
  let columnText: ColumnBlob
  let columnBlob: ColumnBlob
  let bindInt: BindInt
  let bindDouble: BindDouble
  let bindNull: BindNull
  let bindText: BindText
  let message: Message

  static let shared = SQLiteLibrary()

  private init?() {
    guard let library = dlopen("libsqlite3.so.0", RTLD_NOW | RTLD_LOCAL) else { return nil }
    func symbol<Function>(_ name: String, _ type: Function.Type) -> Function? {
      dlsym(library, "sqlite3_" + name).map { unsafeBitCast($0, to: type) }
    }
    guard let open = symbol("open_v2", Open.self), let close = symbol("close_v2", Close.self),
      let prepare = symbol("prepare_v2", Prepare.self), let step = symbol("step", Step.self),
      let finalize = symbol("finalize", Step.self), let columnCount = symbol("column_count", Step.self),
      let columnType = symbol("column_type", ColumnInt.self), let columnBytes = symbol("column_bytes", ColumnInt.self),
      let columnInt = symbol("column_int64", ColumnWide.self),
      let columnDouble = symbol("column_double", ColumnDouble.self),
      let columnName = symbol("column_name", ColumnName.self), let columnText = symbol("column_text", ColumnBlob.self),
      let columnBlob = symbol("column_blob", ColumnBlob.self), let bindInt = symbol("bind_int64", BindInt.self),
      let bindDouble = symbol("bind_double", BindDouble.self), let bindNull = symbol("bind_null", BindNull.self),
      let bindText = symbol("bind_text", BindText.self), let message = symbol("errmsg", Message.self)
    else { return nil }
    self.open = open
    self.close = close
    self.prepare = prepare
    self.step = step
    self.finalize = finalize
    self.columnCount = columnCount
    self.columnType = columnType
    self.columnBytes = columnBytes
    self.columnInt = columnInt
    self.columnDouble = columnDouble
    self.columnName = columnName
    self.columnText = columnText
    self.columnBlob = columnBlob
    self.bindInt = bindInt
    self.bindDouble = bindDouble
    self.bindNull = bindNull
    self.bindText = bindText
    self.message = message
  }
}

extension Plugins {
  static let databases: [PluginSpec] = [
    PluginSpec("sqlite", "file*: path, accessor: string, query*: string, args: any", "Rows of a SQLite database.") {
      call, emit in
      guard let library = SQLiteLibrary.shared else { throw CallError("sql: libsqlite3 is not installed") }
      let path = try call.path("file")
      let query = String(decoding: try call.required("query"), as: UTF8.self)
      let arguments = call.has("args") ? Printf.operands(call.materialized("args") ?? .null) : []
      // Anything but a plain file is copied first, as the library needs a file it can map.
      let plain = ["auto", "file", ""].contains(call.accessor) && path.delegate == nil
      do {
        let name = plain ? path.systemText : try copy(path, call)
        try SQLiteReader(library, name).run(query, arguments, call, emit)
      } catch let error as SQLiteReader.Locked where plain {
        _ = error
        try SQLiteReader(library, try copy(path, call)).run(query, arguments, call, emit)
      }
    }
  ]

  private static func copy(_ path: VQLPath, _ call: Call) throws -> String {
    let source = try Accessors.find(call.accessor).open(path, call.scope)
    let directory = try FileTree.temporaryDirectory()
    call.scope.onClose { FileTree.remove(directory) }
    let name = directory + "/copy.db"
    let descriptor = Glibc.open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw CallError(Posix.message()) }
    defer { Glibc.close(descriptor) }
    while !call.context.isStopped, let piece = try source.read(1 << 20) { try Posix.writeAll(piece, to: descriptor) }
    return name
  }
}

/// One open database.
private final class SQLiteReader {
  struct Locked: Error {}
  private let library: SQLiteLibrary
  private var database: OpaquePointer?

  init(_ library: SQLiteLibrary, _ path: String) throws {
    self.library = library
    let readOnly: Int32 = 1
    guard access(path, R_OK) == 0 else { throw CallError("open \(path): \(Posix.message())") }
    if library.open(path, &database, readOnly, nil) != 0 { throw failure() }
  }

  deinit { _ = library.close(database) }

  private func failure() -> CallError {
    CallError("sql: " + (library.message(database).map { String(cString: $0) } ?? "unknown error"))
  }

  func run(_ query: String, _ arguments: [VQLValue], _ call: Call, _ emit: RowSink) throws {
    var statement: OpaquePointer?
    let prepared = library.prepare(database, query, -1, &statement, nil)
    if prepared == 5 || prepared == 6 { throw Locked() }
    guard prepared == 0 else { throw failure() }
    defer { _ = library.finalize(statement) }
    for (place, argument) in arguments.enumerated() { bind(statement, Int32(place + 1), argument.resolved) }
    let count = library.columnCount(statement)
    guard count > 0 else { return }
    let names = (0..<count).map { library.columnName(statement, $0).map { String(cString: $0) } ?? "" }
    var shape: Shape?
    if Set(names).count == names.count { shape = Shape(names) }
    while !call.context.isStopped {
      let status = library.step(statement)
      if status == 101 { return }
      if status == 5 || status == 6 { throw Locked() }
      guard status == 100 else { throw failure() }
      let values = (0..<count).map { value(statement, $0) }
      let row = shape.map { VQLDict(shape: $0, values: values) } ?? VQLDict(Array(zip(names, values)))
      guard emit(.dict(row)) else { return }
    }
  }

  private func bind(_ statement: OpaquePointer?, _ place: Int32, _ value: VQLValue) {
    let transient = -1
    switch value {
    case .null: _ = library.bindNull(statement, place)
    case .double(let double): _ = library.bindDouble(statement, place, double)
    case .bool(let bool): _ = library.bindInt(statement, place, bool ? 1 : 0)
    default:
      if let integer = value.integer {
        _ = library.bindInt(statement, place, integer)
      } else {
        let text = Call.string(value)
        text.withUnsafeBytes {
          _ = library.bindText(statement, place, $0.baseAddress, Int32(clamping: $0.count), transient)
        }
      }
    }
  }

  private func value(_ statement: OpaquePointer?, _ column: Int32) -> VQLValue {
    switch library.columnType(statement, column) {
    case 1: return .int(library.columnInt(statement, column))
    case 2: return .double(library.columnDouble(statement, column))
    case 3: return .bytes(bytes(library.columnText(statement, column), statement, column))
    case 4: return .object(BufferObject(bytes(library.columnBlob(statement, column), statement, column)))
    default: return .null
    }
  }

  private func bytes(_ start: UnsafeRawPointer?, _ statement: OpaquePointer?, _ column: Int32) -> [UInt8] {
    guard let start else { return [] }
    return [UInt8](UnsafeRawBufferPointer(start: start, count: Int(library.columnBytes(statement, column))))
  }
}
