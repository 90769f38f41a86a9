extension Plugins {
  static let collections: [PluginSpec] = [
    PluginSpec("items", "item: any", "A dict's members, or elements with their index, as rows.") { call, emit in
      let shape = Shape(["_key", "_value"])
      func row(_ key: VQLValue, _ value: VQLValue) -> VQLValue { .dict(VQLDict(shape: shape, values: [key, value])) }
      switch call.value("item") ?? .null {
      case .null: return
      case .dict(let dict):
        for name in dict.keys where !emit(row(.string(name), dict[name] ?? .null)) { return }
      case let other:
        var place: Int64 = 0
        let body: RowSink = { element in
          defer { place += 1 }
          return emit(row(.int(place), element.resolved))
        }
        SourceRunner.rows(of: other, call.scope, body)
      }
    },
    PluginSpec("flatten", "query*: query", "One row per combination of array elements.") { call, emit in
      call.query("query")?.run(call.scope) { row in
        guard case .dict(let dict) = row else { return emit(row) }
        return flatten(dict, call.scope, emit)
      }
    },
    PluginSpec(
      "column_filter", "query*: query, exclude: string[], include: string[]", "Keeps columns by pattern."
    ) { call, emit in
      let include = try call.strings("include").map { try Regex.cached($0, call) }
      let exclude = try call.strings("exclude").map { try Regex.cached($0, call) }
      call.query("query")?.run(call.scope) { row in
        guard case .dict(let dict) = row else { return emit(row) }
        return emit(
          .dict(
            dict.filtered { name in
              let bytes = Array(name.utf8)
              let kept = include.isEmpty || include.contains { $0.matches(bytes) }
              return kept && !exclude.contains { $0.matches(bytes) }
            }))
      }
    },
    PluginSpec("parse_json_array", "data*: string, schema: string[]", "The elements of a JSON array.") { call, emit in
      let elements = try JSONReader.array(try call.required("data"))
      try call.validate(.array(elements))
      for element in elements where !emit(element) { return }
    },
  ]

  /// The first column varies fastest.
  private static func flatten(_ dict: VQLDict, _ scope: Scope, _ emit: RowSink) -> Bool {
    let names = dict.keys
    let columns: [[VQLValue]] = names.map { name in
      switch dict[name] ?? .null {
      case .array(let elements): elements.isEmpty ? [.array([])] : elements.map(\.resolved)
      case .query(let query): query.collect(scope)
      case let other: [other]
      }
    }
    if columns.contains(where: \.isEmpty) { return true }
    var places = [Int](repeating: 0, count: names.count)
    while true {
      let row = VQLDict()
      for (place, name) in names.enumerated() { row.set(name, columns[place][places[place]]) }
      guard emit(.dict(row)), !scope.context.isStopped else { return false }
      var column = 0
      while column < places.count {
        places[column] += 1
        if places[column] < columns[column].count { break }
        places[column] = 0
        column += 1
      }
      if column == places.count { return true }
    }
  }
}
