/// Property lists of macOS, binary and XML: dictionaries, arrays, text, numbers, dates and data.
enum PropertyList {
  private static let maximumDepth = 64

  static func parse(_ data: [UInt8]) throws -> VQLValue {
    if data.starts(with: "bplist0".utf8) { return try BinaryPropertyList(data).root() }
    return try XMLPropertyList(data).root()
  }

  private static let referenceDate: Int64 = 978_307_200

  /// The binary form: a table of objects that refer to each other by number.
  private struct BinaryPropertyList {
    private let data: [UInt8]
    private let offsetSize: Int
    private let referenceSize: Int
    private let count: Int
    private let top: Int
    private let table: Int

    init(_ data: [UInt8]) throws {
      self.data = data
      guard data.count >= 40 else { throw CallError("plist: the file is too short") }
      let trailer = data.count - 32
      offsetSize = Int(data[trailer + 6])
      referenceSize = Int(data[trailer + 7])
      let numbers = [8, 16, 24].map { Self.number(data, trailer + $0, 8) }
      guard (1...8).contains(offsetSize), (1...8).contains(referenceSize), numbers.allSatisfy({ $0 < UInt64(data.count) }),
        numbers[2] + numbers[0] * UInt64(offsetSize) <= UInt64(trailer)
      else { throw CallError("plist: the table is damaged") }
      count = Int(numbers[0])
      top = Int(numbers[1])
      table = Int(numbers[2])
    }

    func root() throws -> VQLValue {
      var budget = 1_000_000
      return try object(top, depth: 0, &budget)
    }

    /// A big-endian number.
    private static func number(_ data: [UInt8], _ place: Int, _ size: Int) -> UInt64 {
      guard place >= 0, place + size <= data.count else { return .max }
      return data[place..<place + size].reduce(0) { $0 << 8 | UInt64($1) }
    }

    private func bytes(_ place: Int, _ size: Int) throws -> ArraySlice<UInt8> {
      guard place >= 0, size >= 0, place <= data.count, size <= data.count - place else {
        throw CallError("plist: an object is damaged")
      }
      return data[place..<place + size]
    }

    private func object(_ index: Int, depth: Int, _ budget: inout Int) throws -> VQLValue {
      budget -= 1
      guard index < count, depth < PropertyList.maximumDepth, budget > 0 else {
        throw CallError("plist: objects are nested too deeply")
      }
      let offset = Self.number(data, table + index * offsetSize, offsetSize)
      guard offset < UInt64(data.count) else { throw CallError("plist: an object is damaged") }
      var place = Int(offset)
      let kind = data[place] >> 4
      let low = Int(data[place] & 15)
      place += 1
      switch kind {
      case 0: return low == 8 ? .bool(false) : low == 9 ? .bool(true) : .null
      case 1:
        let size = 1 << min(low, 4)
        _ = try bytes(place, size)
        return .int(Int64(bitPattern: Self.number(data, place + max(0, size - 8), min(size, 8))))
      case 2, 3:
        let size = kind == 3 ? 8 : 1 << min(low, 3)
        _ = try bytes(place, size)
        let bits = Self.number(data, place, size)
        let value = size == 4 ? Double(Float(bitPattern: UInt32(truncatingIfNeeded: bits))) : Double(bitPattern: bits)
        return kind == 2 ? .double(value) : .time(VQLTime(value + Double(PropertyList.referenceDate)))
      case 8:
        _ = try bytes(place, low + 1)
        return .int(Int64(bitPattern: Self.number(data, place, min(low + 1, 8))))
      default: break
      }
      let size = try length(low, &place)
      switch kind {
      case 4: return .object(BufferObject(Array(try bytes(place, size))))
      case 5: return .bytes(Array(try bytes(place, size)))
      case 6:
        guard size < data.count else { throw CallError("plist: an object is damaged") }
        let text = Array(try bytes(place, size * 2))
        let units = stride(from: 0, to: text.count, by: 2).map { UInt16(text[$0]) << 8 | UInt16(text[$0 + 1]) }
        return .string(String(decoding: units, as: UTF16.self))
      case 10, 12: return .array(try references(place, size).map { try object($0, depth: depth + 1, &budget) })
      case 13:
        let keys = try references(place, size)
        let values = try references(place + size * referenceSize, size)
        let dict = VQLDict()
        for (key, value) in zip(keys, values) {
          let name = try object(key, depth: depth + 1, &budget)
          dict.set(String(decoding: name.text, as: UTF8.self), try object(value, depth: depth + 1, &budget))
        }
        return .dict(dict)
      default: return .null
      }
    }

    private func length(_ low: Int, _ place: inout Int) throws -> Int {
      guard low == 15 else { return low }
      let marker = try bytes(place, 1)
      let size = 1 << Int((marker.first ?? 0) & 3)
      let value = Self.number(data, place + 1, size)
      place += 1 + size
      guard value < UInt64(data.count) else { throw CallError("plist: an object is damaged") }
      return Int(value)
    }

    private func references(_ place: Int, _ count: Int) throws -> [Int] {
      guard count <= data.count else { throw CallError("plist: an object is damaged") }
      _ = try bytes(place, count * referenceSize)
      return (0..<count).map { Int(truncatingIfNeeded: Self.number(data, place + $0 * referenceSize, referenceSize)) & Int.max }
    }
  }

  /// The XML form.
  private struct XMLPropertyList {
    private let elements: [XMLReader.Node]

    init(_ data: [UInt8]) throws {
      let document = try XMLReader.nodes(data)
      guard document.name == "plist" else { throw CallError("plist: this is no property list") }
      elements = document.children
    }

    func root() throws -> VQLValue {
      guard let first = elements.first else { return .null }
      return try value(first, depth: 0)
    }

    private func value(_ node: XMLReader.Node, depth: Int) throws -> VQLValue {
      guard depth < PropertyList.maximumDepth else { throw CallError("plist: objects are nested too deeply") }
      switch node.name {
      case "dict":
        let dict = VQLDict()
        var key: String?
        for child in node.children {
          if child.name == "key" {
            key = String(decoding: child.text, as: UTF8.self)
          } else if let name = key {
            dict.set(name, try value(child, depth: depth + 1))
            key = nil
          }
        }
        return .dict(dict)
      case "array": return .array(try node.children.map { try value($0, depth: depth + 1) })
      case "integer": return .int(NumberText.parseInteger(Bytes.trim(node.text)) ?? 0)
      case "real": return .double(NumberText.parseNamedFloat(Bytes.trim(node.text)) ?? 0)
      case "true", "false": return .bool(node.name == "true")
      case "date":
        let text = String(decoding: Bytes.trim(node.text), as: UTF8.self)
        return TimeParser.guess(text, zone: nil).map { .time($0) } ?? .null
      case "data":
        let packed = node.text.filter { !Bytes.isSpace($0) }
        return .object(BufferObject(Base64.decode(packed) ?? []))
      default: return .bytes(node.text)
      }
    }
  }
}
