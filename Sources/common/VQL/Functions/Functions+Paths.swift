extension Functions {
  static let paths: [FunctionSpec] = [
    FunctionSpec(
      "path_join", "components*: any[], sep: string, path_type: string", "Joins components to a path.",
      failsAsNull: false
    ) { call in
      let style = VQLPath.Style(name: call.string("path_type") ?? [])
      var parts: [[UInt8]] = []
      var delegate: VQLPath.Delegate?
      for value in Printf.operands(call.materialized("components") ?? .null) {
        if case .path(let path) = value {
          parts += path.components
          delegate = delegate ?? path.delegate
        } else if !value.isNull {
          parts += VQLPath.split(value.text, style: style)
        }
      }
      return .path(VQLPath(components: parts, style: style, delegate: delegate))
    },
    FunctionSpec("path_split", "path*: any, path_type: string", "The components of a path.") { call in
      .array(try path(call, "path").components.map { .bytes($0) })
    },
    FunctionSpec(
      "basename", "path*: any, sep: string, path_type: string", "The last component of a path.", failsAsNull: false
    ) { call in .bytes(try path(call, "path").basename) },
    FunctionSpec(
      "dirname", "path*: any, sep: string, path_type: string", "The path without its last component.",
      failsAsNull: false
    ) { call in
      let whole = try path(call, "path")
      if whole.components.isEmpty { return .bytes([]) }
      return .path(whole.dirname)
    },
    FunctionSpec("relpath", "path*: string, base*: string, sep: string", "A path relative to another.") { call in
      let separator = call.string("sep").flatMap { $0.isEmpty ? nil : $0 } ?? [UInt8(ascii: "/")]
      let target = VQLPath.split(try call.required("path"), style: .generic)
      let base = VQLPath.split(try call.required("base"), style: .generic)
      let common = zip(target, base).prefix { $0 == $1 }.count
      let up = [[UInt8]](repeating: Array("..".utf8), count: base.count - common)
      let parts = up + target.dropFirst(common)
      return .bytes(parts.isEmpty ? [UInt8(ascii: ".")] : Array(parts.joined(separator: separator)))
    },
    FunctionSpec(
      "pathspec",
      "DelegateAccessor: string, DelegatePath: string, Delegate: lazy, Path: any, parse: string, path_type: string, "
        + "accessor: string", "Builds a path, also within another file."
    ) { call in
      let style = VQLPath.Style(name: call.string("path_type") ?? Array("linux".utf8))
      if let text = call.string("parse"), !text.isEmpty {
        if text.first == UInt8(ascii: "{"), case .dict(let dict)? = JSONReader.value(text) {
          return .path(Accessors.specification(dict, style: style))
        }
        return .path(VQLPath(text, style: style))
      }
      let dict = VQLDict()
      if let accessor = call.value("DelegateAccessor") { dict.set("DelegateAccessor", accessor) }
      switch call.value("DelegatePath") {
      case .path(let path)? where path.delegate != nil: dict.set("Delegate", .path(path))
      case .some(let value): dict.set("DelegatePath", .bytes(Call.string(value)))
      case nil: break
      }
      if let delegate = call.value("Delegate"), !delegate.isNull { dict.set("Delegate", delegate) }
      if let inner = call.value("Path") { dict.set("Path", inner) }
      return .path(Accessors.specification(dict, style: style))
    },
  ]

  private static func path(_ call: Call, _ name: String) throws -> VQLPath {
    let kind = call.string("path_type") ?? []
    switch call.value(name) ?? .null {
    case .path(let path): return path
    case .array(let parts):
      return VQLPath(components: parts.map(\.text), style: VQLPath.Style(name: kind))
    case let value: return VQLPath(Call.string(value), style: VQLPath.Style(name: kind))
    }
  }
}
