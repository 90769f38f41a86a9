/// How many exchanges a connection may run at once, and when it may be closed. A value without I/O.
struct ConnectionPlaces: Equatable {
  private(set) var capacity: Int
  private(set) var used: Int
  /// No exchange begins on it any more.
  private(set) var isRetired = false

  /// - Parameter used: a connection is made for an exchange, which has its place from the beginning.
  init(capacity: Int, used: Int = 1) {
    self.capacity = capacity
    self.used = used
  }

  var isIdle: Bool { used == 0 }

  /// Takes a place for one exchange.
  mutating func reserve() -> Bool {
    guard !isRetired, used < capacity else { return false }
    used += 1
    return true
  }

  /// An exchange is over.
  ///
  /// - Returns: whether the connection is to be closed.
  mutating func release() -> Bool {
    used = max(0, used - 1)
    return isRetired && used == 0
  }

  /// The peer is going away, or the connection is in doubt: what is under way may end.
  ///
  /// - Returns: whether the connection is to be closed.
  mutating func retire() -> Bool {
    isRetired = true
    return used == 0
  }

  /// What the peer allows (HTTP/2 `SETTINGS_MAX_CONCURRENT_STREAMS`); never more than at first.
  mutating func allow(atMost count: Int) {
    capacity = min(capacity, max(0, count))
  }
}
