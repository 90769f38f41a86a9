/// Parts of a text template, after Go's `text/template`: `{{ .a.b }}`, pipelines, variables, `if`, `with` and `range`.
indirect enum TemplateNode {
  case text([UInt8])
  case print(TemplatePipeline)
  case assign(String, TemplatePipeline)
  case branch(isWith: Bool, TemplatePipeline, [TemplateNode], [TemplateNode])
  case range(names: [String], TemplatePipeline, [TemplateNode], [TemplateNode])
}

/// Commands joined by `|`: each gets the result of the one before as its last operand.
struct TemplatePipeline {
  var commands: [[TemplateOperand]]
}

indirect enum TemplateOperand {
  /// `.a.b`, or `$x.a.b` when a variable is named.
  case path(variable: String?, [String])
  case constant(VQLValue)
  case function(String)
  case group(TemplatePipeline, [String])
}

struct TemplateParser {
  private static let maximumDepth = 50

  private enum Piece {
    case text([UInt8])
    case action([String])
  }
  private var pieces: [Piece] = []
  private var place = 0

  static func parse(_ template: [UInt8]) throws -> [TemplateNode] {
    var parser = TemplateParser()
    try parser.cut(template)
    let (nodes, end) = try parser.block(depth: 0)
    if let end { throw CallError("template: unexpected {{\(end.joined(separator: " "))}}") }
    return nodes
  }

  // MARK: pieces

  private mutating func cut(_ template: [UInt8]) throws {
    var from = 0
    var trimsNext = false
    while let open = Bytes.find(Array("{{".utf8), in: template, from: from) {
      var text = Array(template[from..<open])
      if trimsNext { text = Array(text.drop(while: Bytes.isSpace)) }
      var inside = open + 2
      if inside + 1 < template.count, template[inside] == UInt8(ascii: "-"), Bytes.isSpace(template[inside + 1]) {
        inside += 2
        while let last = text.last, Bytes.isSpace(last) { text.removeLast() }
      }
      if !text.isEmpty { pieces.append(.text(text)) }
      let (words, end, trims) = try action(template, inside)
      if !words.isEmpty { pieces.append(.action(words)) }
      trimsNext = trims
      from = end
    }
    var rest = Array(template[from...])
    if trimsNext { rest = Array(rest.drop(while: Bytes.isSpace)) }
    if !rest.isEmpty { pieces.append(.text(rest)) }
  }

  /// The words of an action, the place behind it, and whether white space after it is dropped.
  private func action(_ text: [UInt8], _ start: Int) throws -> ([String], Int, Bool) {
    var words: [String] = []
    var at = start
    while at < text.count {
      let byte = text[at]
      if text[at...].starts(with: "}}".utf8) { return (words, at + 2, false) }
      if text[at...].starts(with: "/*".utf8) {
        guard let end = Bytes.find(Array("*/".utf8), in: text, from: at) else { break }
        at = end + 2
      } else if Bytes.isSpace(byte) {
        at += 1
        if text[at...].starts(with: "-}}".utf8) { return (words, at + 3, true) }
      } else if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "`") {
        var end = at + 1
        while end < text.count, text[end] != byte {
          end += byte == UInt8(ascii: "\"") && text[end] == UInt8(ascii: "\\") ? 2 : 1
        }
        guard end < text.count else { break }
        words.append(String(decoding: text[at...end], as: UTF8.self))
        at = end + 1
      } else if "()|,".utf8.contains(byte) {
        words.append(String(decoding: [byte], as: UTF8.self))
        at += 1
      } else {
        let end = text[at...].firstIndex { Bytes.isSpace($0) || "()|,}\"`".utf8.contains($0) } ?? text.count
        guard end > at else { throw CallError("template: unexpected \"}\" in an action") }
        words.append(String(decoding: text[at..<end], as: UTF8.self))
        at = end
      }
    }
    throw CallError("template: unclosed action")
  }

  // MARK: nodes

  /// Nodes up to `end` or `else`, whose words are given too.
  private mutating func block(depth: Int) throws -> ([TemplateNode], [String]?) {
    guard depth < Self.maximumDepth else { throw CallError("template: nested too deeply") }
    var nodes: [TemplateNode] = []
    while place < pieces.count {
      defer { place += 1 }
      switch pieces[place] {
      case .text(let text): nodes.append(.text(text))
      case .action(let words):
        switch words[0] {
        case "end", "else": return (nodes, words)
        case "if", "with", "range":
          place += 1
          nodes.append(try control(words, depth: depth))
          place -= 1
        default:
          if words.count > 2, words[0].hasPrefix("$"), words[1] == ":=" || words[1] == "=" {
            nodes.append(.assign(words[0], try Self.pipeline(words[2...], depth: 0)))
          } else {
            nodes.append(.print(try Self.pipeline(words[...], depth: 0)))
          }
        }
      }
    }
    return (nodes, nil)
  }

  private mutating func control(_ words: [String], depth: Int) throws -> TemplateNode {
    let (body, end) = try block(depth: depth + 1)
    guard let end else { throw CallError("template: unexpected EOF, {{\(words[0])}} has no {{end}}") }
    var otherwise: [TemplateNode] = []
    if end[0] == "else" {
      if end.count > 1 {
        otherwise = [try control(Array(end.dropFirst()), depth: depth + 1)]
      } else {
        let (rest, last) = try block(depth: depth + 1)
        guard last?.first == "end" else { throw CallError("template: unexpected EOF, {{else}} has no {{end}}") }
        otherwise = rest
      }
    }
    var rest = words.dropFirst()
    if words[0] == "range" {
      var names: [String] = []
      if let mark = rest.firstIndex(of: ":=") {
        names = rest[..<mark].filter { $0 != "," }
        rest = rest[(mark + 1)...]
      }
      return .range(names: names, try Self.pipeline(rest, depth: 0), body, otherwise)
    }
    return .branch(isWith: words[0] == "with", try Self.pipeline(rest, depth: 0), body, otherwise)
  }

  // MARK: pipelines

  private static func pipeline(_ words: ArraySlice<String>, depth: Int) throws -> TemplatePipeline {
    guard depth < maximumDepth else { throw CallError("template: nested too deeply") }
    var commands: [[TemplateOperand]] = []
    var command: [TemplateOperand] = []
    var at = words.startIndex
    while at < words.endIndex {
      let word = words[at]
      at += 1
      if word == "|" {
        commands.append(command)
        command = []
      } else if word == "(" {
        let start = at
        var open = 1
        while at < words.endIndex, open > 0 {
          open += words[at] == "(" ? 1 : words[at] == ")" ? -1 : 0
          at += 1
        }
        guard open == 0 else { throw CallError("template: unclosed left paren") }
        var members: [String] = []
        if at < words.endIndex, words[at].hasPrefix("."), words[at].utf8.count > 1 {
          members = words[at].split(separator: ".").map(String.init)
          at += 1
        }
        command.append(.group(try pipeline(words[start..<(at - (members.isEmpty ? 1 : 2))], depth: depth + 1), members))
      } else {
        command.append(try operand(word))
      }
    }
    commands.append(command)
    guard !commands.contains(where: \.isEmpty) else { throw CallError("template: missing value for command") }
    return TemplatePipeline(commands: commands)
  }

  private static func operand(_ word: String) throws -> TemplateOperand {
    if word.hasPrefix("\"") {
      return .constant(.bytes(Lexer.unescape(Array(word.utf8.dropFirst().dropLast()))))
    }
    if word.hasPrefix("`") { return .constant(.bytes(Array(word.utf8.dropFirst().dropLast()))) }
    if word.hasPrefix("$") {
      let parts = word.split(separator: ".", omittingEmptySubsequences: true).map(String.init)
      return .path(variable: parts[0], Array(parts.dropFirst()))
    }
    if word.hasPrefix(".") { return .path(variable: nil, word.split(separator: ".").map(String.init)) }
    switch word {
    case "true", "false": return .constant(.bool(word == "true"))
    case "nil": return .constant(.null)
    default: break
    }
    if let number = NumberText.parseInteger(word.utf8) { return .constant(.int(number)) }
    if let number = NumberText.parseFloat(word.utf8) { return .constant(.double(number)) }
    return .function(word)
  }
}
