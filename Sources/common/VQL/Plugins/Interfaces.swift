import Glibc

/// Bytes that become base64 in JSON.
final class BufferObject: VQLObject {
  let bytes: [UInt8]
  init(_ bytes: [UInt8]) { self.bytes = bytes }
  override var typeName: String { "[]uint8" }
  override var isTrue: Bool { !bytes.isEmpty }
  override var output: VQLValue { .bytes(Base64.encode(bytes, padded: true)) }
  override var text: [UInt8] { bytes }
}

/// Rows of `interfaces()`.
enum NetworkInterfaces {
  private struct Entry {
    var name = ""
    var flags: UInt32 = 0
    var hardware: [UInt8] = []
    var addresses: [(ip: String, mask: [UInt8], prefix: Int)] = []
  }

  static var rows: [VQLValue] {
    var head: UnsafeMutablePointer<ifaddrs>?
    guard getifaddrs(&head) == 0 else { return [] }
    defer { freeifaddrs(head) }
    var entries: [Entry] = []
    var next = head
    while let item = next {
      read(item.pointee, &entries)
      next = item.pointee.ifa_next
    }
    let multicast = multicastAddresses
    return entries.map { row($0, multicast[$0.name] ?? []) }.sorted { index(of: $0) < index(of: $1) }
  }

  private static func index(of row: VQLValue) -> Int64 {
    if case .dict(let dict) = row { return dict["Index"]?.integer ?? 0 }
    return 0
  }

  private static func read(_ item: ifaddrs, _ entries: inout [Entry]) {
    let name = String(cString: item.ifa_name)
    let place: Int
    if let known = entries.firstIndex(where: { $0.name == name }) {
      place = known
    } else {
      entries.append(Entry(name: name, flags: item.ifa_flags))
      place = entries.count - 1
    }
    guard let address = item.ifa_addr else { return }
    switch Int32(address.pointee.sa_family) {
    case AF_PACKET:
      // sockaddr_ll: the length of the address is at byte 11, the address follows.
      let raw = UnsafeRawPointer(address)
      let length = Int(raw.load(fromByteOffset: 11, as: UInt8.self))
      let bytes = (0..<min(length, 8)).map { raw.load(fromByteOffset: 12 + $0, as: UInt8.self) }
      if bytes.contains(where: { $0 != 0 }) { entries[place].hardware = bytes }
    case AF_INET: add(address, item.ifa_netmask, offset: 4, length: 4, &entries[place])
    case AF_INET6: add(address, item.ifa_netmask, offset: 8, length: 16, &entries[place])
    default: break
    }
  }

  private static func add(
    _ address: UnsafeMutablePointer<sockaddr>, _ mask: UnsafeMutablePointer<sockaddr>?, offset: Int, length: Int,
    _ entry: inout Entry
  ) {
    func bytes(_ pointer: UnsafeMutablePointer<sockaddr>) -> [UInt8] {
      let raw = UnsafeRawPointer(pointer)
      return (0..<length).map { raw.load(fromByteOffset: offset + $0, as: UInt8.self) }
    }
    let maskBytes = mask.map(bytes) ?? []
    let prefix = maskBytes.reduce(0) { $0 + $1.nonzeroBitCount }
    entry.addresses.append((IPAddress(bytes(address)).text, maskBytes, prefix))
  }

  private static func row(_ entry: Entry, _ multicast: [String]) -> VQLValue {
    func has(_ flag: Int) -> Bool { entry.flags & UInt32(flag) != 0 }
    func letter(_ truth: Bool) -> VQLValue { .string(truth ? "Y" : "N") }
    let flags: [(Int, String)] = [
      (0x1, "up"), (0x2, "broadcast"), (0x8, "loopback"), (0x10, "pointtopoint"), (0x1000, "multicast"),
      (0x40, "running"),
    ]
    let hardwareText = entry.hardware.map { String(decoding: Hex.encode([$0]), as: UTF8.self) }.joined(separator: ":")
    let mtu = Int64(Bytes.trimmedText(Posix.readText("/sys/class/net/\(entry.name)/mtu"))) ?? 0
    return .dict([
      ("Name", .string(entry.name)),
      ("HardwareAddr", entry.hardware.isEmpty ? .null : .object(BufferObject(entry.hardware))), ("MTU", .int(mtu)),
      ("Index", .int(Int64(if_nametoindex(entry.name)))),
      ("Flags", .string(flags.filter { has($0.0) }.map(\.1).joined(separator: "|"))), ("Loopback", letter(has(0x8))),
      ("PointToPoint", letter(has(0x10))), ("Up", letter(has(0x1))), ("HardwareAddrString", .string(hardwareText)),
      (
        "Addrs",
        .array(entry.addresses.map { .dict([("IP", .string($0.ip)), ("Mask", .object(BufferObject($0.mask)))]) })
      ), ("AddrsString", .array(entry.addresses.map { .string("\($0.ip)/\($0.prefix)") })),
      ("MulticastAddrs", .array(multicast.map { .dict([("IP", .string($0)), ("Zone", .string(""))]) })),
      ("MulticastAddrsString", .array(multicast.map { .string($0) })),
    ])
  }

  /// Groups per interface, from `/proc/net`.
  private static var multicastAddresses: [String: [String]] {
    var groups: [String: [String]] = [:]
    var device = ""
    for line in (Posix.readText("/proc/net/igmp") ?? "").split(separator: "\n").dropFirst() {
      let fields = line.split { $0 == " " || $0 == "\t" || $0 == ":" }
      if !line.hasPrefix("\t"), fields.count > 1 {
        device = String(fields[1])
      } else if let text = fields.first, let value = UInt32(text, radix: 16) {
        let bytes = [0, 8, 16, 24].map { UInt8(value >> UInt32($0) & 255) }
        groups[device, default: []].append(IPAddress(bytes).text)
      }
    }
    for line in (Posix.readText("/proc/net/igmp6") ?? "").split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard fields.count > 2 else { continue }
      let digits = Array(fields[2].utf8)
      let bytes = stride(from: 0, to: digits.count - 1, by: 2).map {
        (Hex.digit(digits[$0]) ?? 0) << 4 | (Hex.digit(digits[$0 + 1]) ?? 0)
      }
      if bytes.count == 16 { groups[String(fields[1]), default: []].append(IPAddress(bytes).text) }
    }
    return groups
  }
}

extension Bytes {
  static func trimmedText(_ text: String?) -> String {
    String(decoding: trim(Array((text ?? "").utf8)), as: UTF8.self)
  }
}
