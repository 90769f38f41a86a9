import Glibc

/// What is known of a file.
struct FileStatus {
  let path: VQLPath
  var size: Int64
  /// Type and permissions as `stat` gives them.
  var mode: UInt32
  var modified: VQLTime
  var accessed: VQLTime
  var changed: VQLTime
  var raw: stat?

  init(path: VQLPath, size: Int64, mode: UInt32 = UInt32(S_IFREG) | 0o644, modified: VQLTime? = nil) {
    let zero = VQLTime(seconds: VQLTime.zeroSeconds)
    self.path = path
    self.size = size
    self.mode = mode
    self.modified = modified ?? zero
    accessed = modified ?? zero
    changed = modified ?? zero
  }

  static func read(_ path: VQLPath) -> FileStatus? {
    var status = stat()
    guard path.withSystemPath({ lstat($0, &status) }) == 0 else { return nil }
    func time(_ value: timespec) -> VQLTime {
      VQLTime(seconds: Int64(value.tv_sec), nanoseconds: Int32(truncatingIfNeeded: value.tv_nsec))
    }
    var result = FileStatus(path: path, size: Int64(status.st_size), mode: status.st_mode)
    result.modified = time(status.st_mtim)
    result.accessed = time(status.st_atim)
    result.changed = time(status.st_ctim)
    result.raw = status
    return result
  }

  var isDirectory: Bool { mode & UInt32(S_IFMT) == UInt32(S_IFDIR) }
  var isLink: Bool { mode & UInt32(S_IFMT) == UInt32(S_IFLNK) }

  /// When the file was made, the zero time when the system does not know.
  var born: VQLTime {
    let unknown = VQLTime(seconds: VQLTime.zeroSeconds)
    guard raw != nil else { return modified }
    // statx is hidden from Swift by the headers; the fields are at the places the kernel fixes.
    typealias Call = @convention(c) (Int32, UnsafePointer<CChar>, Int32, UInt32, UnsafeMutableRawPointer) -> Int32
    guard let symbol = dlsym(nil, "statx") else { return unknown }
    let statx = unsafeBitCast(symbol, to: Call.self)
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: 512, alignment: 16)
    defer { buffer.deallocate() }
    let noFollow: Int32 = 0x100
    guard path.withSystemPath({ statx(AT_FDCWD, $0, noFollow, 0x800, buffer) }) == 0,
      buffer.load(as: UInt32.self) & 0x800 != 0
    else { return unknown }
    return VQLTime(
      seconds: buffer.load(fromByteOffset: 80, as: Int64.self),
      nanoseconds: Int32(truncatingIfNeeded: buffer.load(fromByteOffset: 88, as: UInt32.self)))
  }

  var linkTarget: [UInt8]? { isLink && raw != nil ? Posix.link(path.systemText) : nil }

  /// The `Data` column.
  var data: VQLValue {
    let dict = VQLDict()
    guard let raw else { return .dict(dict) }
    if let target = linkTarget { dict.set("Link", .bytes(target)) }
    dict.set("DevMajor", .int(Int64(raw.st_dev >> 8 & 0xFFF)))
    dict.set("DevMinor", .int(Int64(raw.st_dev & 0xFF | (raw.st_dev >> 12 & 0xFFF00))))
    if let name = fileSystem { dict.set("FSType", .string(name)) }
    return .dict(dict)
  }

  private static let fileSystems: [UInt32: String] = [
    0xEF53: "ext2", 0x5846_5342: "xfs", 0x0102_1994: "tmpfs", 0x794C_7630: "overlayfs", 0x9FA0: "proc",
    0x6265_6572: "sysfs", 0x9123_683E: "btrfs", 0x6969: "nfs", 0x4D44: "msdos", 0x5346_544E: "ntfs",
    0x6573_5546: "fuse", 0x2FC1_2FC1: "zfs", 0x1CD1: "devpts", 0x6367_7270: "cgroup2", 0x27E0EB: "cgroup",
    0x7371_7368: "squashfs", 0x8584_58F6: "ramfs", 0xF2F5_2010: "f2fs", 0x2011_BAB0: "exfat", 0x9660: "isofs",
    0xFF53_4D42: "cifs", 0xFE53_4D42: "smb2", 0x6462_6720: "debugfs", 0x7461_6366: "tracefs",
  ]

  private var fileSystem: String? {
    // Its header is not part of the module; the first field is the type.
    typealias Call = @convention(c) (UnsafePointer<CChar>, UnsafeMutableRawPointer) -> Int32
    guard let symbol = dlsym(nil, "statfs") else { return nil }
    let statfs = unsafeBitCast(symbol, to: Call.self)
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: 512, alignment: 16)
    defer { buffer.deallocate() }
    let target = isLink ? path.dirname : path
    guard target.withSystemPath({ statfs($0, buffer) }) == 0 else { return nil }
    let kind = UInt32(truncatingIfNeeded: buffer.load(as: Int.self))
    return Self.fileSystems[kind] ?? "0x" + String(kind, radix: 16)
  }

  private static let globShape = UnsafeShared(
    Shape(
      [
        "Name", "OSPath", "Mtime", "Atime", "Ctime", "Btime", "Size", "Mode", "IsDir", "IsLink", "Data", "Globs",
        "FullPath",
      ], frozen: true, visible: 12))

  /// The row of `glob()`.
  ///
  /// - Parameter deprecated: called when a query reads the old member `FullPath`.
  func globRow(_ globs: [VQLValue], deprecated: @escaping () -> Void) -> VQLValue {
    .dict(
      VQLDict(
        shape: Self.globShape.value,
        values: [
          .bytes(path.basename), .path(path), .time(modified), .time(accessed), .time(changed),
          .lazy(VQLThunk { .time(born) }), .int(size), .object(ModeObject(mode)), .bool(isDirectory), .bool(isLink),
          .lazy(VQLThunk { data }), .array(globs),
          .lazy(
            VQLThunk {
              deprecated()
              return .bytes(path.text)
            }),
        ]))
  }

  private static let statShape = UnsafeShared(
    Shape([
      "Atime", "Btime", "Ctime", "Data", "Dev", "FullPath", "GetLink", "IsDir", "IsLink", "ModTime", "Mode", "Mtime",
      "Name", "OSPath", "Size", "Sys",
    ]))

  /// The row of `stat()`.
  var statRow: VQLValue {
    .dict(
      VQLDict(
        shape: Self.statShape.value,
        values: [
          .time(accessed), .lazy(VQLThunk { .time(born) }), .time(changed), .lazy(VQLThunk { data }),
          .int(Int64(truncatingIfNeeded: raw?.st_dev ?? 0)), .bytes(path.text),
          .lazy(VQLThunk { linkTarget.map { .bytes($0) } ?? .null }), .bool(isDirectory), .bool(isLink),
          .time(modified), .object(ModeObject(mode)), .time(modified), .bytes(path.basename), .path(path), .int(size),
          .lazy(VQLThunk { system }),
        ]))
  }

  private var system: VQLValue {
    guard let raw else { return .dict(VQLDict()) }
    func time(_ value: timespec) -> VQLValue {
      .dict([("Sec", .int(Int64(value.tv_sec))), ("Nsec", .int(Int64(value.tv_nsec)))])
    }
    func int(_ value: some BinaryInteger) -> VQLValue { .int(Int64(truncatingIfNeeded: value)) }
    return .dict([
      ("Dev", int(raw.st_dev)), ("Ino", int(raw.st_ino)), ("Nlink", int(raw.st_nlink)), ("Mode", int(raw.st_mode)),
      ("Uid", int(raw.st_uid)), ("Gid", int(raw.st_gid)), ("Rdev", int(raw.st_rdev)), ("Size", int(raw.st_size)),
      ("Blksize", int(raw.st_blksize)), ("Blocks", int(raw.st_blocks)), ("Atim", time(raw.st_atim)),
      ("Mtim", time(raw.st_mtim)), ("Ctim", time(raw.st_ctim)),
    ])
  }
}

/// A file mode in the reference's encoding.
final class ModeObject: VQLObject {
  private let bits: UInt32

  init(_ mode: UInt32) {
    var bits = mode & 0o777
    switch mode & 0o170000 {
    case 0o040000: bits |= 1 << 31
    case 0o120000: bits |= 1 << 27
    case 0o060000: bits |= 1 << 26
    case 0o020000: bits |= 1 << 26 | 1 << 21
    case 0o010000: bits |= 1 << 25
    case 0o140000: bits |= 1 << 24
    default: break
    }
    if mode & 0o4000 != 0 { bits |= 1 << 23 }
    if mode & 0o2000 != 0 { bits |= 1 << 22 }
    if mode & 0o1000 != 0 { bits |= 1 << 20 }
    self.bits = bits
  }

  override var typeName: String { "fs.FileMode" }
  override var output: VQLValue { .int(Int64(bits)) }
  override var isTrue: Bool { bits > 0 }
  override var text: [UInt8] {
    var out: [UInt8] = []
    for (place, letter) in "dalTLDpSugct".utf8.enumerated() where bits & (1 << (31 - UInt32(place))) != 0 {
      out.append(letter)
    }
    if out.isEmpty { out.append(UInt8(ascii: "-")) }
    for (place, letter) in "rwxrwxrwx".utf8.enumerated() {
      out.append(bits & (1 << (8 - UInt32(place))) != 0 ? letter : UInt8(ascii: "-"))
    }
    return out
  }

  override func member(_ name: String, in scope: Scope) -> VQLValue? {
    switch name {
    case "String": .bytes(text)
    case "IsDir": .bool(bits & 1 << 31 != 0)
    case "IsRegular": .bool(bits & (1 << 31 | 1 << 27 | 1 << 26 | 1 << 25 | 1 << 24) == 0)
    case "Perm": .int(Int64(bits & 0o777))
    default: nil
    }
  }

  override func compare(_ other: VQLValue) -> Int? {
    guard let number = other.integer ?? (other.objectOutput?.integer) else { return nil }
    return Int64(bits) == number ? 0 : Int64(bits) < number ? -1 : 1
  }
}

extension VQLValue {
  var objectOutput: VQLValue? {
    if case .object(let object) = self { return object.output }
    return nil
  }
}
