import CYAML

/// How a scalar is written.
package enum YAMLScalarStyle: Sendable {
  /// Plain where the text allows it.
  case plain
  case doubleQuoted
  /// A literal block, for texts of several lines.
  case literal
}

/// A tree to be written as YAML.
package indirect enum YAMLOutput: Sendable {
  case scalar(String, YAMLScalarStyle)
  case sequence([YAMLOutput])
  case mapping([(key: YAMLOutput, value: YAMLOutput)])

  /// Block style, keys in the given order, lines never folded.
  ///
  /// - Throws: ``YAMLError`` when a text holds what YAML cannot carry.
  package func text() throws(YAMLError) -> String {
    let sink = ByteSink()
    var emitter = yaml_emitter_t()
    guard yaml_emitter_initialize(&emitter) == 1 else { throw YAMLError(.tooLarge) }
    defer { yaml_emitter_delete(&emitter) }
    yaml_emitter_set_output(
      &emitter,
      { context, bytes, count in
        guard let context, let bytes else { return 0 }
        Unmanaged<ByteSink>.fromOpaque(context).takeUnretainedValue()
          .bytes.append(contentsOf: UnsafeBufferPointer(start: bytes, count: count))
        return 1
      }, Unmanaged.passUnretained(sink).toOpaque())
    yaml_emitter_set_unicode(&emitter, 1)
    yaml_emitter_set_width(&emitter, -1)
    let result = withExtendedLifetime(sink) { Self.write(self, to: &emitter) }
    if case .failure(let error) = result { throw error }
    return String(decoding: sink.bytes, as: UTF8.self)
  }

  private final class ByteSink {
    var bytes: [UInt8] = []
  }

  private static func write(_ root: YAMLOutput, to emitter: inout yaml_emitter_t) -> Result<Void, YAMLError> {
    do {
      try emit(&emitter) { yaml_stream_start_event_initialize(&$0, YAML_UTF8_ENCODING) }
      try emit(&emitter) { yaml_document_start_event_initialize(&$0, nil, nil, nil, 1) }
      try root.write(to: &emitter)
      try emit(&emitter) { yaml_document_end_event_initialize(&$0, 1) }
      try emit(&emitter) { yaml_stream_end_event_initialize(&$0) }
      return .success(())
    } catch {
      return .failure(error)
    }
  }

  /// The emitter takes the event and frees it, also when it fails.
  private static func emit(
    _ emitter: inout yaml_emitter_t, _ make: (inout yaml_event_t) -> Int32
  ) throws(YAMLError) {
    var event = yaml_event_t()
    guard make(&event) == 1 else { throw YAMLError(.unwritable("a text that is not UTF-8")) }
    guard yaml_emitter_emit(&emitter, &event) == 1 else {
      throw YAMLError(.unwritable(emitter.problem.map { String(cString: $0) } ?? "it cannot be written"))
    }
  }

  private func write(to emitter: inout yaml_emitter_t) throws(YAMLError) {
    switch self {
    case .scalar(let text, let style):
      var bytes = Array(text.utf8)
      let count = Int32(clamping: bytes.count)
      let chosen =
        switch style {
        case .plain: YAML_ANY_SCALAR_STYLE
        case .doubleQuoted: YAML_DOUBLE_QUOTED_SCALAR_STYLE
        case .literal: YAML_LITERAL_SCALAR_STYLE
        }
      // An empty array has no address, and libyaml wants one.
      if bytes.isEmpty { bytes.append(0) }
      try Self.emit(&emitter) { yaml_scalar_event_initialize(&$0, nil, nil, bytes, count, 1, 1, chosen) }
    case .sequence(let items):
      let style = items.isEmpty ? YAML_FLOW_SEQUENCE_STYLE : YAML_BLOCK_SEQUENCE_STYLE
      try Self.emit(&emitter) { yaml_sequence_start_event_initialize(&$0, nil, nil, 1, style) }
      for item in items { try item.write(to: &emitter) }
      try Self.emit(&emitter) { yaml_sequence_end_event_initialize(&$0) }
    case .mapping(let pairs):
      let style = pairs.isEmpty ? YAML_FLOW_MAPPING_STYLE : YAML_BLOCK_MAPPING_STYLE
      try Self.emit(&emitter) { yaml_mapping_start_event_initialize(&$0, nil, nil, 1, style) }
      for pair in pairs {
        try pair.key.write(to: &emitter)
        try pair.value.write(to: &emitter)
      }
      try Self.emit(&emitter) { yaml_mapping_end_event_initialize(&$0) }
    }
  }
}
