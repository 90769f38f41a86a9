/// A dictionary of bounded size that forgets the entry used longest ago. All operations take constant time.
struct LeastRecentlyUsed<Key: Hashable & Sendable, Value: Sendable>: Sendable {
  private struct Node: Sendable {
    var key: Key
    var value: Value
    var newer: Int?
    var older: Int?
  }

  let capacity: Int
  private var nodes: [Node?] = []
  private var free: [Int] = []
  private var index: [Key: Int] = [:]
  private var newest: Int?
  private var oldest: Int?

  /// - Parameter capacity: at least 1.
  init(capacity: Int) {
    self.capacity = max(1, capacity)
  }

  var count: Int { index.count }

  /// The value, which becomes the most recently used.
  mutating func use(_ key: Key) -> Value? {
    guard let position = index[key], let node = nodes[position] else { return nil }
    unlink(position)
    link(position)
    return node.value
  }

  /// The value, without counting as a use.
  func peek(_ key: Key) -> Value? {
    index[key].flatMap { nodes[$0]?.value }
  }

  /// Stores a value as the most recently used.
  /// - Returns: the entry that had to leave, if one had to.
  mutating func store(_ value: Value, for key: Key) -> (key: Key, value: Value)? {
    if let position = index[key] {
      nodes[position]?.value = value
      unlink(position)
      link(position)
      return nil
    }
    var evicted: (Key, Value)?
    if count >= capacity, let position = oldest, let node = nodes[position] {
      evicted = (node.key, node.value)
      _ = remove(node.key)
    }
    let node = Node(key: key, value: value)
    let position: Int
    if let reused = free.popLast() {
      position = reused
      nodes[position] = node
    } else {
      position = nodes.count
      nodes.append(node)
    }
    index[key] = position
    link(position)
    return evicted
  }

  mutating func remove(_ key: Key) -> Value? {
    guard let position = index.removeValue(forKey: key), let node = nodes[position] else { return nil }
    unlink(position)
    nodes[position] = nil
    free.append(position)
    return node.value
  }

  /// The entry used longest ago.
  var leastRecent: (key: Key, value: Value)? {
    oldest.flatMap { nodes[$0] }.map { ($0.key, $0.value) }
  }

  /// All entries, the one used longest ago first.
  var oldestFirst: [(key: Key, value: Value)] {
    var result: [(Key, Value)] = []
    result.reserveCapacity(count)
    var position = oldest
    while let current = position, let node = nodes[current] {
      result.append((node.key, node.value))
      position = node.newer
    }
    return result
  }

  private mutating func link(_ position: Int) {
    nodes[position]?.newer = nil
    nodes[position]?.older = newest
    if let newest { nodes[newest]?.newer = position }
    newest = position
    if oldest == nil { oldest = position }
  }

  private mutating func unlink(_ position: Int) {
    guard let node = nodes[position] else { return }
    if let newer = node.newer { nodes[newer]?.older = node.older } else { newest = node.older }
    if let older = node.older { nodes[older]?.newer = node.newer } else { oldest = node.newer }
  }
}
