/// Makes the request of an `http_client()` call.
struct HTTPRequestBuilder {
  private(set) var request = HTTPExchange.Request()
  private let call: Call
  private var query: [UInt8] = []
  private var contentType = ""

  /// - Parameter method: replaces the call's, after a redirect.
  init(_ call: Call, _ address: String, method: String?) throws {
    self.call = call
    try locate(address)
    request.method = (method ?? call.text("method") ?? "").uppercased()
    if request.method.isEmpty { request.method = "GET" }
    guard ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"].contains(request.method) else {
      throw CallError("Unknown method \(request.method): known are GET, POST, PUT, PATCH, DELETE, HEAD")
    }
    if method == nil || method == call.text("method") { try addBody() }
    try addParameters(isRedirected: method != nil)
    if !query.isEmpty { request.target += "?" + String(decoding: query, as: UTF8.self) }
    try addHeaders()
    try addTransport()
  }

  /// `http://…`, `https://…`, or `/path/sock:unix/request/path`.
  private mutating func locate(_ address: String) throws {
    if address.hasPrefix("/"), let mark = address.firstRange(of: ":unix") {
      request.socket = String(address[..<mark.lowerBound])
      request.host = "unix"
      request.target = String(address[mark.upperBound...])
    } else {
      let parts = URLText.parse(Array(address.utf8))
      let scheme = parts["Scheme"]?.string ?? ""
      guard scheme == "http" || scheme == "https" else {
        throw CallError("unsupported protocol scheme \"\(scheme)\": known are http and https")
      }
      request.isTLS = scheme == "https"
      request.port = request.isTLS ? "443" : "80"
      var host = parts["Host"]?.string ?? ""
      if !host.hasSuffix("]"), let colon = host.lastIndex(of: ":") {
        request.port = String(host[host.index(after: colon)...])
        host = String(host[..<colon])
      }
      request.host = host.filter { $0 != "[" && $0 != "]" }
      guard !request.host.isEmpty else { throw CallError("no Host in request URL") }
      request.target = String(decoding: URLText.escape(parts["Path"]?.text ?? [], keep: "/$&+,:;=@"), as: UTF8.self)
      query = parts["RawQuery"]?.text ?? []
    }
    if request.target.isEmpty { request.target = "/" }
  }

  private mutating func addBody() throws {
    request.body = call.string("data") ?? []
    guard case .array(let files)? = call.materialized("files"), !files.isEmpty else { return }
    let boundary = "microraptor-" + String(UInt64.random(in: 0 ... .max), radix: 36)
    contentType = "multipart/form-data; boundary=" + boundary
    var body: [UInt8] = []
    if let parameters = try call.dict("params") {
      for name in parameters.keys {
        body += part(boundary, "name=\"\(Self.quoted(name))\"") + Call.string(parameters[name] ?? .null) + [13, 10]
      }
    }
    for case .dict(let file) in files.map(\.resolved) {
      let accessor = file["accessor"]?.string ?? "auto"
      let path = try Accessors.path(file["path"] ?? file["file"] ?? .null, accessor: accessor)
      let name = file["file"]?.string ?? String(decoding: path.basename, as: UTF8.self)
      let key = file["key"]?.string ?? "file"
      let content = try Accessors.find(accessor).open(path, call.scope).readAll(limit: Self.maximumFile + 1)
      guard content.count <= Self.maximumFile else {
        throw CallError("\(name) is larger than \(Self.maximumFile) bytes")
      }
      let disposition = "name=\"\(Self.quoted(key))\"; filename=\"\(Self.quoted(name))\""
      body += part(boundary, disposition, type: "application/octet-stream") + content + [13, 10]
    }
    request.body = body + Array("--\(boundary)--\r\n".utf8)
    if request.method == "GET" { request.method = "POST" }
  }

  private static let maximumFile = 64 << 20

  private func part(_ boundary: String, _ disposition: String, type: String? = nil) -> [UInt8] {
    let type = type.map { "Content-Type: \($0)\r\n" } ?? ""
    return Array("--\(boundary)\r\nContent-Disposition: form-data; \(disposition)\r\n\(type)\r\n".utf8)
  }

  private static func quoted(_ text: String) -> String { text.filter { $0 != "\"" && $0 != "\r" && $0 != "\n" } }

  /// Parameters go into the address of a GET, else into a form.
  private mutating func addParameters(isRedirected: Bool) throws {
    guard !isRedirected, contentType.isEmpty, let parameters = try call.dict("params"), parameters.count > 0 else {
      return
    }
    let text = URLText.query(parameters)
    if request.method == "GET" || !request.body.isEmpty {
      query += (query.isEmpty ? [] : [UInt8(ascii: "&")]) + text
    } else {
      request.body = text
      contentType = "application/x-www-form-urlencoded"
    }
  }

  private mutating func addHeaders() throws {
    var headers: [(String, String)] = []
    if let given = try call.dict("headers") {
      headers = given.keys.map { ($0, String(decoding: Call.string(given[$0] ?? .null), as: UTF8.self)) }
    }
    func add(_ name: String, _ value: String) {
      if !value.isEmpty && !headers.contains(where: { $0.0.lowercased() == name.lowercased() }) {
        headers.append((name, value))
      }
    }
    let agent = call.text("user_agent") ?? ""
    add("Host", request.socket == nil ? request.authority : request.host)
    add("User-Agent", agent.isEmpty ? "Microraptor" : agent)
    add("Content-Type", contentType)
    add("Cookie", try HTTPCookies.header(host: request.host, call))
    if !request.body.isEmpty || !["GET", "HEAD"].contains(request.method) {
      add("Content-Length", String(request.body.count))
    }
    add("Connection", "close")
    request.headers = headers
  }

  /// Certificates and proxies, as the agent's settings and the call say.
  private mutating func addTransport() throws {
    let settings = call.context.options.web
    request.trust.roots = [settings.trustedRoots, call.text("root_ca") ?? ""].filter { !$0.isEmpty }
    request.trust.pinnedName = settings.pinnedName
    if call.bool("skip_verify") || call.bool("disable_ssl_security") {
      guard settings.mayIgnoreCertificates else {
        throw CallError("skip_verify is not allowed by the agent's TLS policy")
      }
      request.trust.ignoresCertificates = true
    }
    guard request.socket == nil, let port = Int(request.port) else { return }
    request.proxy = try settings.proxy(request.isTLS, request.host, port)
  }
}

/// Cookies in the dict that the argument `cookie_jar` names: by host, then by name.
enum HTTPCookies {
  static func header(host: String, _ call: Call) throws -> String {
    guard let jar = try call.dict("cookie_jar"), case .dict(let cookies)? = jar[host] else { return "" }
    return cookies.keys.map { name in
      "\(name)=\(String(decoding: Call.string(cookies[name] ?? .null), as: UTF8.self))"
    }.joined(separator: "; ")
  }

  static func store(_ answer: HTTPExchange.Answer, host: String, _ call: Call) throws {
    guard let jar = try call.dict("cookie_jar"), case .array(let lines)? = answer.headers["Set-Cookie"] else { return }
    var cookies = VQLDict()
    if case .dict(let known)? = jar[host] { cookies = known }
    for line in lines.compactMap(\.string) {
      let pair = line.prefix { $0 != ";" }.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard pair.count == 2, cookies.count < 100 else { continue }
      cookies.set(String(pair[0].drop { $0 == " " }), .string(String(pair[1])))
    }
    jar.set(host, .dict(cookies))
  }
}
