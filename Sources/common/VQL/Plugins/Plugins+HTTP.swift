import Glibc

extension Plugins {
  static let http: [PluginSpec] = [
    PluginSpec(
      "http_client",
      "url: string[], params: dict, headers: dict, method: string, data: string, chunk_size: int, "
        + "disable_ssl_security: bool, skip_verify: bool, tempfile_extension: string, remove_last: bool, "
        + "root_ca: string, cookie_jar: dict, user_agent: string, secret: string, files: dict[]",
      "Sends an HTTP request over a plain connection or a Unix socket."
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

  /// True when the answer counts: a 2xx status, or the last address of all.
  private static func fetch(_ call: Call, _ address: String, isLast: Bool, _ emit: RowSink) throws -> Bool {
    do {
      var target = address
      for _ in 0..<10 {
        let request = try request(call, target)
        var exchange = try HTTPExchange(request, call.context)
        defer { exchange.close() }
        let answer = try exchange.head()
        if (301...308).contains(answer.code), case .array(let places)? = answer.headers["Location"],
          let place = places.first?.string
        {
          target = place.hasPrefix("/") ? "http://\(request.host):\(request.port)\(place)" : place
          continue
        }
        guard isLast || (200..<300).contains(answer.code) else { return false }
        try deliver(call, address, answer, method: request.method, &exchange, emit)
        return true
      }
      throw CallError("stopped after 10 redirects")
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

  private static func request(_ call: Call, _ address: String) throws -> HTTPExchange.Request {
    var request = HTTPExchange.Request()
    var query: [UInt8] = []
    if address.hasPrefix("/"), let mark = address.firstRange(of: ":unix") {
      request.socket = String(address[..<mark.lowerBound])
      request.host = "unix"
      request.target = String(address[mark.upperBound...])
    } else {
      let parts = URLText.parse(Array(address.utf8))
      let scheme = parts["Scheme"]?.string ?? ""
      guard scheme == "http" else {
        throw CallError("http_client: unsupported protocol scheme \"\(scheme)\": this engine speaks plain HTTP only")
      }
      var host = parts["Host"]?.string ?? ""
      if !host.hasSuffix("]"), let colon = host.lastIndex(of: ":") {
        request.port = String(host[host.index(after: colon)...])
        host = String(host[..<colon])
      }
      request.host = host.filter { $0 != "[" && $0 != "]" }
      request.target = String(decoding: URLText.escape(parts["Path"]?.text ?? [], keep: "/$&+,:;=@"), as: UTF8.self)
      query = parts["RawQuery"]?.text ?? []
    }
    if request.target.isEmpty { request.target = "/" }
    request.method = (call.text("method") ?? "").uppercased()
    if request.method.isEmpty { request.method = "GET" }
    guard ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"].contains(request.method) else {
      throw CallError("Unknown method \(request.method): known are GET, POST, PUT, PATCH, DELETE")
    }
    try fill(&request, call, &query)
    if !query.isEmpty { request.target += "?" + String(decoding: query, as: UTF8.self) }
    return request
  }

  /// Parameters, body and headers.
  private static func fill(_ request: inout HTTPExchange.Request, _ call: Call, _ query: inout [UInt8]) throws {
    var type = ""
    request.body = call.string("data") ?? []
    if let parameters = try call.dict("params"), parameters.count > 0 {
      let text = URLText.query(parameters)
      if request.method == "GET" || !request.body.isEmpty {
        query += (query.isEmpty ? [] : [UInt8(ascii: "&")]) + text
      } else {
        request.body = text
        type = "application/x-www-form-urlencoded"
      }
    }
    let agent = call.text("user_agent") ?? ""
    var headers: [(String, String)] = []
    if let given = try call.dict("headers") {
      headers = given.keys.map { ($0, String(decoding: Call.string(given[$0] ?? .null), as: UTF8.self)) }
    }
    func add(_ name: String, _ value: String) {
      if !value.isEmpty && !headers.contains(where: { $0.0.lowercased() == name.lowercased() }) {
        headers.append((name, value))
      }
    }
    let port = request.port == "80" ? "" : ":" + request.port
    add("Host", request.host + port)
    add("User-Agent", agent.isEmpty ? "Microraptor" : agent)
    add("Content-Type", type)
    if !request.body.isEmpty || request.method != "GET" { add("Content-Length", String(request.body.count)) }
    add("Connection", "close")
    request.headers = headers
  }
}
