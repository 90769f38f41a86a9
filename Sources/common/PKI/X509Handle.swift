import CLibCrypto
import PublicIdentity

/// Owns an X509 object of libcrypto for the length of an operation.
final class X509Handle {
  let pointer: OpaquePointer

  /// An empty version 3 certificate.
  init() throws(PKIError) {
    guard let new = X509_new() else { throw PKIError(.libraryFailure, "out of memory") }
    pointer = new
    guard X509_set_version(new, 2) == 1 else { throw PKIError(.libraryFailure, "certificate version") }
  }

  /// - Throws: ``PKIError`` `.unableToParse` when the bytes are not exactly one certificate.
  init(der: [UInt8]) throws(PKIError) {
    let parsed: (OpaquePointer?, Bool) = der.withUnsafeBufferPointer { bytes in
      var next = bytes.baseAddress
      let certificate = d2i_X509(nil, &next, bytes.count)
      return (certificate, next == bytes.baseAddress.map { $0 + bytes.count })
    }
    ERR_clear_error()
    guard let certificate = parsed.0 else { throw PKIError(.unableToParse, "not an X.509 certificate") }
    guard parsed.1 else {
      X509_free(certificate)
      throw PKIError(.unableToParse, "bytes after the end of an X.509 certificate")
    }
    pointer = certificate
  }

  deinit { X509_free(pointer) }

  var der: [UInt8] {
    var output: UnsafeMutablePointer<UInt8>?
    let length = i2d_X509(pointer, &output)
    guard length > 0, let output else { return [] }
    defer { mr_OPENSSL_free(output) }
    return Array(UnsafeBufferPointer(start: output, count: Int(length)))
  }

  /// A name in the form `CN=…,O=…` (RFC 2253).
  static func text(of name: OpaquePointer?) -> String {
    guard let name, let buffer = BIO_new(BIO_s_mem()) else { return "" }
    defer { BIO_free(buffer) }
    guard mr_X509_NAME_print(buffer, name) >= 0 else { return "" }
    var bytes: UnsafePointer<UInt8>?
    let length = mr_BIO_get_mem_data(buffer, &bytes)
    guard length > 0, let bytes else { return "" }
    return String(decoding: UnsafeBufferPointer(start: bytes, count: length), as: UTF8.self)
  }

  var commonName: String? {
    guard let subject = X509_get_subject_name(pointer) else { return nil }
    let index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1)
    guard index >= 0, let entry = X509_NAME_get_entry(subject, index), let value = X509_NAME_ENTRY_get_data(entry)
    else { return nil }
    var text: UnsafeMutablePointer<UInt8>?
    let length = ASN1_STRING_to_UTF8(&text, value)
    guard length >= 0, let text else { return nil }
    defer { mr_OPENSSL_free(text) }
    return String(decoding: UnsafeBufferPointer(start: text, count: Int(length)), as: UTF8.self)
  }

  /// The alternative names as bytes, with their kind.
  var alternativeNames: [(isDNS: Bool, bytes: [UInt8])] {
    guard let names = mr_X509_alternative_names(pointer) else { return [] }
    defer { mr_GENERAL_NAMES_free(names) }
    return (0..<max(0, mr_GENERAL_NAMES_count(names))).compactMap { index in
      var type: Int32 = 0
      var length: Int32 = 0
      guard let bytes = mr_GENERAL_NAMES_at(names, index, &type, &length), length > 0 else { return nil }
      return (type == GEN_DNS, Array(UnsafeBufferPointer(start: bytes, count: Int(length))))
    }
  }

  static func seconds(_ time: UnsafePointer<ASN1_TIME>?) -> Int? {
    var seconds: Int64 = 0
    guard let time, mr_ASN1_TIME_seconds(time, &seconds) == 1 else { return nil }
    return Int(seconds)
  }
}
