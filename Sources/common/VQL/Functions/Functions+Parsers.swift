extension Functions {
  static let parsers: [FunctionSpec] = [
    FunctionSpec("parse_json", "data*: string, schema: string[]", "A JSON object as a dict.") { call in
      let data = try call.required("data")
      guard data.first == UInt8(ascii: "{"), case .dict(let dict)? = JSONReader.value(data) else {
        throw CallError("Invalid JSON object: \(String(decoding: data.prefix(100), as: UTF8.self))")
      }
      try call.validate(.dict(dict))
      return .dict(dict)
    },
    FunctionSpec("parse_json_array", "data*: string, schema: string[]", "A JSON array.") { call in
      let elements = VQLValue.array(try JSONReader.array(try call.required("data")))
      try call.validate(elements)
      return elements
    },
    FunctionSpec("parse_yaml", "filename*: path, accessor: string, schema: string[]", "A YAML document.") { call in
      let value = try YAMLReader.value(try whole(call, "filename"))
      try call.validate(value)
      return value
    },
    FunctionSpec("parse_xml", "file*: path, accessor: string", "An XML document as dicts.") { call in
      try XMLReader.document(try whole(call, "file"))
    },
    FunctionSpec("plist", "file*: path, accessor: string", "A property list of macOS.") { call in
      try PropertyList.parse(try whole(call, "file"))
    },
    FunctionSpec(
      "parse_binary",
      "filename*: path, accessor: string, profile: string, struct*: string, offset: int, env: dict",
      "A binary structure by a profile."
    ) { call in
      let source = try Accessors.find(call.accessor).open(try call.path("filename"), call.scope)
      let name = String(decoding: try call.required("struct"), as: UTF8.self)
      let layer = try call.dict("env") ?? VQLDict()
      let profile = try BinaryProfile(call.string("profile") ?? [], call.scope.child(.row(layer)))
      return try profile.parse(name, BinaryData(source), at: try call.int("offset") ?? 0)
    },
  ]

  /// Documents above this are refused.
  private static let maximumDocument = 64 << 20

  private static func whole(_ call: Call, _ name: String) throws -> [UInt8] {
    let source = try Accessors.find(call.accessor).open(try call.path(name), call.scope)
    let data = try source.readAll(limit: maximumDocument + 1)
    guard data.count <= maximumDocument else { throw CallError("the file is too large") }
    return data
  }
}
