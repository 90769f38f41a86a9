import Glibc

extension Plugins {
  static let http: [PluginSpec] = [
    PluginSpec(
      "http_client",
      "url: string[], params: dict, headers: dict, method: string, data: string, chunk_size: int, "
        + "disable_ssl_security: bool, skip_verify: bool, tempfile_extension: string, remove_last: bool, "
        + "root_ca: string, cookie_jar: dict, user_agent: string, secret: string, files: dict[]",
      "Sends an HTTP request, over TLS, a plain connection or a Unix socket."
    ) { call, emit in
      let addresses = call.strings("url").map { String(decoding: $0, as: UTF8.self) }
      guard !addresses.isEmpty else { throw CallError("Field url is required") }
      for (place, address) in addresses.enumerated() {
        call.log("Fetching \(address)")
        let isLast = place == addresses.count - 1
        if try fetch(call, address, isLast: isLast, emit) { return }
      }
    }
  ]

  private static let shape = UnsafeShared(Shape(["Url", "Content", "Response", "Headers"]))

  private static func row(_ address: String, _ content: [UInt8], _ code: Int64, _ headers: VQLDict) -> VQLValue {
    .dict(
      VQLDict(shape: shape.value, values: [.string(address), .bytes(content), .int(code), .dict(headers)]))
  }

  private static let maximumRedirects = 10

  /// True when the answer counts: a 2xx status, or the last address of all.
  private static func fetch(_ call: Call, _ address: String, isLast: Bool, _ emit: RowSink) throws -> Bool {
    do {
      var target = address
      var method: String?
      for _ in 0..<maximumRedirects {
        let request = try HTTPRequestBuilder(call, target, method: method).request
        var exchange = try HTTPExchange(request, call.context)
        defer { exchange.close() }
        let answer = try exchange.head()
        try HTTPCookies.store(answer, host: request.host, call)
        if (301...308).contains(answer.code), answer.code != 304, case .array(let places)? = answer.headers["Location"],
          let place = places.first?.string
        {
          target = place.contains("://") ? place : request.origin + (place.hasPrefix("/") ? place : "/" + place)
          // What was posted is not sent again, but for the codes that ask for it.
          if answer.code < 304, request.method != "HEAD" { method = "GET" }
          continue
        }
        guard isLast || (200..<300).contains(answer.code) else { return false }
        try deliver(call, address, answer, method: request.method, &exchange, emit)
        return true
      }
      throw CallError("stopped after \(maximumRedirects) redirects")
    } catch {
      if call.context.isStopped { return true }
      guard isLast else { return false }
      _ = emit(row(address, Array("\(error)".utf8), 500, VQLDict()))
      return true
    }
  }

  private static func deliver(
    _ call: Call, _ address: String, _ answer: HTTPExchange.Answer, method: String, _ exchange: inout HTTPExchange,
    _ emit: RowSink
  ) throws {
    if let ending = call.text("tempfile_extension"), !ending.isEmpty {
      guard !ending.contains("/") else { throw CallError("the extension must not hold a slash") }
      let base = HostEnvironment.value("TMPDIR") ?? "/tmp"
      let path = base + "/tmp" + String(UInt64.random(in: 0 ... .max), radix: 36) + ending
      let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
      guard descriptor >= 0 else { throw CallError("open \(path): \(Posix.message())") }
      defer { close(descriptor) }
      (call.bool("remove_last") ? call.scope.root : call.scope).onClose { unlink(path) }
      try exchange.body(answer, method: method) { piece in
        try Posix.writeAll(piece, to: descriptor)
        return call.context.operation()
      }
      _ = emit(row(address, Array(path.utf8), answer.code, answer.headers))
      return
    }
    let size = Int(max(1, min(try call.int("chunk_size") ?? 4 << 20, 64 << 20)))
    var kept: [UInt8] = []
    var wanted = true
    try exchange.body(answer, method: method) { piece in
      kept += piece
      while wanted && kept.count >= size {
        wanted = emit(row(address, Array(kept.prefix(size)), answer.code, answer.headers))
        kept.removeFirst(size)
      }
      return wanted && call.context.operation()
    }
    if wanted && !call.context.isStopped { _ = emit(row(address, kept, answer.code, answer.headers)) }
  }
}
