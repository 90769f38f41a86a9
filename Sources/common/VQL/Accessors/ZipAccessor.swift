import CZlib
import Glibc

/// Members of a zip file.
struct ZipAccessor: Accessor {
  var ignoreCase = false
  /// The archive is the agent's own executable.
  var ofAgent = false

  private func archive(_ path: VQLPath, _ scope: Scope) throws -> ZipArchive {
    guard ofAgent else { return try ZipArchive.of(path, scope) }
    let delegate = VQLPath.Delegate(accessor: "file", path: Posix.link("/proc/self/exe") ?? [], nested: nil)
    return try ZipArchive.of(VQLPath(components: [], style: .zip, delegate: delegate), scope)
  }

  func open(_ path: VQLPath, _ scope: Scope) throws -> ByteSource {
    let archive = try archive(path, scope)
    guard let member = archive.member(path.components, ignoreCase: ignoreCase) else {
      throw CallError("file not found in zip: \(String(decoding: path.innerText, as: UTF8.self))")
    }
    return try archive.open(member)
  }

  func status(_ path: VQLPath, _ scope: Scope) throws -> FileStatus {
    let archive = try archive(path, scope)
    if let member = archive.member(path.components, ignoreCase: ignoreCase) {
      return FileStatus(path: path, size: member.size, modified: member.modified)
    }
    guard archive.isDirectory(path.components) else { throw CallError("file not found in zip") }
    return FileStatus(path: path, size: 0, mode: UInt32(S_IFDIR) | 0o755)
  }

  func list(_ path: VQLPath, _ scope: Scope) throws -> [DirectoryEntry] {
    let archive = try archive(path, scope)
    var names: [[UInt8]: DirectoryEntry.Kind] = [:]
    let depth = path.components.count
    for member in archive.members where member.components.count > depth {
      guard Array(member.components.prefix(depth)) == path.components else { continue }
      let isLeaf = member.components.count == depth + 1 && !member.isDirectory
      if names[member.components[depth]] != .directory {
        names[member.components[depth]] = isLeaf ? .other : .directory
      }
    }
    return names.map { DirectoryEntry(name: $0.key, kind: $0.value) }
  }
}

/// The table of a zip file.
final class ZipArchive: VQLObject {
  struct Member {
    let components: [[UInt8]]
    let isDirectory: Bool
    let method: Int
    let packed: Int64
    let size: Int64
    let offset: Int64
    let modified: VQLTime
  }
  private static let maximumMembers = 1_000_000
  private static let maximumTable = 256 << 20

  private let source: ByteSource
  private(set) var members: [Member] = []
  private var byPath: [[[UInt8]]: Int] = [:]

  /// The archive of a layered path, opened once per session.
  static func of(_ path: VQLPath, _ scope: Scope) throws -> ZipArchive {
    guard let delegate = path.delegate else { throw CallError("zip: a path with a DelegatePath is needed") }
    var key: [UInt8] = []
    JSONWriter.object(path.with([]).specification(delegate), zone: nil, depth: 0, to: &key)
    let name = "zip:" + String(decoding: key, as: UTF8.self)
    if case .object(let known as ZipArchive)? = scope.context.caches[name] { return known }
    let made = try ZipArchive(try Accessors.openOuter(path, scope))
    scope.context.caches[name] = .object(made)
    return made
  }

  init(_ outer: ByteSource) throws {
    // Sources that cannot jump are small nested files: they are read whole.
    if outer.size ?? 0 > 0, try outer.bytes(at: 0, count: 1) != nil {
      source = outer
    } else {
      source = MemorySource(try outer.readAll(limit: 256 << 20))
    }
    super.init()
    try readTable()
  }

  private func bytes(_ offset: Int64, _ count: Int) throws -> [UInt8] {
    guard offset >= 0, count >= 0, let bytes = try source.bytes(at: offset, count: count), bytes.count == count else {
      throw CallError("zip: not a valid zip file")
    }
    return bytes
  }

  private static func number(_ bytes: [UInt8], _ place: Int, _ count: Int) -> Int64 {
    guard place >= 0, place + count <= bytes.count else { return 0 }
    var value: UInt64 = 0
    for offset in 0..<count { value |= UInt64(bytes[place + offset]) << UInt64(8 * offset) }
    return Int64(truncatingIfNeeded: value)
  }

  private func readTable() throws {
    let size = source.size ?? 0
    let tailCount = Int(min(size, 66_000))
    let tail = try bytes(size - Int64(tailCount), tailCount)
    guard tailCount >= 22,
      var end = (0...(tailCount - 22)).reversed().first(where: { Self.number(tail, $0, 4) == 0x0605_4B50 })
    else { throw CallError("zip: not a valid zip file") }
    var count = Self.number(tail, end + 10, 2)
    var tableSize = Self.number(tail, end + 12, 4)
    var tableOffset = Self.number(tail, end + 16, 4)
    if end >= 20, Self.number(tail, end - 20, 4) == 0x0706_4B50 {
      let record = try bytes(Self.number(tail, end - 12, 8), 56)
      count = Self.number(record, 32, 8)
      tableSize = Self.number(record, 40, 8)
      tableOffset = Self.number(record, 48, 8)
    }
    guard tableSize >= 0, tableSize <= Int64(Self.maximumTable), count >= 0, count <= Int64(Self.maximumMembers) else {
      throw CallError("zip: the table is too large")
    }
    let table = try bytes(tableOffset, Int(tableSize))
    end = 0
    for _ in 0..<count {
      guard end + 46 <= table.count, Self.number(table, end, 4) == 0x0201_4B50 else { break }
      end = read(table, end)
    }
  }

  /// Reads one entry of the table; returns where the next begins.
  private func read(_ table: [UInt8], _ place: Int) -> Int {
    let nameLength = Int(Self.number(table, place + 28, 2))
    let extraLength = Int(Self.number(table, place + 30, 2))
    let commentLength = Int(Self.number(table, place + 32, 2))
    let nameEnd = place + 46 + nameLength
    let next = nameEnd + extraLength + commentLength
    guard next <= table.count else { return table.count }
    let name = Array(table[(place + 46)..<nameEnd])
    var packed = Self.number(table, place + 20, 4)
    var size = Self.number(table, place + 24, 4)
    var offset = Self.number(table, place + 42, 4)
    var extra = nameEnd
    while extra + 4 <= nameEnd + extraLength {
      let length = Int(Self.number(table, extra + 2, 2))
      if Self.number(table, extra, 2) == 1 {
        var field = extra + 4
        func wide(_ value: inout Int64) {
          if value == 0xFFFF_FFFF {
            value = Self.number(table, field, 8)
            field += 8
          }
        }
        wide(&size)
        wide(&packed)
        wide(&offset)
      }
      extra += 4 + length
    }
    let member = Member(
      components: VQLPath.split(name, style: .zip), isDirectory: name.last == UInt8(ascii: "/"),
      method: Int(Self.number(table, place + 10, 2)), packed: packed, size: size, offset: offset,
      modified: Self.time(Self.number(table, place + 12, 2), Self.number(table, place + 14, 2)))
    byPath[member.components] = members.count
    members.append(member)
    return next
  }

  private static func time(_ time: Int64, _ date: Int64) -> VQLTime {
    let month = max(1, min(12, Int(date >> 5 & 15)))
    let days = CivilTime.days(year: 1980 + (date >> 9 & 127), month: month, day: max(1, Int(date & 31)))
    return VQLTime(seconds: days * 86400 + (time >> 11 & 31) * 3600 + (time >> 5 & 63) * 60 + (time & 31) * 2)
  }

  func member(_ components: [[UInt8]], ignoreCase: Bool) -> Member? {
    if let place = byPath[components] { return members[place] }
    guard ignoreCase else { return nil }
    func lower(_ parts: [[UInt8]]) -> [String] { parts.map { String(decoding: $0, as: UTF8.self).lowercased() } }
    let wanted = lower(components)
    return members.first { lower($0.components) == wanted }
  }

  func isDirectory(_ components: [[UInt8]]) -> Bool {
    components.isEmpty || members.contains { Array($0.components.prefix(components.count)) == components }
  }

  func open(_ member: Member) throws -> ByteSource {
    guard member.offset >= 0, member.offset < Int64.max / 2, member.packed >= 0, member.size >= 0 else {
      throw CallError("zip: not a valid zip file")
    }
    let header = try bytes(member.offset, 30)
    let start = member.offset &+ 30 + Self.number(header, 26, 2) + Self.number(header, 28, 2)
    let window = WindowSource(source, start: start, count: member.packed)
    switch member.method {
    case 0: return window
    case 8: return try DeflateSource(window, size: member.size)
    default: throw CallError("zip: unsupported compression \(member.method)")
    }
  }
}

/// Part of another source.
final class WindowSource: ByteSource {
  private let outer: ByteSource
  private let start: Int64
  private let count: Int64
  private var place: Int64 = 0

  init(_ outer: ByteSource, start: Int64, count: Int64) {
    self.outer = outer
    self.start = start
    self.count = max(0, count)
  }

  override var size: Int64? { count }
  override func read(_ maximum: Int) throws -> [UInt8]? {
    let wanted = Int(min(Int64(maximum), count - place))
    guard wanted > 0, let piece = try outer.bytes(at: start &+ place, count: wanted), !piece.isEmpty else { return nil }
    place += Int64(piece.count)
    return piece
  }
  override func skip(to offset: Int64) throws { place = min(max(0, offset), count) }
  override func bytes(at offset: Int64, count wanted: Int) throws -> [UInt8]? {
    guard offset >= 0, offset < count else { return [] }
    return try outer.bytes(at: start &+ offset, count: Int(min(Int64(wanted), count - offset)))
  }
}

final class DeflateSource: ByteSource {
  private let inflate: Inflate
  private let length: Int64
  init(_ packed: ByteSource, size: Int64) throws {
    inflate = try Inflate(.raw) { try packed.read(65_536) }
    length = size
  }
  override var size: Int64? { length }
  override func read(_ maximum: Int) throws -> [UInt8]? { try inflate.read(maximum) }
}
