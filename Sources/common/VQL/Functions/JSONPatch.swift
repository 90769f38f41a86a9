/// JSON patch (RFC 6902) and merge patch (RFC 7396).
enum JSONPatch {
  static func merge(_ target: VQLValue, _ patch: VQLValue, depth: Int) -> VQLValue {
    guard depth < 64, case .dict(let changes) = patch.resolved else { return patch }
    var result = VQLDict()
    if case .dict(let dict) = target.resolved { result = dict.copy() }
    var removed: Set<String> = []
    changes.eachMember { name, value in
      if value.isNull {
        removed.insert(name)
      } else {
        result.set(name, merge(result[name] ?? .null, value, depth: depth + 1))
      }
    }
    return .dict(removed.isEmpty ? result : result.filtered { !removed.contains($0) })
  }

  static func apply(_ target: VQLValue, _ operation: VQLValue) throws -> VQLValue {
    guard case .dict(let dict) = operation, let kind = dict["op"]?.string, let path = dict["path"]?.string else {
      throw CallError("invalid patch operation")
    }
    let steps = steps(path)
    switch kind {
    case "add": return try edit(target, steps[...], dict["value"] ?? .null, insert: true)
    case "replace":
      _ = try find(target, steps)
      return try edit(target, steps[...], dict["value"] ?? .null, insert: false)
    case "remove":
      _ = try find(target, steps)
      return try edit(target, steps[...], nil, insert: false)
    case "move", "copy":
      let source = Self.steps(dict["from"]?.string ?? "")
      let value = try find(target, source)
      let rest = kind == "copy" ? target : try edit(target, source[...], nil, insert: false)
      return try edit(rest, steps[...], value, insert: true)
    case "test":
      guard Operators.equal(try find(target, steps), dict["value"] ?? .null) else {
        throw CallError("testing path \(path) failed")
      }
      return target
    default: throw CallError("unsupported patch operation \(kind)")
    }
  }

  private static func steps(_ path: String) -> [String] {
    path.split(separator: "/", omittingEmptySubsequences: false).dropFirst().map {
      String($0.replacing("~1", with: "/").replacing("~0", with: "~"))
    }
  }

  private static func find(_ target: VQLValue, _ steps: [String]) throws -> VQLValue {
    var value = target.resolved
    for step in steps {
      switch value {
      case .dict(let dict) where dict.shape.find(step) != nil: value = dict[step] ?? .null
      case .array(let elements):
        guard let place = Int(step), elements.indices.contains(place) else {
          throw CallError("path \(step) does not exist")
        }
        value = elements[place].resolved
      default: throw CallError("path \(step) does not exist")
      }
    }
    return value
  }

  private static func edit(
    _ target: VQLValue, _ steps: ArraySlice<String>, _ value: VQLValue?, insert: Bool
  ) throws -> VQLValue {
    guard let step = steps.first else { return value ?? .null }
    let rest = steps.dropFirst()
    switch target.resolved {
    case .dict(let dict):
      if rest.isEmpty, value == nil { return .dict(dict.filtered { $0 != step }) }
      let copy = dict.copy()
      copy.set(step, try edit(dict[step] ?? .null, rest, value, insert: insert))
      return .dict(copy)
    case .array(var elements):
      let place = step == "-" ? elements.count : Int(step) ?? -1
      guard place >= 0, place < elements.count || (insert && rest.isEmpty && place == elements.count) else {
        throw CallError("path \(step) does not exist")
      }
      if rest.isEmpty {
        if let value {
          if insert { elements.insert(value, at: place) } else { elements[place] = value }
        } else {
          elements.remove(at: place)
        }
      } else {
        elements[place] = try edit(elements[place], rest, value, insert: insert)
      }
      return .array(elements)
    default: throw CallError("path \(step) does not exist")
    }
  }
}
