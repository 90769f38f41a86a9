import CLibCrypto
import Envelope
import PKI
import PublicIdentity
import Wire

/// Makes bodies as an ill-meaning agent can: with a session of its own, a right MAC, and anything inside
/// (crypto.md §5). Written with libcrypto alone, so that it can break rules that our own sealing keeps.
struct FuzzSession: Sendable {
  /// The most that fits into an OAEP block of a 2048-bit key.
  static let mostProperties = 214

  let server: RSAPrivateKey
  let client: RSAPrivateKey
  /// The session as a worker knows it after its first body.
  let known: InboundSession
  private let encryptedCipher: [UInt8]
  private let encryptedMetadata: [UInt8]

  private static let key = [UInt8](repeating: 1, count: 16)
  private static let iv = [UInt8](repeating: 2, count: 16)
  private static let macKey = [UInt8](repeating: 3, count: 16)

  private static let shared = Result { try FuzzSession(keys: (.generate(), .generate())) }

  /// The one of this process: keys take long to make.
  init() throws { self = try Self.shared.get() }

  private init(keys: (RSAPrivateKey, RSAPrivateKey)) throws {
    (server, client) = keys
    encryptedCipher = try server.publicKey.encryptOAEP(Self.properties())
    encryptedMetadata = Self.encrypt(Self.pad(Self.metadata(client)), Self.iv)
    let body = Self.seal(
      Self.encrypt(Self.pad(Self.lists([[1]])), Self.iv), Self.iv, encryptedCipher, encryptedMetadata)
    let server = server
    known = try body.withUnsafeBytes { try InboundSession.unwrap($0, EnvelopeScan($0), with: server).session }
  }

  // MARK: parts in good order

  func plainLists(_ lists: [[UInt8]]) -> [UInt8] { Self.lists(lists) }
  func plainMetadata() -> [UInt8] { Self.metadata(client) }
  func plainProperties() -> [UInt8] { Self.properties() }

  private static func lists(_ lists: [[UInt8]]) -> [UInt8] {
    var writer = WireWriter()
    for list in lists { writer.field(1, bytes: list, counts: true) }
    writer.field(6, 17)
    writer.field(7, "nonce")
    return writer.bytes
  }

  private static func metadata(_ client: RSAPrivateKey) -> [UInt8] {
    var writer = WireWriter()
    writer.field(1, client.publicKey.clientID.rawValue)
    writer.field(2, bytes: (try? client.sign(properties())) ?? [])
    return writer.bytes
  }

  private static func properties() -> [UInt8] {
    var writer = WireWriter()
    writer.field(1, "aes_128_cbc")
    writer.field(2, bytes: key)
    writer.field(3, bytes: iv)
    writer.field(5, bytes: macKey)
    writer.field(6, 1)
    return writer.bytes
  }

  // MARK: bodies

  func body(lists: [[UInt8]]) -> [UInt8] { body(plain: Self.pad(Self.lists(lists))) }

  /// - Parameter plain: encrypted as it is; cut to whole blocks.
  func body(plain: [UInt8]) -> [UInt8] { body(cipherText: Self.encrypt(plain, Self.iv)) }

  func body(cipherText: [UInt8]) -> [UInt8] {
    Self.seal(cipherText, Self.iv, encryptedCipher, encryptedMetadata)
  }

  func body(iv: [UInt8]) -> [UInt8] {
    Self.seal(Self.encrypt(Self.pad([1]), Self.iv), iv, encryptedCipher, encryptedMetadata)
  }

  func body(metadata: [UInt8]) -> [UInt8] {
    Self.seal(
      Self.encrypt(Self.pad(Self.lists([])), Self.iv), Self.iv, encryptedCipher, Self.encrypt(metadata, Self.iv))
  }

  func body(properties: [UInt8]) -> [UInt8] {
    let cipher = (try? server.publicKey.encryptOAEP(properties)) ?? []
    return Self.seal(Self.encrypt(Self.pad(Self.lists([])), Self.iv), Self.iv, cipher, encryptedMetadata)
  }

  // MARK: libcrypto

  private static func pad(_ bytes: [UInt8]) -> [UInt8] {
    let count = 16 - bytes.count % 16
    return bytes + [UInt8](repeating: UInt8(count), count: count)
  }

  private static func encrypt(_ plain: [UInt8], _ iv: [UInt8]) -> [UInt8] {
    let context = EVP_CIPHER_CTX_new()
    defer { EVP_CIPHER_CTX_free(context) }
    let size = plain.count / 16 * 16
    return [UInt8](unsafeUninitializedCapacity: size + 16) { buffer, count in
      var length: Int32 = 0
      let isDone =
        EVP_EncryptInit_ex(context, EVP_aes_128_cbc(), nil, key, iv) == 1
        && EVP_CIPHER_CTX_set_padding(context, 0) == 1
        && EVP_EncryptUpdate(context, buffer.baseAddress, &length, plain, Int32(size)) == 1
      count = isDone ? Int(length) : 0
    }
  }

  private static func seal(
    _ encrypted: [UInt8], _ iv: [UInt8], _ cipher: [UInt8], _ metadata: [UInt8]
  ) -> [UInt8] {
    let message = encrypted + cipher + metadata + iv + [4, 0, 0, 0]
    var length: UInt32 = 0
    let mac = [UInt8](unsafeUninitializedCapacity: 64) { buffer, count in
      _ = HMAC(EVP_sha1(), macKey, Int32(macKey.count), message, message.count, buffer.baseAddress, &length)
      count = Int(length)
    }
    var writer = WireWriter(capacity: message.count + 64)
    writer.field(1, bytes: encrypted)
    writer.field(2, bytes: cipher)
    writer.field(6, 4)
    writer.field(8, bytes: iv)
    writer.field(9, bytes: metadata)
    writer.field(10, bytes: mac)
    return writer.bytes
  }
}
