import Foundation

/// Reads `/metrics` of a process: HTTP/1.0 over a plain socket, as the monitoring port has neither TLS nor names.
struct MetricsReader: Sendable {
  struct Failure: Error, CustomStringConvertible {
    var description: String
  }

  let host: String
  let port: String
  /// How long each step may take, in seconds.
  private static let patience = 2
  private static let most = 4 << 20

  /// - Parameter target: `HOST:PORT` or `http://HOST:PORT/…`.
  init(_ target: String) throws {
    var text = Substring(target)
    if text.hasPrefix("http://") { text = text.dropFirst(7) }
    text = text.prefix { $0 != "/" }
    guard let colon = text.lastIndex(of: ":"), Int(text[text.index(after: colon)...]) != nil else {
      throw Failure(description: "\(target) is no HOST:PORT")
    }
    host = text[..<colon].trimmingCharacters(in: CharacterSet(charactersIn: "[]"))
    port = String(text[text.index(after: colon)...])
  }

  /// Blocks its thread, for some seconds at most.
  func read() throws -> String {
    let descriptor = try connected()
    defer { close(descriptor) }
    let request = Array("GET /metrics HTTP/1.0\r\nHost: \(host)\r\n\r\n".utf8)
    guard send(descriptor, request, request.count, Int32(MSG_NOSIGNAL)) == request.count else {
      throw Failure(description: "it does not take a request")
    }
    var answer: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while answer.count < Self.most {
      let count = recv(descriptor, &buffer, buffer.count, 0)
      guard count >= 0 else { throw Failure(description: "it does not answer: \(String(cString: strerror(errno)))") }
      if count == 0 { break }
      answer += buffer[..<count]
    }
    let text = String(decoding: answer, as: UTF8.self)
    guard text.hasPrefix("HTTP/1."), text.dropFirst(9).hasPrefix("200"), let end = text.range(of: "\r\n\r\n") else {
      throw Failure(description: "it does not answer as a metrics port does")
    }
    return String(text[end.upperBound...])
  }

  private func connected() throws -> Int32 {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var found: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, port, &hints, &found)
    guard code == 0 else { throw Failure(description: String(cString: gai_strerror(code))) }
    defer { freeaddrinfo(found) }
    var reason = "no address"
    var next = found
    while let address = next?.pointee {
      let descriptor = socket(address.ai_family, address.ai_socktype | Int32(SOCK_CLOEXEC.rawValue), 0)
      var time = timeval(tv_sec: Self.patience, tv_usec: 0)
      let size = socklen_t(MemoryLayout<timeval>.size)
      setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, size)
      // Bounds the connect too.
      setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, size)
      if connect(descriptor, address.ai_addr, address.ai_addrlen) == 0 { return descriptor }
      reason = String(cString: strerror(errno))
      close(descriptor)
      next = address.ai_next
    }
    throw Failure(description: reason)
  }
}
