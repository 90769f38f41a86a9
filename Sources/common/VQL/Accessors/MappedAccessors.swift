import Glibc

/// Part of an outer file, mapped to other places.
final class MappedSource: ByteSource {
  struct Piece {
    /// Where the bytes lie in the outer file; nil for zeros.
    let offset: Int64?
    let length: Int64
  }
  private let outer: ByteSource
  private let pieces: [Piece]
  private var place: Int64 = 0

  init(_ outer: ByteSource, _ pieces: [Piece]) {
    self.outer = outer
    self.pieces = pieces
  }

  override var size: Int64? { pieces.reduce(0) { $0 &+ $1.length } }
  override func skip(to offset: Int64) throws { place = max(0, offset) }

  override func read(_ maximum: Int) throws -> [UInt8]? {
    guard maximum > 0 else { return nil }
    var start: Int64 = 0
    for piece in pieces {
      let inside = place - start
      start &+= piece.length
      guard inside >= 0, inside < piece.length else { continue }
      let count = Int(min(Int64(maximum), piece.length - inside))
      guard let offset = piece.offset else {
        place += Int64(count)
        return [UInt8](repeating: 0, count: count)
      }
      guard let found = try outer.bytes(at: offset &+ inside, count: count), !found.isEmpty else { return nil }
      place += Int64(found.count)
      return found
    }
    return nil
  }

  override func bytes(at offset: Int64, count: Int) throws -> [UInt8]? {
    let saved = place
    defer { place = saved }
    place = max(0, offset)
    var out: [UInt8] = []
    while out.count < count, let more = try read(count - out.count) { out += more }
    return out
  }

  /// The outer file of a layered path, in a form that can be read anywhere.
  static func outer(_ path: VQLPath, _ scope: Scope) throws -> ByteSource {
    guard path.delegate != nil else { throw CallError("a delegate is needed: make the path with pathspec()") }
    let source = try Accessors.openOuter(path, scope)
    if try source.bytes(at: 0, count: 1) != nil { return source }
    return MemorySource(try source.readAll(limit: 256 << 20))
  }
}

/// The outer file from an offset on; the path is the offset.
struct OffsetAccessor: Accessor {
  func open(_ path: VQLPath, _ scope: Scope) throws -> ByteSource {
    let text = String(decoding: path.components.last ?? [], as: UTF8.self)
    guard let offset = Int64(text), offset >= 0 else { throw CallError("the path should be an offset, not \(text)") }
    let outer = try MappedSource.outer(path, scope)
    return MappedSource(outer, [.init(offset: offset, length: max(0, (outer.size ?? offset) - offset))])
  }
}

/// Ranges of the outer file, given as a JSON array of objects with `Offset` and `Length`.
struct RangesAccessor: Accessor {
  /// Bytes outside of the ranges read as zeros; otherwise they are left out.
  let keepsHoles: Bool

  func open(_ path: VQLPath, _ scope: Scope) throws -> ByteSource {
    let text = path.literal ?? Array(path.components.joined(separator: [UInt8(ascii: "/")]))
    guard case .array(let items)? = JSONReader.value(text) else {
      throw CallError("the path should be a JSON array of ranges")
    }
    func number(_ dict: VQLDict, _ name: String) -> Int64 {
      dict.keys.first { $0.lowercased() == name }.flatMap { dict[$0]?.integer } ?? 0
    }
    var pieces: [MappedSource.Piece] = []
    var end: Int64 = 0
    for case .dict(let dict) in items {
      let offset = number(dict, "offset")
      let length = number(dict, "length")
      guard offset >= 0, length > 0, offset < 1 << 62, length < 1 << 62 else { continue }
      if keepsHoles && offset > end { pieces.append(.init(offset: nil, length: offset - end)) }
      pieces.append(.init(offset: offset, length: length))
      end = offset + length
    }
    return MappedSource(try MappedSource.outer(path, scope), pieces)
  }
}

/// The memory of a process; the path is its number.
struct ProcessAccessor: Accessor {
  func open(_ path: VQLPath, _ scope: Scope) throws -> ByteSource {
    let text = String(decoding: path.components.first ?? [], as: UTF8.self)
    guard let pid = Int32(text), pid > 0 else { throw CallError("the path should be a process number, not \(text)") }
    let descriptor = Glibc.open("/proc/\(pid)/mem", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw CallError("open /proc/\(pid)/mem: \(Posix.message())") }
    let memory = DescriptorSource(descriptor, size: 0, isDirectory: false)
    return MappedSource(memory, Self.regions(pid))
  }

  /// What can be read, from the map that the kernel gives; what lies between reads as zeros.
  private static func regions(_ pid: Int32) -> [MappedSource.Piece] {
    var pieces: [MappedSource.Piece] = []
    var end: Int64 = 0
    for line in (Posix.readText("/proc/\(pid)/maps") ?? "").split(separator: "\n") {
      let fields = line.split(separator: " ", maxSplits: 2)
      let bounds = (fields.first ?? "").split(separator: "-").compactMap { Int64($0, radix: 16) }
      guard bounds.count == 2, fields.count > 1, fields[1].hasPrefix("r"), bounds[0] >= end else { continue }
      if line.hasSuffix("[vvar]") || line.hasSuffix("[vsyscall]") { continue }
      if bounds[0] > end { pieces.append(.init(offset: nil, length: bounds[0] - end)) }
      pieces.append(.init(offset: bounds[0], length: bounds[1] - bounds[0]))
      end = bounds[1]
    }
    return pieces
  }
}
