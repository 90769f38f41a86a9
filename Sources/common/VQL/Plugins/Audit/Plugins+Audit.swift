import Glibc

extension Plugins {
  static let audit: [PluginSpec] = [
    PluginSpec(
      "parse_auditd", "filename*: path[], accessor: string, buffer_size: int", "Events of the audit daemon's log files."
    ) { call, emit in
      let accessor = try Accessors.find(call.accessor)
      let limit = Int(max(1024, min(try call.int("buffer_size") ?? 1 << 20, 64 << 20)))
      for path in try call.paths("filename") {
        var assembler = AuditAssembler()
        do {
          let reader = try LineReader.text(try accessor.open(path, call.scope), limit: limit)
          while let line = try reader.next() {
            guard let record = AuditRecord(line: line) else { continue }
            for event in assembler.add(record) where !emit(AuditRow.make(event)) { return }
          }
        } catch {
          call.log("\(String(decoding: path.text, as: UTF8.self)): \(error)")
        }
        for event in assembler.flush() where !emit(AuditRow.make(event)) { return }
        if call.context.isStopped { return }
      }
    },
    PluginSpec(
      "watch_auditd", "filename*: path[], accessor: string, buffer_size: int", "New events of audit log files."
    ) { call, emit in
      var watcher = try FileWatcher(call, try call.paths("filename"))
      var assembler = AuditAssembler()
      watcher.run(discover: { [] }) { _, line in
        guard let record = AuditRecord(line: line) else { return true }
        for event in assembler.add(record) where !emit(AuditRow.make(event)) { return false }
        return true
      }
    },
    PluginSpec("audit", "", "Events of the kernel's audit system, as they happen.") { call, emit in
      let socket = try AuditSocket()
      var assembler = AuditAssembler()
      while !call.context.isStopped {
        for record in call.context.outside({ socket.receive(milliseconds: 100) }) {
          guard call.context.operation() else { return }
          for event in assembler.add(record) where !emit(AuditRow.make(event)) { return }
        }
      }
    },
  ]
}

/// The multicast group in which the kernel tells what it audits; it needs the capability CAP_AUDIT_READ.
private final class AuditSocket {
  private let descriptor: Int32

  init() throws {
    let auditProtocol: Int32 = 9
    descriptor = socket(AF_NETLINK, Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue), auditProtocol)
    guard descriptor >= 0 else { throw CallError("audit: \(Posix.message())") }
    // sockaddr_nl: family, padding, port, groups; its header is not part of the module.
    var address = [UInt8](repeating: 0, count: 12)
    address[0] = UInt8(AF_NETLINK)
    address[8] = 1
    let code = address.withUnsafeBytes { raw in
      raw.withMemoryRebound(to: sockaddr.self) { bind(descriptor, $0.baseAddress, 12) }
    }
    guard code == 0 else {
      let reason = Posix.message()
      close(descriptor)
      throw CallError("audit: the kernel's audit log cannot be read: \(reason)")
    }
  }

  deinit { close(descriptor) }

  /// The records of the next datagram, none when nothing came.
  func receive(milliseconds: Int32) -> [AuditRecord] {
    var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    guard poll(&item, 1, milliseconds) > 0 else { return [] }
    let bytes = [UInt8](unsafeUninitializedCapacity: 1 << 16) { buffer, count in
      count = max(0, recv(descriptor, buffer.baseAddress, 1 << 16, 0))
    }
    guard bytes.count > 16 else { return [] }
    let length = min(bytes.count, Int(truncatingIfNeeded: JournalFile.number(bytes, 0, 4)))
    let kind = UInt16(truncatingIfNeeded: JournalFile.number(bytes, 4, 2))
    guard length > 16, let name = AuditNames.types[kind] else { return [] }
    return AuditRecord(type: name, text: bytes[16..<max(16, length)]).map { [$0] } ?? []
  }
}
