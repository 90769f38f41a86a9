/// The column names of a dictionary; shared by all rows of one source, so that a lookup can remember the place.
final class Shape {
  private(set) var names: [String]
  private var index: [String: Int]?
  /// A frozen shape never changes and may be shared.
  let frozen: Bool
  let caseInsensitive: Bool
  /// Names from here on are found by lookup but not listed.
  let visible: Int?
  private var encoded: [[UInt8]]?

  init(_ names: [String], frozen: Bool = true, caseInsensitive: Bool = false, visible: Int? = nil) {
    self.names = names
    self.frozen = frozen
    self.caseInsensitive = caseInsensitive
    self.visible = visible
  }

  static let empty = UnsafeShared(Shape([], frozen: true))

  var visibleCount: Int { visible ?? names.count }

  func find(_ name: String) -> Int? {
    if names.count > 8 {
      if index == nil { buildIndex() }
      if let found = index?[name] { return found }
    } else {
      for place in names.indices where names[place] == name { return place }
    }
    guard caseInsensitive else { return nil }
    let lower = name.lowercased()
    return names.firstIndex { $0.lowercased() == lower }
  }

  private func buildIndex() {
    var built = [String: Int](minimumCapacity: names.count)
    for (place, name) in names.enumerated() { built[name] = place }
    index = built
  }

  func append(_ name: String) {
    names.append(name)
    index?[name] = names.count - 1
    encoded = nil
  }

  /// `"name":` for each name, as JSON.
  var encodedNames: [[UInt8]] {
    if let encoded { return encoded }
    let made = names.map { name in
      var bytes: [UInt8] = []
      JSONWriter.string(Array(name.utf8), to: &bytes)
      bytes.append(UInt8(ascii: ":"))
      return bytes
    }
    encoded = made
    return made
  }
}

/// A constant of a type that is not Sendable; safe because what it holds is never changed after start-up.
struct UnsafeShared<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}

/// An ordered dictionary with unique string keys; shared by reference, as `set()` changes it in place.
package final class VQLDict {
  private(set) var shape: Shape
  private(set) var values: [VQLValue]
  /// What an absent member gives, when the dictionary has its own default.
  var defaultValue: VQLValue?

  package init() {
    shape = Shape([], frozen: false)
    values = []
  }

  /// A row of a shared shape; missing values become NULL, extra ones are dropped.
  init(shape: Shape, values: [VQLValue]) {
    self.shape = shape
    self.values = values
    if values.count != shape.names.count {
      self.values = Array(values.prefix(shape.names.count))
      while self.values.count < shape.names.count { self.values.append(.null) }
    }
  }

  convenience init(_ pairs: [(String, VQLValue)]) {
    self.init()
    for (name, value) in pairs { set(name, value) }
  }

  package var count: Int { shape.visibleCount }
  package var keys: [String] { shape.visible == nil ? shape.names : Array(shape.names.prefix(shape.visibleCount)) }

  /// The value under a name, lazy members computed.
  package subscript(_ name: String) -> VQLValue? {
    guard let place = shape.find(name) else { return nil }
    return values[place].resolved
  }

  func value(at place: Int) -> VQLValue { place < values.count ? values[place] : .null }

  package func set(_ name: String, _ value: VQLValue) {
    if let place = shape.find(name) {
      values[place] = value
      return
    }
    if shape.frozen || !isKnownUniquelyReferenced(&shape) { ownShape() }
    shape.append(name)
    values.append(value)
  }

  private func ownShape() {
    let visible = shape.visibleCount
    shape = Shape(
      Array(shape.names.prefix(visible)), frozen: false, caseInsensitive: shape.caseInsensitive)
    if values.count > visible { values = Array(values.prefix(visible)) }
  }

  /// Calls the body for each listed member, in order.
  func eachMember(_ body: (String, VQLValue) -> Void) {
    for place in 0..<shape.visibleCount where place < values.count { body(shape.names[place], values[place]) }
  }

  func copy() -> VQLDict {
    if shape.frozen && shape.visible == nil { return VQLDict(shape: shape, values: values) }
    let copy = VQLDict()
    eachMember { copy.set($0, $1) }
    copy.defaultValue = defaultValue
    return copy
  }

  func filtered(_ keep: (String) -> Bool) -> VQLDict {
    let result = VQLDict()
    eachMember { name, value in if keep(name) { result.set(name, value) } }
    return result
  }
}
