/// One exchange of HTTP/1.1 over a plain or TLS connection or a Unix socket.
struct HTTPExchange {
  struct Request {
    var method = "GET"
    var isTLS = false
    var host = ""
    var port = "80"
    /// Path of a Unix socket, instead of host and port.
    var socket: String?
    var target = "/"
    var headers: [(String, String)] = []
    var body: [UInt8] = []
    var trust = TLSChannel.Trust()
    var proxy: VQLWebSettings.Proxy?

    /// The address without its path, as redirects without a host continue it.
    var origin: String { "\(isTLS ? "https" : "http")://\(authority)" }

    /// Host and port; the port is left out where it is the usual one.
    var authority: String {
      let name = host.contains(":") ? "[\(host)]" : host
      return port == (isTLS ? "443" : "80") ? name : "\(name):\(port)"
    }
  }
  struct Answer {
    var code: Int64 = 0
    var headers = VQLDict()
    var length: Int?
    var isChunked = false
  }

  private static let headLimit = 1 << 20
  private let channel: Channel
  private var pending: [UInt8] = []

  init(_ request: Request, _ context: Context) throws {
    channel = try Self.connect(request, context)
    var target = request.target
    var headers = request.headers
    // A proxy for plain requests is told the whole address; TLS goes through a tunnel.
    if let proxy = request.proxy, !request.isTLS, request.socket == nil {
      target = request.origin + target
      if let authorization = proxy.authorization { headers.append(("Proxy-Authorization", authorization)) }
    }
    do {
      try channel.send(Self.head(request.method, target, headers) + request.body)
    } catch {
      channel.close()
      throw error
    }
  }

  private static func head(_ method: String, _ target: String, _ headers: [(String, String)]) -> [UInt8] {
    var head = "\(method) \(target) HTTP/1.1\r\n"
    for (name, value) in headers {
      let clean = (name + ": " + value).unicodeScalars.filter { $0 != "\r" && $0 != "\n" }
      head += String(String.UnicodeScalarView(clean)) + "\r\n"
    }
    return Array((head + "\r\n").utf8)
  }

  func close() { channel.close() }

  private static func connect(_ request: Request, _ context: Context) throws -> Channel {
    if let socket = request.socket { return try Channel.connect(path: socket, context) }
    let host = request.proxy?.host ?? request.host
    let port = request.proxy.map { String($0.port) } ?? request.port
    let plain = try Channel.connect(host: host, port: port, context)
    guard request.isTLS else { return plain }
    do {
      if let proxy = request.proxy { try tunnel(plain, request, proxy) }
      return try TLSChannel(over: plain, host: request.host, trust: request.trust)
    } catch {
      plain.close()
      throw error
    }
  }

  /// Asks a proxy for a connection to the host.
  private static func tunnel(_ channel: Channel, _ request: Request, _ proxy: VQLWebSettings.Proxy) throws {
    let authority = (request.host.contains(":") ? "[\(request.host)]" : request.host) + ":" + request.port
    var headers = [("Host", authority)]
    if let authorization = proxy.authorization { headers.append(("Proxy-Authorization", authorization)) }
    try channel.send(head("CONNECT", authority, headers))
    var exchange = HTTPExchange(reading: channel)
    let answer = try exchange.head()
    guard answer.code == 200, exchange.pending.isEmpty else {
      throw CallError("proxyconnect: the proxy answered \(answer.code)")
    }
  }

  private init(reading channel: Channel) { self.channel = channel }

  private func receive() throws -> [UInt8] { try channel.receive() }

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
