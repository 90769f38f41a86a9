import FoundationEssentials
import Glibc
import Logging
import PKI
import Synchronization
import Wire

/// The agent's persistent state in two files (client.md §2.1). Both are written atomically with mode 0600; one that is
/// lost or damaged is rebuilt from the other; a new identity is made only when both are gone.
package final class Writeback: Sendable {
  private let path: String
  /// Equal to `path` when the suffix is empty: then one file has all fields.
  private let secondPath: String
  private let state: Mutex<WritebackState>
  package let privateKey: RSAPrivateKey
  /// Whether this start made the identity.
  package let isNew: Bool

  package var clientID: String { privateKey.publicKey.clientID.rawValue }
  package var current: WritebackState { state.withLock { $0 } }

  private init(path: String, secondPath: String, state: WritebackState, privateKey: RSAPrivateKey, isNew: Bool) {
    self.path = path
    self.secondPath = secondPath
    self.state = Mutex(state)
    self.privateKey = privateKey
    self.isNew = isNew
  }

  private enum Level {
    case missing
    case damaged(String)
    case good(WritebackState, RSAPrivateKey)
  }

  /// Loads the state, or makes a new identity.
  ///
  /// - Throws: when a file exists but may not be read, or the state cannot be written: a changed identity must never
  ///   come from a wrong permission.
  package static func open(path: String, suffix: String, log: Logger) throws(AgentError) -> Writeback {
    guard !path.isEmpty else {
      throw AgentError(.configuration, "no state file: set Client.writeback_linux or use --writeback FILE")
    }
    let second = path + suffix
    let first = try load(path)
    let backup = suffix.isEmpty ? first : try load(second)
    let writeback: Writeback
    switch (first, backup) {
    case (.good(let identity, let key), .good(let rest, _)):
      writeback = Writeback(
        path: path, secondPath: second, state: rest.with(identityOf: identity), privateKey: key, isNew: false)
    case (.good(let identity, let key), let bad):
      note(bad, second, rebuiltFrom: path, log)
      writeback = Writeback(path: path, secondPath: second, state: identity, privateKey: key, isNew: false)
    case (let bad, .good(let rest, let key)):
      note(bad, path, rebuiltFrom: second, log)
      writeback = Writeback(path: path, secondPath: second, state: rest, privateKey: key, isNew: false)
    case (.missing, .missing):
      writeback = try create(path, second, log, why: "there is no state file \(path)")
    default:
      setAside(path, log)
      if second != path { setAside(second, log) }
      writeback = try create(path, second, log, why: "the state in \(path) is damaged and there is no good copy")
    }
    try writeback.update { $0.clientID = writeback.clientID }
    return writeback
  }

  private static func load(_ path: String) throws(AgentError) -> Level {
    guard let bytes = try AtomicFile.read(path) else { return .missing }
    do throws(AgentError) {
      let state = try WritebackState(yaml: String(decoding: bytes, as: UTF8.self))
      do {
        return .good(state, try RSAPrivateKey(pem: state.privateKey))
      } catch {
        return .damaged("its private_key cannot be read")
      }
    } catch {
      return .damaged(error.message)
    }
  }

  private static func note(_ level: Level, _ path: String, rebuiltFrom other: String, _ log: Logger) {
    switch level {
    case .damaged(let reason): log.warning("State file \(path) is damaged (\(reason)): rebuilding it from \(other)")
    default: log.warning("State file \(path) is lost: rebuilding it from \(other)")
    }
  }

  private static func setAside(_ path: String, _ log: Logger) {
    guard access(path, F_OK) == 0, rename(path, path + ".damaged") == 0 else { return }
    log.error("State file \(path) is damaged; it was kept as \(path).damaged")
  }

  private static func create(
    _ path: String, _ second: String, _ log: Logger, why: String
  ) throws(AgentError) -> Writeback {
    let key: RSAPrivateKey
    do {
      key = try RSAPrivateKey.generate(bits: 2048)
    } catch {
      throw AgentError(.state, "cannot make a key: \(error)")
    }
    var state = WritebackState()
    state.installTime = UInt64(max(0, time(nil)))
    state.privateKey = key.pkcs1PEM
    let id = key.publicKey.clientID.rawValue
    log.warning("NEW IDENTITY \(id): \(why). The server will see this host as a new client")
    return Writeback(path: path, secondPath: second, state: state, privateKey: key, isNew: true)
  }

  /// Changes the state and writes what changed.
  package func update(_ change: (inout WritebackState) -> Void) throws(AgentError) {
    let result: Result<Void, AgentError> = state.withLock { state in
      var new = state
      change(&new)
      do throws(AgentError) {
        try write(new)
        state = new
        return .success(())
      } catch {
        return .failure(error)
      }
    }
    try result.get()
  }

  private func write(_ new: WritebackState) throws(AgentError) {
    let full = Array(new.yaml(identityOnly: false).utf8)
    if secondPath != path {
      let identity = Array(new.yaml(identityOnly: true).utf8)
      if try AtomicFile.read(path) != identity { try AtomicFile.write(identity, to: path) }
    }
    if try AtomicFile.read(secondPath) != full { try AtomicFile.write(full, to: secondPath) }
  }

  package func remember(serverPEM: String) throws(AgentError) {
    try update { $0.lastServerPEM = serverPEM }
  }

  package func remember(eventTable: Proto_VQLEventTable) throws(AgentError) {
    try update { $0.eventTable = eventTable }
  }
}
