import Configuration
import Envelope
import Foundation
import Logging

#if canImport(Glibc)
  import Glibc
#endif

/// The file in which a stopping worker leaves its sessions. Anything wrong with it costs RSA, nothing else.
struct SnapshotFile {
  let path: String?
  let logger: Logger

  /// Larger than any honest snapshot: a million sessions.
  private static let sizeLimit = 2 << 30

  /// Reads the file into the service's cache, and removes it: it must not come back after a later crash.
  func restore(into service: CryptoService) {
    guard let path, FileManager.default.fileExists(atPath: path) else { return }
    defer { try? FileManager.default.removeItem(atPath: path) }
    let size = (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int) ?? 0
    guard size <= Self.sizeLimit, let data = FileManager.default.contents(atPath: path) else {
      return logger.warning(
        "the session snapshot cannot be read; sessions will be opened anew", metadata: ["file": "\(path)"])
    }
    do throws(SessionSnapshot.Failure) {
      let count = try service.restore([UInt8](data))
      logger.info("sessions restored", metadata: ["clients": "\(count)"])
    } catch {
      logger.warning(
        "the session snapshot is not used: \(error); sessions will be opened anew", metadata: ["file": "\(path)"])
    }
  }

  /// Writes the service's sessions with mode 0600, in one step.
  func save(_ service: CryptoService) {
    guard let path else { return }
    let sealed: [UInt8]
    do throws(SessionSnapshot.Failure) {
      sealed = try service.snapshot()
    } catch {
      return logger.warning("the sessions could not be sealed: \(error)")
    }
    let temporary = path + ".new"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { return complain(path) }
    let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    do {
      try handle.write(contentsOf: Data(sealed))
      try handle.synchronize()
      try handle.close()
    } catch {
      unlink(temporary)
      return complain(path)
    }
    guard rename(temporary, path) == 0 else { return complain(path) }
    logger.info("sessions saved", metadata: ["clients": "\(service.health().sessions)"])
  }

  private func complain(_ path: String) {
    logger.warning(
      "the session snapshot cannot be written: \(String(cString: strerror(errno)))", metadata: ["file": "\(path)"])
  }
}

/// Keeps keys out of swap where the system permits.
enum MemoryLock {
  static func lock(_ logger: Logger) {
    var limit = rlimit()
    // RLIMIT_MEMLOCK, a macro that is not imported.
    guard getrlimit(__rlimit_resource_t(8), &limit) == 0 else { return }
    // With a small limit later allocations would fail, which is worse than a page that might be swapped.
    guard geteuid() == 0 || limit.rlim_cur == rlim_t.max else {
      return logger.debug(
        "memory is not locked: raise the memlock limit (LimitMEMLOCK=infinity) to keep keys out of swap")
    }
    let onFault: Int32 = 4
    if mlockall(MCL_CURRENT | MCL_FUTURE | onFault) != 0 {
      logger.debug("memory is not locked: \(String(cString: strerror(errno)))")
    }
  }
}
