import CYAML

extension YAMLNode {
  /// Reads the first document of a text.
  ///
  /// - Parameters:
  ///   - text: UTF-8.
  ///   - uniqueKeys: whether a key that is there twice is an error, else the last one counts.
  /// - Throws: ``YAMLError`` with the line of the mistake.
  package static func parse(_ text: some Collection<UInt8>, uniqueKeys: Bool = true) throws(YAMLError) -> YAMLNode {
    var parser = try YAMLParser(Array(text), uniqueKeys: uniqueKeys)
    defer { parser.end() }
    return try parser.document()
  }

  /// Reads the first document of a text.
  package static func parse(_ text: String, uniqueKeys: Bool = true) throws(YAMLError) -> YAMLNode {
    try parse(text.utf8, uniqueKeys: uniqueKeys)
  }
}

/// Builds nodes from libyaml's events.
private struct YAMLParser {
  private static let maximumDepth = 100
  /// Nodes after aliases are replaced; without it a few lines could fill the memory.
  private static let maximumNodes = 1_000_000

  private enum Event {
    case scalar(String, isPlain: Bool)
    case sequenceStart
    case sequenceEnd
    case mappingStart
    case mappingEnd
    case alias
    case other
  }

  private struct Read {
    var event: Event
    var anchor: String?
    var line: Int
  }

  /// libyaml keeps a pointer to itself and to the text, so both must not move.
  private let parser: UnsafeMutablePointer<yaml_parser_t>
  private let text: UnsafeMutableBufferPointer<UInt8>
  private let uniqueKeys: Bool
  private var anchors: [String: (node: YAMLNode, size: Int)] = [:]
  private var nodes = 0

  init(_ bytes: [UInt8], uniqueKeys: Bool) throws(YAMLError) {
    self.uniqueKeys = uniqueKeys
    text = .allocate(capacity: bytes.count)
    _ = text.initialize(from: bytes)
    parser = .allocate(capacity: 1)
    parser.initialize(to: yaml_parser_t())
    guard yaml_parser_initialize(parser) == 1 else {
      parser.deallocate()
      text.deallocate()
      throw YAMLError(.tooLarge)
    }
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
    yaml_parser_set_input_string(parser, text.baseAddress, text.count)
  }

  func end() {
    yaml_parser_delete(parser)
    parser.deallocate()
    text.deallocate()
  }

  mutating func document() throws(YAMLError) -> YAMLNode {
    while true {
      let (read, kind) = try next()
      switch kind {
      case YAML_STREAM_END_EVENT, YAML_NO_EVENT: throw YAMLError(.empty)
      case YAML_STREAM_START_EVENT, YAML_DOCUMENT_START_EVENT: continue
      case YAML_DOCUMENT_END_EVENT: throw YAMLError(.empty)
      default:
        let root = try node(read, depth: 0)
        // Trailing content that does not parse is a mistake of this document.
        _ = try next()
        return root
      }
    }
  }

  private mutating func next() throws(YAMLError) -> (Read, yaml_event_type_t) {
    var event = yaml_event_t()
    guard yaml_parser_parse(parser, &event) == 1 else { throw failure() }
    defer { yaml_event_delete(&event) }
    var read = Read(event: .other, anchor: nil, line: event.start_mark.line + 1)
    switch event.type {
    case YAML_SCALAR_EVENT:
      let scalar = event.data.scalar
      let bytes = UnsafeBufferPointer(start: scalar.value, count: scalar.length)
      // A tag can declare a plain scalar to be text.
      let isText = Self.text(scalar.tag) == "tag:yaml.org,2002:str"
      let isPlain = scalar.style == YAML_PLAIN_SCALAR_STYLE && !isText
      read.event = .scalar(String(decoding: bytes, as: UTF8.self), isPlain: isPlain)
      read.anchor = Self.text(scalar.anchor)
    case YAML_SEQUENCE_START_EVENT:
      read.event = .sequenceStart
      read.anchor = Self.text(event.data.sequence_start.anchor)
    case YAML_MAPPING_START_EVENT:
      read.event = .mappingStart
      read.anchor = Self.text(event.data.mapping_start.anchor)
    case YAML_ALIAS_EVENT:
      read.event = .alias
      read.anchor = Self.text(event.data.alias.anchor)
    case YAML_SEQUENCE_END_EVENT: read.event = .sequenceEnd
    case YAML_MAPPING_END_EVENT: read.event = .mappingEnd
    default: break
    }
    return (read, event.type)
  }

  private static func text(_ name: UnsafeMutablePointer<yaml_char_t>?) -> String? {
    name.map { String(cString: $0) }
  }

  private func failure() -> YAMLError {
    let problem = parser.pointee.problem.map { String(cString: $0) } ?? "it cannot be parsed"
    guard parser.pointee.error != YAML_READER_ERROR else {
      return YAMLError(.syntax("unreadable characters: \(problem)"))
    }
    let mark = parser.pointee.problem_mark
    return YAMLError(.syntax(problem), line: mark.line + 1, column: mark.column + 1)
  }

  private mutating func node(_ read: Read, depth: Int) throws(YAMLError) -> YAMLNode {
    let before = nodes
    try count(1, read)
    guard depth < Self.maximumDepth else { throw YAMLError(.tooLarge, line: read.line) }
    let node: YAMLNode
    switch read.event {
    case .scalar(let text, let isPlain): node = YAMLNode(.scalar(text, isPlain: isPlain), line: read.line)
    case .sequenceStart: node = YAMLNode(.sequence(try items(depth)), line: read.line)
    case .mappingStart: node = YAMLNode(.mapping(try pairs(depth)), line: read.line)
    case .alias:
      guard let name = read.anchor, let known = anchors[name] else {
        throw YAMLError(.syntax("an alias without its anchor"), line: read.line)
      }
      try count(known.size, read)
      return YAMLNode(known.node.content, line: read.line)
    case .sequenceEnd, .mappingEnd, .other:
      throw YAMLError(.syntax("an unexpected end"), line: read.line)
    }
    if let name = read.anchor { anchors[name] = (node, nodes - before) }
    return node
  }

  private mutating func count(_ added: Int, _ read: Read) throws(YAMLError) {
    nodes += added
    guard nodes <= Self.maximumNodes else { throw YAMLError(.tooLarge, line: read.line) }
  }

  private mutating func items(_ depth: Int) throws(YAMLError) -> [YAMLNode] {
    var items: [YAMLNode] = []
    while true {
      let (read, kind) = try next()
      if kind == YAML_SEQUENCE_END_EVENT { return items }
      items.append(try node(read, depth: depth + 1))
    }
  }

  private mutating func pairs(_ depth: Int) throws(YAMLError) -> [YAMLPair] {
    var pairs: [YAMLPair] = []
    var places: [String: Int] = [:]
    while true {
      let (read, kind) = try next()
      if kind == YAML_MAPPING_END_EVENT { return pairs }
      let key = try node(read, depth: depth + 1)
      let value = try node(try next().0, depth: depth + 1)
      guard let name = key.scalar, let earlier = places[name] else {
        if let name = key.scalar { places[name] = pairs.count }
        pairs.append(YAMLPair(key: key, value: value))
        continue
      }
      guard !uniqueKeys else { throw YAMLError(.repeatedKey(name), line: key.line) }
      pairs[earlier].value = value
    }
  }
}
