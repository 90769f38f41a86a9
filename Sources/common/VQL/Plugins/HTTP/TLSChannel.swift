import CLibSSL
import Glibc

/// TLS over a connection, by the system's OpenSSL, on the query's own thread (docs/decisions: HTTPS of queries).
final class TLSChannel: Channel {
  struct Trust {
    /// PEM certificates beside the system's roots.
    var roots: [String] = []
    /// A name that is accepted beside the host's.
    var pinnedName: String?
    var ignoresCertificates = false
  }

  private let plain: Channel
  private let contextObject: OpaquePointer
  // What came from the peer and what is to go there: the library itself never touches the socket, so it raises no
  // signal and all waiting is the plain connection's.
  private let incoming: OpaquePointer
  private let outgoing: OpaquePointer
  private let connection: OpaquePointer

  /// Takes over the plain connection and shakes hands.
  init(over plain: Channel, host: String, trust: Trust) throws {
    guard let made = SSL_CTX_new(TLS_client_method()) else { throw CallError("tls: \(Self.reason)") }
    guard let connection = SSL_new(made), let incoming = BIO_new(BIO_s_mem()), let outgoing = BIO_new(BIO_s_mem())
    else {
      throw CallError("tls: out of memory")
    }
    SSL_set_bio(connection, incoming, outgoing)
    self.incoming = incoming
    self.outgoing = outgoing
    contextObject = made
    self.connection = connection
    self.plain = plain
    super.init(plain.descriptor, plain.context)
    do {
      try configure(host: host, trust: trust)
      try handshake()
    } catch {
      release()
      throw error
    }
  }

  override func close() {
    SSL_shutdown(connection)
    try? flush()
    release()
    plain.close()
  }

  private func release() {
    SSL_free(connection)
    SSL_CTX_free(contextObject)
  }

  private func configure(host: String, trust: Trust) throws {
    guard mr_SSL_CTX_use_tls12_and_later(contextObject) == 1 else { throw CallError("tls: \(Self.reason)") }
    SSL_CTX_set_default_verify_paths(contextObject)
    for root in trust.roots where !root.isEmpty { try add(root) }
    let isAddress = IPAddress(text: host) != nil
    if !isAddress, mr_SSL_set_server_name(connection, host) != 1 { throw CallError("tls: \(Self.reason)") }
    guard !trust.ignoresCertificates else { return SSL_set_verify(connection, SSL_VERIFY_NONE, nil) }
    SSL_set_verify(connection, SSL_VERIFY_PEER, nil)
    let isSet =
      isAddress ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(connection), host) : SSL_set1_host(connection, host)
    guard isSet == 1 else { throw CallError("tls: \(Self.reason)") }
    if let name = trust.pinnedName, !name.isEmpty { _ = SSL_add1_host(connection, name) }
  }

  /// Adds the certificates of a PEM text to what is trusted.
  private func add(_ pem: String) throws {
    guard let store = SSL_CTX_get_cert_store(contextObject) else { throw CallError("tls: no certificate store") }
    let count = Array(pem.utf8).withUnsafeBytes { bytes in
      let bio = BIO_new_mem_buf(bytes.baseAddress, Int32(clamping: bytes.count))
      defer { BIO_free(bio) }
      var count = 0
      while let certificate = PEM_read_bio_X509(bio, nil, nil, nil) {
        X509_STORE_add_cert(store, certificate)
        X509_free(certificate)
        count += 1
      }
      return count
    }
    ERR_clear_error()
    guard count > 0 else { throw CallError("tls: the trusted roots hold no certificate") }
  }

  private static var reason: String {
    var buffer = [CChar](repeating: 0, count: 256)
    mr_SSL_error_text(&buffer, buffer.count)
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  private func handshake() throws {
    while true {
      let code = SSL_connect(connection)
      if code == 1 { return try flush() }
      guard try retry(code) else {
        let verdict = SSL_get_verify_result(connection)
        if verdict != 0 {
          throw CallError(
            "tls: failed to verify certificate: \(String(cString: X509_verify_cert_error_string(verdict)))")
        }
        throw CallError("tls: handshake failed: \(Self.reason)")
      }
    }
  }

  /// Passes on what the library has written and gives it what it waits for; false when it has failed.
  private func retry(_ code: Int32) throws -> Bool {
    let kind = SSL_get_error(connection, code)
    try flush()
    guard kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE else { return false }
    guard kind == SSL_ERROR_WANT_READ else { return true }
    let bytes = try plain.receive()
    guard !bytes.isEmpty else { throw EndOfData() }
    bytes.withUnsafeBytes { _ = BIO_write(incoming, $0.baseAddress, Int32(clamping: $0.count)) }
    return true
  }

  /// The peer has closed the connection without the goodbye of TLS.
  private struct EndOfData: Error, CustomStringConvertible {
    var description: String { "tls: unexpected EOF" }
  }

  private func flush() throws {
    while BIO_ctrl_pending(outgoing) > 0 {
      let outgoing = outgoing
      let bytes = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
        count = max(0, Int(BIO_read(outgoing, buffer.baseAddress, 65_536)))
      }
      if bytes.isEmpty { return }
      try plain.send(bytes)
    }
  }

  override func send(_ bytes: [UInt8]) throws {
    var done = 0
    while done < bytes.count {
      let sent = bytes.withUnsafeBytes { buffer in
        SSL_write(connection, buffer.baseAddress.map { $0 + done }, Int32(clamping: bytes.count - done))
      }
      if sent > 0 {
        done += Int(sent)
      } else if try !retry(sent) {
        throw CallError("tls: write: \(Self.reason)")
      }
    }
    try flush()
  }

  override func receive() throws -> [UInt8] {
    while true {
      var got: Int32 = 0
      let bytes = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
        got = SSL_read(connection, buffer.baseAddress, 65_536)
        count = max(0, Int(got))
      }
      if got > 0 { return bytes }
      if SSL_get_error(connection, got) == SSL_ERROR_ZERO_RETURN { return [] }
      do {
        guard try retry(got) else { throw CallError("tls: read: \(Self.reason)") }
      } catch is EndOfData {
        // Many servers end without saying goodbye; a body of known length notices what is missing.
        return []
      }
    }
  }
}
