/// Where file contents come from (linux-endpoint.md §3.1).
protocol Accessor: Sendable {
  func open(_ path: VQLPath, _ scope: Scope) throws -> ByteSource
  /// What is at a path, links not followed.
  func status(_ path: VQLPath, _ scope: Scope) throws -> FileStatus
  /// What a directory holds.
  func list(_ path: VQLPath, _ scope: Scope) throws -> [DirectoryEntry]
}

extension Accessor {
  func list(_ path: VQLPath, _ scope: Scope) throws -> [DirectoryEntry] { throw CallError("not a directory") }
  func status(_ path: VQLPath, _ scope: Scope) throws -> FileStatus {
    FileStatus(path: path, size: try open(path, scope).size ?? 0)
  }
}

/// A name in a directory.
struct DirectoryEntry {
  enum Kind { case directory, link, other, unknown }
  let name: [UInt8]
  let kind: Kind
}

/// Bytes read in order.
class ByteSource {
  /// The next bytes, at most as many as asked for; nil at the end.
  func read(_ maximum: Int) throws -> [UInt8]? { nil }
  var size: Int64? { nil }
  /// Bytes at a place, when the source can jump; nil when it cannot.
  func bytes(at offset: Int64, count: Int) throws -> [UInt8]? { nil }
  /// Moves to a place further on.
  func skip(to offset: Int64) throws {
    var left = offset
    while left > 0, let piece = try read(Int(min(left, 1 << 20))) { left -= Int64(piece.count) }
  }

  /// All bytes up to a limit.
  func readAll(limit: Int) throws -> [UInt8] {
    var out: [UInt8] = []
    while out.count < limit, let piece = try read(min(1 << 20, limit - out.count)) { out += piece }
    return out
  }
}

/// Bytes in memory.
final class MemorySource: ByteSource {
  private let content: [UInt8]
  private var place = 0
  init(_ content: [UInt8]) { self.content = content }
  override var size: Int64? { Int64(content.count) }
  override func read(_ maximum: Int) throws -> [UInt8]? {
    guard place < content.count, maximum > 0 else { return nil }
    let end = min(content.count, place + maximum)
    defer { place = end }
    return place == 0 && end == content.count ? content : Array(content[place..<end])
  }
  override func skip(to offset: Int64) throws { place = Int(max(0, min(offset, Int64(content.count)))) }
  override func bytes(at offset: Int64, count: Int) throws -> [UInt8]? {
    guard offset >= 0, offset < Int64(content.count) else { return [] }
    return Array(content[Int(offset)..<min(content.count, Int(offset) + max(0, count))])
  }
}

enum Accessors {
  private static let byName: [String: any Accessor] = [
    "auto": FileAccessor(), "file": FileAccessor(), "file_nocase": FileAccessor(ignoreCase: true),
    "raw_file": FileAccessor(anyKind: true), "data": DataAccessor(), "scope": ScopeAccessor(),
    "gzip": PackedAccessor(), "zip": ZipAccessor(), "zip_nocase": ZipAccessor(ignoreCase: true),
    "me": ZipAccessor(ofAgent: true), "offset": OffsetAccessor(), "sparse": RangesAccessor(keepsHoles: true),
    "ranged": RangesAccessor(keepsHoles: false), "process": ProcessAccessor(), "bzip2": PackedAccessor(isBzip2: true),
    "pipe": PipeAccessor(),
    "fs": CollectionStoreAccessor(), "fs_sparse": CollectionStoreAccessor(),
  ]

  static let names: [String] = byName.keys.sorted()

  static func find(_ name: String) throws -> any Accessor {
    guard let found = byName[name.isEmpty ? "auto" : name] else {
      throw CallError("Unknown filesystem accessor \(name)")
    }
    return found
  }

  /// A path argument: parsed text, a path, or an array of components.
  static func path(_ value: VQLValue, accessor: String) throws -> VQLPath {
    _ = try find(accessor)
    switch value.resolved {
    case .path(let path): return path
    case .bytes(let text): return parse(text, accessor: accessor)
    case .object(let object as BufferObject): return parse(object.bytes, accessor: accessor)
    case .array(let parts):
      if accessor == "data" || accessor == "scope" { return parse(parts.flatMap(\.text), accessor: accessor) }
      guard let first = parts.first else { return VQLPath(components: [], style: .linux) }
      return parts.dropFirst().reduce(try path(first, accessor: accessor)) { $0.appending($1) ?? $0 }
    case .dict(let dict) where dict["Path"] != nil || dict["DelegatePath"] != nil:
      return specification(dict, style: .linux)
    case .null: return parse([], accessor: accessor)
    case let other: throw CallError("Expecting a path arg type, not \(other.typeName)")
    }
  }

  private static func parse(_ text: [UInt8], accessor: String) -> VQLPath {
    if ["data", "scope", "pipe"].contains(accessor) {
      return VQLPath(components: [text], style: .linux, literal: text)
    }
    if text.first == UInt8(ascii: "{"), case .dict(let dict)? = JSONReader.value(text) {
      return specification(dict, style: .linux)
    }
    return VQLPath(text, style: .linux)
  }

  /// A path with an outer file, from its JSON form.
  static func specification(_ dict: VQLDict, style: VQLPath.Style) -> VQLPath {
    var delegate: VQLPath.Delegate?
    let accessor = dict["DelegateAccessor"]?.string ?? ""
    let outer = dict["DelegatePath"].map { Call.string($0) } ?? []
    let nested = dict["Delegate"].flatMap { $0.isNull ? nil : $0 }
    if !outer.isEmpty || nested != nil {
      delegate = VQLPath.Delegate(accessor: accessor.isEmpty ? "auto" : accessor, path: outer, nested: nested)
    }
    switch dict["Path"] ?? .null {
    case .array(let parts): return VQLPath(components: parts.map(\.text), style: style, delegate: delegate)
    case .path(let path): return VQLPath(components: path.components, style: style, delegate: delegate)
    case let inner: return VQLPath(Call.string(inner), style: style, delegate: delegate)
    }
  }

  /// Opens the outer file of a layered path, or the path itself.
  static func openOuter(_ path: VQLPath, _ scope: Scope, depth: Int = 0) throws -> ByteSource {
    guard depth < 8 else { throw CallError("paths are nested too deeply") }
    guard let delegate = path.delegate else { return try find("auto").open(path, scope) }
    let accessor = try find(delegate.accessor)
    if let nested = delegate.nested {
      return try accessor.open(try Self.path(nested, accessor: delegate.accessor), scope)
    }
    return try accessor.open(try Self.path(.bytes(delegate.path), accessor: delegate.accessor), scope)
  }
}

/// The path is the content.
struct DataAccessor: Accessor {
  func open(_ path: VQLPath, _ scope: Scope) throws -> ByteSource { MemorySource(path.literal ?? path.innerText) }
}

/// The path names a variable that holds the content.
struct ScopeAccessor: Accessor {
  func open(_ path: VQLPath, _ scope: Scope) throws -> ByteSource {
    let name = String(decoding: path.literal ?? path.innerText, as: UTF8.self)
    guard let value = scope.variable(name.hasPrefix("/") ? String(name.dropFirst()) : name) else {
      throw CallError("variable \(name) not found")
    }
    if case .object(let object as BufferObject) = value { return MemorySource(object.bytes) }
    return MemorySource(Call.string(value))
  }
}

/// Unpacks gzip or bzip2 while reading.
struct PackedAccessor: Accessor {
  var isBzip2 = false

  func open(_ path: VQLPath, _ scope: Scope) throws -> ByteSource {
    let outer = try Accessors.openOuter(path, scope)
    return isBzip2 ? try Bzip2Source(outer) : try GzipSource(outer)
  }

  func status(_ path: VQLPath, _ scope: Scope) throws -> FileStatus {
    _ = try open(path, scope)
    return FileStatus(path: path, size: 0)
  }
}

final class GzipSource: ByteSource {
  private let inflate: Inflate
  init(_ outer: ByteSource) throws { inflate = try Inflate(.gzip) { try outer.read(65_536) } }
  override func read(_ maximum: Int) throws -> [UInt8]? { try inflate.read(maximum) }
}
