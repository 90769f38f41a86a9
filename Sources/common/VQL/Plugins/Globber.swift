import Glibc

/// One component of a glob pattern.
enum GlobComponent {
  case recursive(depth: Int)
  case pattern(Regex)
  /// Lower case; compared without regard to case.
  case literal([UInt8])

  static func make(_ text: [UInt8]) throws -> GlobComponent {
    if let stars = Bytes.find(Array("**".utf8), in: text) {
      let digits = text[(stars + 2)...].prefix { (48...57).contains($0) }
      let depth = Int(String(decoding: digits, as: UTF8.self)) ?? 30
      return .recursive(depth: max(1, min(depth, 1000)))
    }
    guard text.contains(where: { "*?[".utf8.contains($0) }) else { return .literal(lower(text)) }
    return .pattern(try Regex(translate(text), ignoreCase: true))
  }

  static func lower(_ text: [UInt8]) -> [UInt8] {
    if text.allSatisfy({ $0 < 128 }) { return text.map { (65...90).contains($0) ? $0 + 32 : $0 } }
    return Array(String(decoding: text, as: UTF8.self).lowercased().utf8)
  }

  private static func translate(_ text: [UInt8]) -> [UInt8] {
    var out = Array("(?s)\\A".utf8)
    var place = 0
    while place < text.count {
      let byte = text[place]
      place += 1
      switch byte {
      case UInt8(ascii: "*"): out.append(contentsOf: ".*".utf8)
      case UInt8(ascii: "?"): out.append(UInt8(ascii: "."))
      case UInt8(ascii: "["):
        var from = place
        let negated = from < text.count && (text[from] == UInt8(ascii: "!") || text[from] == UInt8(ascii: "^"))
        if negated { from += 1 }
        guard let end = text[min(from + 1, text.count)...].firstIndex(of: UInt8(ascii: "]")) else {
          out.append(contentsOf: "\\[".utf8)
          continue
        }
        out.append(contentsOf: (negated ? "[^" : "[").utf8)
        for inner in text[from..<end] {
          if inner == UInt8(ascii: "\\") || inner == UInt8(ascii: "[") || inner == UInt8(ascii: "^") {
            out.append(UInt8(ascii: "\\"))
          }
          out.append(inner)
        }
        out.append(UInt8(ascii: "]"))
        place = end + 1
      default:
        if byte < 128, !CharacterRanges.word.contains(UInt32(byte)) { out.append(UInt8(ascii: "\\")) }
        out.append(byte)
      }
    }
    return out + Array("\\z".utf8)
  }

  func matches(_ name: [UInt8]) -> Bool {
    switch self {
    case .recursive: true
    case .pattern(let regex): regex.matches(name)
    case .literal(let text): text == Self.lower(name)
    }
  }

  /// `{a,b}` alternatives, the innermost first; a pattern may become this many.
  private static let maximumAlternatives = 10_000

  static func expandBraces(_ pattern: [UInt8]) -> [[UInt8]] {
    var done: [[UInt8]] = []
    var open = [pattern]
    while let next = open.popLast() {
      guard let close = next.firstIndex(of: UInt8(ascii: "}")),
        let start = next[..<close].lastIndex(of: UInt8(ascii: "{")), done.count + open.count < maximumAlternatives
      else {
        done.append(next)
        continue
      }
      let parts = next[(start + 1)..<close].split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
      for part in parts.reversed() { open.append(Array(next[..<start]) + part + Array(next[(close + 1)...])) }
    }
    return done
  }
}

/// One walk over a tree for several patterns (linux-endpoint.md §3.3).
struct Globber {
  private struct State: Hashable {
    let pattern: Int
    let place: Int
    /// Directories that `**` has taken so far.
    let depth: Int
  }
  private struct Directory {
    let path: VQLPath
    let states: [State]
  }
  private struct Inode: Hashable {
    let device: UInt64
    let number: UInt64
  }

  let accessor: any Accessor
  let scope: Scope
  var followsLinks = true
  var onlyDevice: UInt64?
  var recursion: Lambda?
  private let patterns: [[GlobComponent]]
  private let texts: [VQLValue]
  private var visited: Set<Inode> = []

  init(_ globs: [[UInt8]], accessor: any Accessor, scope: Scope) throws {
    self.accessor = accessor
    self.scope = scope
    var patterns: [[GlobComponent]] = []
    var texts: [VQLValue] = []
    for glob in globs.flatMap(GlobComponent.expandBraces) {
      let parts = VQLPath.split(glob, style: .linux)
      guard !parts.isEmpty else { continue }
      patterns.append(try parts.map(GlobComponent.make))
      texts.append(.bytes([UInt8(ascii: "/")] + parts.joined(separator: [UInt8(ascii: "/")])))
    }
    self.patterns = patterns
    self.texts = texts
  }

  mutating func walk(from root: VQLPath, _ emit: RowSink) {
    var pending = [Directory(path: root, states: patterns.indices.map { State(pattern: $0, place: 0, depth: 0) })]
    while let directory = pending.popLast() {
      guard let found = visit(directory, emit) else { return }
      pending.append(contentsOf: found.reversed())
    }
  }

  /// Reports a directory's hits and returns the directories to enter; nil when no more rows are wanted.
  private mutating func visit(_ directory: Directory, _ emit: RowSink) -> [Directory]? {
    guard scope.context.step() else { return nil }
    let entries: [DirectoryEntry]
    do {
      entries = try accessor.list(directory.path, scope).sorted { $0.name.lexicographicallyPrecedes($1.name) }
    } catch {
      let text = "\(error)"
      if !text.contains("no such file") && !text.contains("not a directory") {
        scope.context.log(
          .none, "Globber: \(text) while processing \(String(decoding: directory.path.text, as: UTF8.self))")
      }
      return []
    }
    var deeper: [Directory] = []
    for entry in entries {
      var hits: Set<Int> = []
      var next: Set<State> = []
      for state in directory.states { advance(state, entry.name, &hits, &next) }
      if hits.isEmpty && (next.isEmpty || entry.kind == .other) { continue }
      let path = directory.path.with(directory.path.components + [entry.name])
      var row: VQLValue?
      let needsRow = !hits.isEmpty || recursion != nil || entry.kind == .unknown || entry.kind == .link
      var status: FileStatus?
      if needsRow { status = try? accessor.status(path, scope) }
      if let status {
        let context = scope.context
        row = status.globRow(hits.sorted().map { texts[$0] }) { context.logDeprecation(of: "FullPath", use: "OSPath") }
      }
      if !hits.isEmpty, let row, !emit(row) { return nil }
      if next.isEmpty || !enters(entry, path, status) { continue }
      if let recursion, !recursion.call([row ?? .null], in: scope).isTrue(scope) { continue }
      deeper.append(Directory(path: path, states: Array(next)))
    }
    return deeper
  }

  /// Follows a name through the patterns: which ones it completes, and which go on below it.
  private func advance(_ state: State, _ name: [UInt8], _ hits: inout Set<Int>, _ next: inout Set<State>) {
    let pattern = patterns[state.pattern]
    guard state.place < pattern.count else { return }
    let isLast = state.place == pattern.count - 1
    if case .recursive(let limit) = pattern[state.place] {
      if isLast { hits.insert(state.pattern) }
      // No directory, or no further one, may be taken by the recursion.
      advance(State(pattern: state.pattern, place: state.place + 1, depth: 0), name, &hits, &next)
      let reach = isLast ? limit - 1 : limit
      if state.depth < reach {
        next.insert(State(pattern: state.pattern, place: state.place, depth: state.depth + 1))
      }
      return
    }
    guard pattern[state.place].matches(name) else { return }
    if isLast {
      hits.insert(state.pattern)
    } else {
      next.insert(State(pattern: state.pattern, place: state.place + 1, depth: 0))
    }
  }

  private mutating func enters(_ entry: DirectoryEntry, _ path: VQLPath, _ status: FileStatus?) -> Bool {
    let isLink = status?.isLink ?? (entry.kind == .link)
    let isDirectory = status?.isDirectory ?? (entry.kind == .directory)
    if !isLink {
      if isDirectory, let onlyDevice, let raw = status?.raw ?? FileStatus.read(path)?.raw {
        return UInt64(truncatingIfNeeded: raw.st_dev) == onlyDevice
      }
      return isDirectory
    }
    guard followsLinks else { return false }
    var target = stat()
    guard path.withSystemPath({ stat($0, &target) }) == 0, target.st_mode & S_IFMT == S_IFDIR else { return false }
    if let onlyDevice, UInt64(truncatingIfNeeded: target.st_dev) != onlyDevice { return false }
    let inode = Inode(
      device: UInt64(truncatingIfNeeded: target.st_dev), number: UInt64(truncatingIfNeeded: target.st_ino))
    return visited.insert(inode).inserted
  }
}
