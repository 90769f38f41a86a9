import CLibCrypto
import Wire

/// The same MAC and decryption as an open does, and nothing around it: the limit that the library sets.
final class LibcryptoOpen {
  private let mac: OpaquePointer
  private let cipher: OpaquePointer
  private var plain: [UInt8]
  private var tag = [UInt8](repeating: 0, count: 20)

  /// - Parameter size: of the greatest cipher text.
  init(size: Int) throws {
    plain = [UInt8](repeating: 0, count: size + 32)
    let key = [UInt8](repeating: 7, count: 16)
    guard let hmac = EVP_MAC_fetch(nil, "HMAC", nil), let mac = EVP_MAC_CTX_new(hmac),
      let cipher = EVP_CIPHER_CTX_new(), let aes = EVP_CIPHER_fetch(nil, "AES-128-CBC", nil)
    else { throw Trouble("libcrypto has no HMAC or AES") }
    defer {
      EVP_MAC_free(hmac)
      EVP_CIPHER_free(aes)
    }
    self.mac = mac
    self.cipher = cipher
    guard mr_hmac_sha1_init(mac, key, key.count) == 1, EVP_DecryptInit_ex2(cipher, aes, key, nil, nil) == 1,
      EVP_CIPHER_CTX_set_padding(cipher, 0) == 1
    else { throw Trouble("libcrypto refuses HMAC-SHA1 or AES-128-CBC") }
  }

  deinit {
    EVP_MAC_CTX_free(mac)
    EVP_CIPHER_CTX_free(cipher)
  }

  func run(_ body: UnsafeRawBufferPointer, _ scan: EnvelopeScan) throws {
    guard let base = body.bindMemory(to: UInt8.self).baseAddress, EVP_MAC_init(mac, nil, 0, nil) == 1 else {
      throw Trouble("EVP_MAC_init")
    }
    for part in [scan.encrypted, scan.encryptedCipher, scan.encryptedCipherMetadata, scan.packetIV] {
      guard EVP_MAC_update(mac, base + part.lowerBound, part.count) == 1 else { throw Trouble("EVP_MAC_update") }
    }
    var length = 0
    var written: Int32 = 0
    guard EVP_MAC_final(mac, &tag, &length, tag.count) == 1,
      EVP_DecryptInit_ex2(cipher, nil, nil, base + scan.packetIV.lowerBound, nil) == 1,
      EVP_DecryptUpdate(cipher, &plain, &written, base + scan.encrypted.lowerBound, Int32(scan.encrypted.count)) == 1
    else { throw Trouble("libcrypto failed") }
  }
}
