import Glibc

extension Functions {
  static let names: [FunctionSpec] = [
    FunctionSpec(
      "host", "name*: string, server: string, type: string, prefer_go: bool, tracker_only: bool",
      "What a name stands for, from the system's resolver or from a name server."
    ) { call in
      let name = String(decoding: try call.required("name"), as: UTF8.self)
      let kind = (call.text("type") ?? "").uppercased()
      let server = call.text("server") ?? ""
      // Names seen in answers to others are not tracked.
      if call.bool("tracker_only") { return .array([]) }
      if server.isEmpty, ["", "A", "AAAA"].contains(kind) {
        return .array(try resolve(name, kind, call.context).map { .string($0) })
      }
      guard let type = DNSMessage.types[kind.isEmpty ? "A" : kind] else {
        throw CallError(
          "type \(kind) is not known: known are \(DNSMessage.types.keys.sorted().joined(separator: ", "))")
      }
      var asked = name
      if kind == "PTR", let address = IPAddress(text: name) { asked = DNSMessage.reverseName(address) }
      return .array(try ask(asked, type, server: server, call.context).map { .string($0) })
    }
  ]

  /// Addresses of a name, as programs on this host see them.
  private static func resolve(_ name: String, _ kind: String, _ context: Context) throws -> [String] {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_family = kind == "A" ? AF_INET : kind == "AAAA" ? AF_INET6 : AF_UNSPEC
    var head: UnsafeMutablePointer<addrinfo>?
    let code = context.outside { getaddrinfo(name, nil, &hints, &head) }
    guard code == 0 else { throw CallError("lookup \(name): \(String(cString: gai_strerror(code)))") }
    defer { freeaddrinfo(head) }
    var found: [String] = []
    var next = head
    while let item = next {
      if let address = item.pointee.ai_addr {
        let raw = UnsafeRawPointer(address)
        let isFour = item.pointee.ai_family == AF_INET
        let bytes = (0..<(isFour ? 4 : 16)).map { raw.load(fromByteOffset: (isFour ? 4 : 8) + $0, as: UInt8.self) }
        found.append(IPAddress(bytes).text)
      }
      next = item.pointee.ai_next
    }
    return found
  }

  /// Asks a name server, `address:port`; without one those of the system, in turn.
  private static func ask(_ name: String, _ type: UInt16, server: String, _ context: Context) throws -> [String] {
    guard let question = DNSMessage.question(name, type: type, id: .random(in: 0 ... .max)) else {
      throw CallError("lookup \(name): this is no name")
    }
    var reason: any Error = CallError("no name server is configured")
    for server in server.isEmpty ? systemServers : [server] {
      do {
        return try exchange(question, type, server, context)
      } catch {
        if context.isStopped { throw error }
        reason = error
      }
    }
    throw CallError("lookup \(name): \(reason)")
  }

  private static var systemServers: [String] {
    (Posix.readText("/etc/resolv.conf") ?? "").split(separator: "\n").compactMap { line in
      let words = line.split { $0 == " " || $0 == "\t" }
      return words.count > 1 && words[0] == "nameserver" ? String(words[1]) : nil
    }
  }

  private static let attempts = 3
  private static let patience: Int64 = 3_000_000_000

  private static func exchange(
    _ question: [UInt8], _ type: UInt16, _ server: String, _ context: Context
  ) throws -> [String] {
    var host = server
    var port = "53"
    if IPAddress(text: server) == nil, let colon = server.lastIndex(of: ":") {
      host = String(server[..<colon]).filter { $0 != "[" && $0 != "]" }
      port = String(server[server.index(after: colon)...])
    }
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_DGRAM.rawValue)
    var head: UnsafeMutablePointer<addrinfo>?
    let code = context.outside { getaddrinfo(host, port, &hints, &head) }
    guard code == 0, let address = head?.pointee else {
      throw CallError("server \(server): \(String(cString: gai_strerror(code)))")
    }
    defer { freeaddrinfo(head) }
    let descriptor = socket(address.ai_family, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw CallError(Posix.message()) }
    defer { close(descriptor) }
    guard connect(descriptor, address.ai_addr, address.ai_addrlen) == 0 else { throw CallError(Posix.message()) }
    for _ in 0..<attempts {
      guard send(descriptor, question, question.count, Int32(MSG_NOSIGNAL)) == question.count else {
        throw CallError("server \(server): \(Posix.message())")
      }
      let end = Clock.nanoseconds &+ patience
      while Clock.nanoseconds < end {
        guard !context.isStopped else { throw CallError("cancelled") }
        var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard context.outside({ poll(&item, 1, 100) }) > 0 else { continue }
        let bytes = [UInt8](unsafeUninitializedCapacity: 4096) { buffer, count in
          count = max(0, recv(descriptor, buffer.baseAddress, 4096, 0))
        }
        guard !bytes.isEmpty else { throw CallError("server \(server): \(Posix.message())") }
        // What belongs to another question is not looked at.
        if let found = try DNSMessage.answers(bytes, to: question, type: type) { return found }
      }
    }
    throw CallError("server \(server): no answer")
  }
}
