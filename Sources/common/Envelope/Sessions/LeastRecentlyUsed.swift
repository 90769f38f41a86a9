/// A dictionary of bounded size that forgets the entry used longest ago. All operations take constant time.
struct LeastRecentlyUsed<Key: Hashable & Sendable, Value: Sendable>: Sendable {
  private struct Node: Sendable {
    var key: Key
    var value: Value
  }

  /// The neighbours of an entry in the order of use; -1 for none. Apart from the entries, so that a use moves numbers and
  /// touches no reference counts.
  private struct Links: Sendable {
    var newer: Int
    var older: Int
  }

  let capacity: Int
  private var nodes: [Node?] = []
  private var links: [Links] = []
  private var free: [Int] = []
  private var index: [Key: Int] = [:]
  private var newest = -1
  private var oldest = -1

  /// - Parameter capacity: at least 1.
  init(capacity: Int) {
    self.capacity = max(1, capacity)
  }

  var count: Int { index.count }

  /// The value, which becomes the most recently used.
  mutating func use(_ key: Key) -> Value? {
    guard let position = index[key] else { return nil }
    return use(at: position)?.value
  }

  /// The entry at a position, which becomes the most recently used.
  mutating func use(at position: Int) -> (key: Key, value: Value)? {
    guard nodes.indices.contains(position), let node = nodes[position] else { return nil }
    if position != newest {
      unlink(position)
      link(position)
    }
    return (node.key, node.value)
  }

  /// Where the entry is until it leaves.
  func position(_ key: Key) -> Int? { index[key] }

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
    if count >= capacity, let last = leastRecent {
      evicted = last
      _ = remove(last.key)
    }
    let node = Node(key: key, value: value)
    let position: Int
    if let reused = free.popLast() {
      position = reused
      nodes[position] = node
    } else {
      position = nodes.count
      nodes.append(node)
      links.append(Links(newer: -1, older: -1))
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
    oldest < 0 ? nil : nodes[oldest].map { ($0.key, $0.value) }
  }

  /// All entries, the one used longest ago first.
  var oldestFirst: [(key: Key, value: Value)] {
    var result: [(Key, Value)] = []
    result.reserveCapacity(count)
    var position = oldest
    while position >= 0, let node = nodes[position] {
      result.append((node.key, node.value))
      position = links[position].newer
    }
    return result
  }

  private mutating func link(_ position: Int) {
    links[position] = Links(newer: -1, older: newest)
    if newest >= 0 { links[newest].newer = position }
    newest = position
    if oldest < 0 { oldest = position }
  }

  private mutating func unlink(_ position: Int) {
    let link = links[position]
    if link.newer >= 0 { links[link.newer].older = link.older } else { newest = link.older }
    if link.older >= 0 { links[link.older].newer = link.newer } else { oldest = link.newer }
  }
}
