/// Members, subscripts and slices (language.md §3.8).
enum Members {
  /// The member of a value, or nil when there is none.
  static func get(_ value: VQLValue, _ name: String, _ scope: Scope) -> VQLValue? {
    switch value {
    case .dict(let dict): return dict[name] ?? reserved(dict, name) ?? dict.defaultValue
    case .array(let elements): return member(of: elements, name, scope)
    case .query(let query):
      guard scope.context.enter() else { return .null }
      defer { scope.context.leave() }
      return .array(query.collect(scope).map { get($0, name, scope)?.resolved ?? .null })
    case .time(let time): return time.member(name)
    case .path(let path): return path.member(name)
    case .object(let object): return object.member(name, in: scope)
    case .lazy(let thunk): return get(thunk.value, name, scope)
    default: return nil
    }
  }

  private static func reserved(_ dict: VQLDict, _ name: String) -> VQLValue? {
    guard name.hasPrefix("@") else { return nil }
    switch name {
    case "@Keys": return .array(dict.keys.map { .string($0) })
    case "@Values": return .array(dict.values.map(\.resolved))
    case "@Items": return .array(dict.keys.map { .dict([("_key", .string($0)), ("_value", dict[$0] ?? .null)]) })
    case "@Len": return .int(Int64(dict.count))
    case "@String": return .bytes(VQLValue.dict(dict).text)
    default: return nil
    }
  }

  private static func member(of elements: [VQLValue], _ name: String, _ scope: Scope) -> VQLValue? {
    if let place = Int64(name) { return index(.array(elements), .int(place), scope) }
    let found = elements.compactMap { get($0.resolved, name, scope) }
    return found.isEmpty ? nil : .array(found)
  }

  static func index(_ value: VQLValue, _ index: VQLValue, _ scope: Scope) -> VQLValue {
    switch value {
    case .array(let elements):
      guard let place = number(index), !elements.isEmpty else { return .null }
      return elements[wrap(place, elements.count)].resolved
    case .query(let query):
      guard let place = number(index) else { return .null }
      if let rows = query.rows { return rows.isEmpty ? .null : rows[wrap(place, rows.count)] }
      guard place >= 0 else { return .null }
      var left = place
      var found = VQLValue.null
      query.run(scope) { row in
        if left == 0 { found = row }
        left -= 1
        return left >= 0
      }
      return found
    case .bytes(let bytes):
      guard let place = number(index) else { return .null }
      let at = place < 0 ? place &+ Int64(bytes.count) : place
      return at >= 0 && at < Int64(bytes.count) ? .int(Int64(bytes[Int(at)])) : .null
    case .dict(let dict):
      guard let name = index.string else { return .null }
      return get(.dict(dict), name, scope) ?? .null
    case .path(let path):
      guard let place = number(index) else { return .null }
      let at = place < 0 ? place &+ Int64(path.components.count) : place
      return at >= 0 && at < Int64(path.components.count) ? .bytes(path.components[Int(at)]) : .null
    case .object(let object):
      guard let name = index.string else { return .null }
      return object.member(name, in: scope) ?? .null
    default: return .null
    }
  }

  /// An index wraps around modulo the length.
  private static func wrap(_ place: Int64, _ count: Int) -> Int {
    let rest = place % Int64(count)
    return Int(rest < 0 ? rest + Int64(count) : rest)
  }

  private static func number(_ value: VQLValue) -> Int64? {
    switch value {
    case .bool(let bool): bool ? 1 : 0
    case .double(let double): VQLValue.truncate(double)
    case .bytes(let bytes): NumberText.parseInteger(bytes)
    default: value.integer
    }
  }

  static func slice(_ value: VQLValue, _ low: VQLValue?, _ high: VQLValue?, _ scope: Scope) -> VQLValue {
    if low?.isNull == true || high?.isNull == true { return .null }
    func range(_ count: Int) -> Range<Int>? {
      func bound(_ value: VQLValue?, _ otherwise: Int) -> Int? {
        guard let value else { return otherwise }
        guard let place = number(value) else { return nil }
        return Int(max(0, min(Int64(count), place < 0 ? place &+ Int64(count) : place)))
      }
      guard let from = bound(low, 0), let to = bound(high, count) else { return nil }
      return from..<max(from, to)
    }
    switch value {
    case .array(let elements): return range(elements.count).map { .array(Array(elements[$0])) } ?? .null
    case .bytes(let bytes): return range(bytes.count).map { .bytes(Array(bytes[$0])) } ?? .null
    case .path(let path):
      return range(path.components.count).map { .path(path.with(Array(path.components[$0]))) } ?? .null
    case .query(let query):
      guard let rows = query.rows else { return .null }
      return range(rows.count).map { .array(Array(rows[$0])) } ?? .null
    default: return .null
    }
  }
}
