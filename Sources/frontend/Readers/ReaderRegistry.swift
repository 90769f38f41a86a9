import PublicIdentity
import Synchronization

/// The readers that wait at this process, one for each client (http.md §5 step 6).
final class ReaderRegistry: Sendable {
  private let readers = Mutex<[ClientName: WaitingReader]>([:])

  /// - Returns: false when another reader of this client waits.
  func register(_ reader: WaitingReader) -> Bool {
    readers.withLock { readers in
      guard readers[reader.client] == nil else { return false }
      readers[reader.client] = reader
      return true
    }
  }

  func remove(_ reader: WaitingReader) {
    readers.withLock { readers in
      if readers[reader.client] === reader { readers[reader.client] = nil }
    }
  }

  /// Tells the client's reader that a task may be there.
  func signal(_ client: ClientName) {
    readers.withLock { $0[client] }?.signal()
  }

  /// Ends the client's reader.
  func end(_ client: ClientName) {
    readers.withLock { $0[client] }?.end()
  }

  /// Ends all of them, as their deadlines would.
  func endAll() {
    for reader in readers.withLock({ Array($0.values) }) { reader.end() }
  }

  var count: Int { readers.withLock { $0.count } }
}
