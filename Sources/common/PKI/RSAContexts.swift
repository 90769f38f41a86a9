import CLibCrypto
import Synchronization

/// Contexts of one key and one operation, set up once and used again and again: setting one up looks algorithms up by
/// their names each time.
///
/// Sendable although it holds OpenSSL's contexts: each is with one caller at a time, and the key is never changed.
final class RSAContexts: @unchecked Sendable {
  /// More than the threads that ever do RSA at a time.
  private static let kept = 64

  private let key: OpaquePointer
  private let setUp: @Sendable (OpaquePointer) -> Bool
  private let free = Mutex<[Context]>([])

  /// Sendable: see above.
  private struct Context: @unchecked Sendable {
    let pointer: OpaquePointer
  }

  /// - Parameters:
  ///   - key: an EVP_PKEY; a reference to it is kept.
  ///   - setUp: prepares a new context for the operation.
  init(_ key: OpaquePointer, setUp: @escaping @Sendable (OpaquePointer) -> Bool) {
    EVP_PKEY_up_ref(key)
    self.key = key
    self.setUp = setUp
  }

  deinit {
    for context in free.withLock({ $0 }) { EVP_PKEY_CTX_free(context.pointer) }
    EVP_PKEY_free(key)
  }

  /// A context that is ready, to be given back; nil when libcrypto is out of memory.
  func take() -> OpaquePointer? {
    if let context = free.withLock({ $0.popLast() }) { return context.pointer }
    guard let context = EVP_PKEY_CTX_new(key, nil) else { return nil }
    if setUp(context) { return context }
    EVP_PKEY_CTX_free(context)
    return nil
  }

  func put(_ pointer: OpaquePointer) {
    let context = Context(pointer: pointer)
    let isKept = free.withLock { free in
      guard free.count < Self.kept else { return false }
      free.append(context)
      return true
    }
    if !isKept { EVP_PKEY_CTX_free(pointer) }
  }
}
