import Glibc

/// One exchange of HTTP/1.1 over a plain connection or a Unix socket. The engine has no TLS: other transports
/// belong to the agent.
struct HTTPExchange {
  struct Request {
    var method = "GET"
    var host = ""
    var port = "80"
    /// Path of a Unix socket, instead of host and port.
    var socket: String?
    var target = "/"
    var headers: [(String, String)] = []
    var body: [UInt8] = []
  }
  struct Answer {
    var code: Int64 = 0
    var headers = VQLDict()
    var length: Int?
    var isChunked = false
  }

  private static let headLimit = 1 << 20
  private let descriptor: Int32
  private let context: Context
  private var pending: [UInt8] = []

  init(_ request: Request, _ context: Context) throws {
    self.context = context
    descriptor = try Self.connect(request, context)
    var head = "\(request.method) \(request.target) HTTP/1.1\r\n"
    for (name, value) in request.headers {
      let clean = (name + ": " + value).unicodeScalars.filter { $0 != "\r" && $0 != "\n" }
      head += String(String.UnicodeScalarView(clean)) + "\r\n"
    }
    head += "\r\n"
    do {
      let bytes = Array(head.utf8) + request.body
      let descriptor = descriptor
      try context.outside { try Self.send(bytes, to: descriptor) }
    } catch {
      close()
      throw error
    }
  }

  /// A peer that has gone away gives an error, not a signal.
  private static func send(_ bytes: [UInt8], to descriptor: Int32) throws {
    var done = 0
    while done < bytes.count {
      let sent = bytes.withUnsafeBytes { buffer in
        Glibc.send(descriptor, buffer.baseAddress.map { $0 + done }, bytes.count - done, Int32(MSG_NOSIGNAL))
      }
      if sent < 0 && errno == EINTR { continue }
      guard sent > 0 else { throw CallError("write: \(Posix.message())") }
      done += sent
    }
  }

  func close() { Glibc.close(descriptor) }

  private static func connect(_ request: Request, _ context: Context) throws -> Int32 {
    if let socket = request.socket { return try connect(socket) }
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var head: UnsafeMutablePointer<addrinfo>?
    let code = context.outside { getaddrinfo(request.host, request.port, &hints, &head) }
    guard code == 0 else { throw CallError("dial tcp: lookup \(request.host): \(String(cString: gai_strerror(code)))") }
    defer { freeaddrinfo(head) }
    var reason = ""
    var next = head
    while let item = next?.pointee {
      let descriptor = socket(item.ai_family, item.ai_socktype | Int32(SOCK_CLOEXEC.rawValue), item.ai_protocol)
      var patience = timeval(tv_sec: 30, tv_usec: 0)
      let size = socklen_t(MemoryLayout<timeval>.size)
      setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, size)
      setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, size)
      if descriptor >= 0,
        context.outside({ Glibc.connect(descriptor, item.ai_addr, item.ai_addrlen) }) == 0
      {
        return descriptor
      }
      reason = Posix.message()
      if descriptor >= 0 { Glibc.close(descriptor) }
      next = item.ai_next
    }
    throw CallError("dial tcp \(request.host):\(request.port): connect: \(reason)")
  }

  private static func connect(_ path: String) throws -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { throw CallError("the path is too long") }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    let code = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard code == 0 else {
      let reason = Posix.message()
      if descriptor >= 0 { Glibc.close(descriptor) }
      throw CallError("dial unix \(path): connect: \(reason)")
    }
    return descriptor
  }

  /// More bytes, none at the end.
  private func receive() throws -> [UInt8] {
    let descriptor = descriptor
    var waited = 0
    while true {
      guard !context.isStopped else { throw CallError("cancelled") }
      var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      if context.outside({ poll(&item, 1, 100) }) > 0 { break }
      waited += 1
      guard waited < 600 else { throw CallError("the server does not answer") }
    }
    let bytes = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
      count = max(0, read(descriptor, buffer.baseAddress, 65_536))
    }
    return bytes
  }

  private mutating func line() throws -> String {
    while true {
      if let end = pending.firstIndex(of: 10) {
        let text = String(decoding: pending[..<end].filter { $0 != 13 }, as: UTF8.self)
        pending.removeFirst(end + 1)
        return text
      }
      let more = try receive()
      guard !more.isEmpty, pending.count < Self.headLimit else { throw CallError("unexpected EOF") }
      pending += more
    }
  }

  mutating func head() throws -> Answer {
    var answer = Answer()
    repeat {
      answer = Answer()
      let words = try line().split(separator: " ", maxSplits: 2)
      guard words.count > 1, words[0].hasPrefix("HTTP/"), let code = Int64(words[1]) else {
        throw CallError("malformed HTTP response")
      }
      answer.code = code
      while case let text = try line(), !text.isEmpty {
        guard let colon = text.firstIndex(of: ":"), answer.headers.count < 1000 else { continue }
        let name = Self.canonical(text[..<colon])
        let value = text[text.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
        var values: [VQLValue] = []
        if case .array(let known)? = answer.headers[name] { values = known }
        answer.headers.set(name, .array(values + [.string(String(value))]))
        if name == "Content-Length" { answer.length = Int(value) }
        if name == "Transfer-Encoding", value.lowercased() == "chunked" { answer.isChunked = true }
      }
    } while (100..<200).contains(answer.code)
    return answer
  }

  private static func canonical(_ name: Substring) -> String {
    name.split(separator: "-", omittingEmptySubsequences: false).map { part in
      part.prefix(1).uppercased() + part.dropFirst().lowercased()
    }.joined(separator: "-")
  }

  /// Passes the body on as it comes.
  mutating func body(_ answer: Answer, method: String, _ take: ([UInt8]) throws -> Bool) throws {
    if method == "HEAD" || answer.code == 204 || answer.code == 304 { return }
    if answer.isChunked {
      while let size = Int(try line().prefix { $0 != ";" && $0 != " " }, radix: 16), size > 0 {
        guard try pass(size, take) else { return }
        _ = try line()
      }
    } else if let length = answer.length {
      _ = try pass(length, take)
    } else {
      while true {
        if pending.isEmpty { pending = try receive() }
        if pending.isEmpty { return }
        let piece = pending
        pending = []
        guard try take(piece) else { return }
      }
    }
  }

  private mutating func pass(_ count: Int, _ take: ([UInt8]) throws -> Bool) throws -> Bool {
    var left = count
    while left > 0 {
      if pending.isEmpty { pending = try receive() }
      guard !pending.isEmpty else { throw CallError("unexpected EOF") }
      let piece = Array(pending.prefix(left))
      pending.removeFirst(piece.count)
      left -= piece.count
      guard try take(piece) else { return false }
    }
    return true
  }
}
