extension ConfigValue {
  /// Sets or adds the value at a path of keys; nil removes it. Sections on the way are made; order is kept.
  package mutating func set(_ path: [String], _ value: ConfigValue?) {
    guard let key = path.first else {
      if let value { self = value }
      return
    }
    // There is nothing to remove where there is nothing.
    if value == nil, self[path: path] == nil { return }
    var entries: [ConfigEntry] = []
    if case .section(let current) = self { entries = current }
    let index = entries.firstIndex { $0.key == key }
    var inner = index.map { entries[$0].value }
    if path.count == 1 {
      inner = value
    } else if inner != nil || value != nil {
      var section = inner ?? .section([ConfigEntry]())
      section.set(Array(path.dropFirst()), value)
      inner = section
    }
    switch (index, inner) {
    case (let index?, let inner?): entries[index].value = inner
    case (let index?, nil): entries.remove(at: index)
    case (nil, let inner?): entries.append(ConfigEntry(key, inner))
    case (nil, nil): break
    }
    self = .section(entries)
  }

  /// The value at a path of keys.
  package subscript(path path: [String]) -> ConfigValue? {
    path.reduce(Optional(self)) { $0?[$1] }
  }
}
