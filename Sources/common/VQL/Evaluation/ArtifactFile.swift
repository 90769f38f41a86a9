extension VQLArtifact {
  /// Reads a definition in Velociraptor's artifact format (flows.md §6). Keys that no query needs are ignored.
  ///
  /// - Throws: `VQLError` when the text is no YAML mapping or has no `name`.
  package init(yaml text: String) throws {
    guard case .dict(let dict) = try YAMLReader.value(Array(text.utf8)), !Members(dict).text("name").isEmpty else {
      throw VQLError(code: .runtime, message: "an artifact definition has no name")
    }
    let file = Members(dict)
    self.init(
      name: file.text("name"), type: file.text("type"), precondition: file.text("precondition"), export: file.text("export"),
      imports: file.texts("imports"),
      parameters: file.members("parameters").map {
        Parameter(
          name: $0.text("name"), type: $0.text("type"), defaultValue: $0.text("default"),
          description: $0.text("description"), choices: $0.texts("choices"))
      },
      sources: file.members("sources").map { source in
        let queries = source.texts("queries")
        return Source(
          name: source.text("name"), precondition: source.text("precondition"),
          queries: queries.isEmpty ? [source.text("query")] : queries)
      })
    description = file.text("description")
    if let limits = file.member("resources") { resources = Resources(limits) }
  }

  /// A mapping of the file; what has another type than asked for is absent.
  fileprivate struct Members {
    private let dict: VQLDict

    init(_ dict: VQLDict) { self.dict = dict }

    /// Numbers and booleans as they would be written.
    func text(_ key: String) -> String { Self.text(dict[key]) }

    private static func text(_ value: VQLValue?) -> String {
      value.map { $0.isNull ? "" : String(decoding: $0.text, as: UTF8.self) } ?? ""
    }

    func texts(_ key: String) -> [String] {
      guard case .array(let values)? = dict[key] else { return [] }
      return values.map { Self.text($0) }
    }

    func member(_ key: String) -> Members? {
      guard case .dict(let dict)? = dict[key] else { return nil }
      return Members(dict)
    }

    func members(_ key: String) -> [Members] {
      guard case .array(let elements)? = dict[key] else { return [] }
      return elements.compactMap { if case .dict(let dict) = $0 { Members(dict) } else { nil } }
    }
  }
}

extension VQLArtifact.Resources {
  fileprivate init(_ limits: VQLArtifact.Members) {
    func whole(_ key: String) -> UInt64 { UInt64(limits.text(key)) ?? 0 }
    func share(_ key: String) -> Float { Float(limits.text(key)).flatMap { $0 > 0 ? $0 : nil } ?? 0 }
    self.init()
    timeout = whole("timeout")
    operationsPerSecond = share("ops_per_second")
    cpuLimit = share("cpu_limit")
    iopsLimit = share("iops_limit")
    maxRows = whole("max_rows")
    maxUploadBytes = whole("max_upload_bytes")
    maxBatchWait = whole("max_batch_wait")
    maxBatchRows = whole("max_batch_rows")
    maxBatchRowsBuffer = whole("max_batch_rows_buffer")
  }
}
