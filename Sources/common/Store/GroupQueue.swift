/// Writes that wait for the next commit of a group committer.
struct GroupQueue<Item> {
  private var items: [(item: Item, bytes: Int)] = []
  private var bytes = 0

  var count: Int { items.count }
  var isEmpty: Bool { items.isEmpty }

  /// Whether no more may wait.
  func isFull(_ options: StoreOptions) -> Bool {
    items.count >= options.maximumWaiting || bytes > options.maximumWaitingBytes
  }

  /// - Parameter bytes: the size of what is written, for the limits.
  mutating func append(_ item: Item, bytes: Int) {
    items.append((item, bytes))
    self.bytes += bytes
  }

  /// Makes these the oldest again, for those whose commit is to be tried once more.
  mutating func putBack(_ returned: [Item], bytes size: (Item) -> Int) {
    items.insert(contentsOf: returned.map { ($0, size($0)) }, at: 0)
    bytes += returned.reduce(0) { $0 + size($1) }
  }

  /// The oldest that fit into one commit; at least one, however large.
  mutating func takeGroup(_ options: StoreOptions) -> [Item] {
    var count = 0
    var taken = 0
    for entry in items.prefix(options.maximumGroup) {
      if count > 0, taken + entry.bytes > options.maximumGroupBytes { break }
      count += 1
      taken += entry.bytes
    }
    defer {
      items.removeFirst(count)
      bytes -= taken
    }
    return items.prefix(count).map(\.item)
  }
}
