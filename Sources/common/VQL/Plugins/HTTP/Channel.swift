import Glibc

/// A connection that bytes are sent and received over. Waiting is cut into short pieces, so that a cancelled query ends.
class Channel {
  /// Nanoseconds without any progress after which a peer is given up.
  static let patience: Int64 = 60_000_000_000

  let descriptor: Int32
  let context: Context

  init(_ descriptor: Int32, _ context: Context) {
    self.descriptor = descriptor
    self.context = context
    let flags = fcntl(descriptor, F_GETFL)
    _ = fcntl(descriptor, F_SETFL, flags | O_NONBLOCK)
  }

  func close() { Glibc.close(descriptor) }

  func send(_ bytes: [UInt8]) throws {
    var done = 0
    while done < bytes.count {
      let sent = bytes.withUnsafeBytes { buffer in
        // A peer that has gone away gives an error, not a signal.
        Glibc.send(descriptor, buffer.baseAddress.map { $0 + done }, bytes.count - done, Int32(MSG_NOSIGNAL))
      }
      if sent > 0 {
        done += sent
      } else if sent < 0, errno == EAGAIN || errno == EINTR {
        try wait(for: POLLOUT)
      } else {
        throw CallError("write: \(Posix.message())")
      }
    }
  }

  /// More bytes, none at the end.
  func receive() throws -> [UInt8] {
    while true {
      var code: Int32 = 0
      let bytes = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
        let got = read(descriptor, buffer.baseAddress, 65_536)
        if got < 0 { code = errno }
        count = max(0, got)
      }
      if code == 0 { return bytes }
      guard code == EAGAIN || code == EINTR else { throw CallError("read: \(Posix.message(code))") }
      try wait(for: POLLIN)
    }
  }

  /// Waits until the socket can be read or written.
  func wait(for events: Int32) throws {
    let end = Clock.nanoseconds &+ Self.patience
    while true {
      guard !context.isStopped else { throw CallError("cancelled") }
      var item = pollfd(fd: descriptor, events: Int16(events), revents: 0)
      if context.outside({ poll(&item, 1, 100) }) > 0 { return }
      guard Clock.nanoseconds < end else { throw CallError("the server does not answer") }
    }
  }

  // MARK: connecting

  /// A connection to a host by name or address.
  static func connect(host: String, port: String, _ context: Context) throws -> Channel {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var head: UnsafeMutablePointer<addrinfo>?
    let code = context.outside { getaddrinfo(host, port, &hints, &head) }
    guard code == 0 else { throw CallError("dial tcp: lookup \(host): \(String(cString: gai_strerror(code)))") }
    defer { freeaddrinfo(head) }
    var reason = "no address"
    var next = head
    while let item = next?.pointee {
      do {
        return try connect(item.ai_family, item.ai_addr, item.ai_addrlen, context)
      } catch {
        if context.isStopped { throw error }
        reason = "\(error)"
      }
      next = item.ai_next
    }
    throw CallError("dial tcp \(host):\(port): connect: \(reason)")
  }

  /// A connection to a Unix socket.
  static func connect(path: String, _ context: Context) throws -> Channel {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { throw CallError("the path is too long") }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    do {
      return try withUnsafePointer(to: &address) { pointer in
        try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          try connect(AF_UNIX, $0, socklen_t(MemoryLayout<sockaddr_un>.size), context)
        }
      }
    } catch {
      throw CallError("dial unix \(path): connect: \(error)")
    }
  }

  private static func connect(
    _ family: Int32, _ address: UnsafePointer<sockaddr>, _ size: socklen_t, _ context: Context
  ) throws -> Channel {
    let descriptor = socket(family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw CallError(Posix.message()) }
    let channel = Channel(descriptor, context)
    do {
      if Glibc.connect(descriptor, address, size) != 0 {
        guard errno == EINPROGRESS || errno == EAGAIN else { throw CallError(Posix.message()) }
        try channel.wait(for: POLLOUT)
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length)
        guard code == 0 else { throw CallError(Posix.message(code)) }
      }
      return channel
    } catch {
      channel.close()
      throw error
    }
  }
}
