/// A parsed path (linux-endpoint.md §3.2): components, the syntax they are written in, and an optional outer file.
package final class VQLPath {
  enum Style: Sendable {
    case linux, generic, windows, zip, registry

    init(name: [UInt8]) {
      switch String(decoding: name, as: UTF8.self).lowercased() {
      case "windows", "ntfs": self = .windows
      case "registry": self = .registry
      case "linux": self = .linux
      case "zip": self = .zip
      default: self = .generic
      }
    }

    var separator: UInt8 { self == .windows || self == .registry ? UInt8(ascii: "\\") : UInt8(ascii: "/") }
  }

  /// The file that holds what the path names.
  struct Delegate {
    var accessor: String
    /// Path text, when the outer path is plain.
    var path: [UInt8]
    /// A nested specification, when there is one.
    var nested: VQLValue?
  }

  let components: [[UInt8]]
  let style: Style
  let delegate: Delegate?
  /// True when the text began with a separator; a relative one is only kept by the generic style.
  let literal: [UInt8]?

  init(components: [[UInt8]], style: Style, delegate: Delegate? = nil, literal: [UInt8]? = nil) {
    self.components = components
    self.style = style
    self.delegate = delegate
    self.literal = literal
  }

  convenience init(_ text: [UInt8], style: Style, delegate: Delegate? = nil) {
    self.init(components: Self.split(text, style: style), style: style, delegate: delegate)
  }

  /// Splits path text by the rules of a style.
  static func split(_ text: [UInt8], style: Style) -> [[UInt8]] {
    var parts: [[UInt8]] = []
    var current: [UInt8] = []
    var quoted = false
    let windows = style == .windows || style == .registry
    func flush() {
      let isParent = current == [0x2E, 0x2E] && style != .registry
      if !current.isEmpty && current != [0x2E] && !isParent { parts.append(current) }
      current = []
    }
    for byte in text {
      let separates =
        byte == UInt8(ascii: "/") && style != .registry || (byte == UInt8(ascii: "\\") && windows)
      if byte == UInt8(ascii: "\""), style != .linux, style != .zip, quoted || current.isEmpty {
        if quoted, !current.isEmpty { flush() }
        quoted.toggle()
      } else if separates && !quoted {
        flush()
      } else {
        current.append(byte)
      }
    }
    flush()
    return parts
  }

  /// The inner path as text.
  var innerText: [UInt8] {
    if let literal { return literal }
    var out: [UInt8] = []
    for (place, part) in components.enumerated() {
      if place > 0 || !(style == .windows || style == .registry) { out.append(style.separator) }
      if style != .linux, style != .zip, part.contains(style.separator) {
        out.append(UInt8(ascii: "\""))
        out.append(contentsOf: part)
        out.append(UInt8(ascii: "\""))
      } else {
        out.append(contentsOf: part)
      }
    }
    return out
  }

  /// The whole path as text: plain, or a JSON object when there is an outer file.
  var text: [UInt8] {
    guard let delegate else { return innerText }
    var out: [UInt8] = []
    JSONWriter.object(specification(delegate), zone: nil, depth: 0, to: &out)
    return out
  }

  func specification(_ delegate: Delegate?) -> VQLDict {
    let dict = VQLDict()
    if let delegate {
      dict.set("DelegateAccessor", .string(delegate.accessor))
      if let nested = delegate.nested {
        dict.set("Delegate", nested)
      } else {
        dict.set("DelegatePath", .bytes(delegate.path))
      }
    }
    dict.set("Path", .bytes(innerText))
    return dict
  }

  var basename: [UInt8] { components.last ?? [] }
  var dirname: VQLPath { with(Array(components.dropLast())) }

  func with(_ components: [[UInt8]]) -> VQLPath { VQLPath(components: components, style: style, delegate: delegate) }

  func appending(_ value: VQLValue) -> VQLPath? {
    switch value.resolved {
    case .bytes(let text): return with(components + Self.split(text, style: style))
    case .path(let path): return with(components + path.components)
    case .array(let parts):
      return with(components + parts.flatMap { part in Self.split(part.text, style: style) })
    default: return nil
    }
  }

  func member(_ name: String) -> VQLValue? {
    switch name {
    case "Components": .array(components.map { .bytes($0) })
    case "Basename": .bytes(basename)
    case "Dirname": .path(dirname)
    case "Path": .bytes(innerText)
    case "String": .bytes(text)
    case "HumanString": .bytes((delegate.map { $0.path + Array(" -> ".utf8) } ?? []) + innerText)
    case "DelegatePath": .bytes(delegate?.path ?? [])
    case "DelegateAccessor": .string(delegate?.accessor ?? "")
    case "PathSpec": .dict(specification(delegate))
    case "Data": .dict(VQLDict())
    default: nil
    }
  }
}
