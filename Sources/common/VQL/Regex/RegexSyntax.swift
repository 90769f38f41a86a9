/// Why a pattern was refused, in the words of the reference.
struct RegexError: Error, CustomStringConvertible {
  let reason: String
  let excerpt: String
  var description: String { "error parsing regexp: \(reason): `\(excerpt)`" }
}

/// A pattern as a tree.
indirect enum RegexNode {
  enum Assertion { case beginText, endText, beginLine, endLine, wordBoundary, notWordBoundary }
  case empty
  case set(CharacterRanges)
  case sequence([RegexNode])
  case alternatives([RegexNode])
  case repetition(RegexNode, minimum: Int, maximum: Int?, greedy: Bool)
  case capture(RegexNode, Int)
  case assertion(Assertion)
}

/// A set of code points as sorted, disjoint ranges.
struct CharacterRanges {
  private(set) var ranges: [ClosedRange<UInt32>]
  static let last: UInt32 = 0x10FFFF

  init(_ ranges: [ClosedRange<UInt32>] = []) {
    self.ranges = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let previous = self.ranges.last, range.lowerBound <= previous.upperBound + 1 {
        self.ranges[self.ranges.count - 1] = previous.lowerBound...max(previous.upperBound, range.upperBound)
      } else {
        self.ranges.append(range)
      }
    }
  }

  init(_ scalar: UInt32) { ranges = [scalar...scalar] }

  var inverted: CharacterRanges {
    var result: [ClosedRange<UInt32>] = []
    var next: UInt32 = 0
    for range in ranges {
      if range.lowerBound > next { result.append(next...(range.lowerBound - 1)) }
      next = range.upperBound + 1
    }
    if next <= Self.last { result.append(next...Self.last) }
    return CharacterRanges(result)
  }

  func union(_ other: CharacterRanges) -> CharacterRanges { CharacterRanges(ranges + other.ranges) }

  func contains(_ scalar: UInt32) -> Bool { ranges.contains { $0.contains(scalar) } }

  static let digit = CharacterRanges([48...57])
  static let space = CharacterRanges([9...10, 12...13, 32...32])
  static let word = CharacterRanges([48...57, 65...90, 95...95, 97...122])
  static let any = CharacterRanges([0...last])
  static let anyButNewline = CharacterRanges([10...10]).inverted

  /// The set with the other cases of its letters.
  var caseFolded: CharacterRanges {
    var added: [ClosedRange<UInt32>] = []
    for range in ranges {
      // Ranges this long are negated or whole classes, which hold both cases of nearly everything.
      let ascii = range.clamped(to: 0...127)
      if range.lowerBound < 128 {
        for scalar in ascii { Self.fold(scalar, &added) }
      }
      let first = max(range.lowerBound, 128)
      if range.upperBound >= first, range.upperBound - first < 3000 {
        for scalar in first...range.upperBound { Self.fold(scalar, &added) }
      }
    }
    return added.isEmpty ? self : CharacterRanges(ranges + added)
  }

  private static func fold(_ scalar: UInt32, _ added: inout [ClosedRange<UInt32>]) {
    switch scalar {
    case 65...90: added.append((scalar + 32)...(scalar + 32))
    case 97...122: added.append((scalar - 32)...(scalar - 32))
    case 0...127: return
    default:
      guard let value = Unicode.Scalar(scalar) else { return }
      for text in [value.properties.lowercaseMapping, value.properties.uppercaseMapping] {
        let mapped = text.unicodeScalars
        if mapped.count == 1, let other = mapped.first, other.value != scalar {
          added.append(other.value...other.value)
        }
      }
    }
    // The Kelvin sign and the long s fold to ASCII letters.
    if scalar | 0x20 == 0x6B { added.append(0x212A...0x212A) }
    if scalar | 0x20 == 0x73 { added.append(0x17F...0x17F) }
  }

  /// The named classes of `[[:name:]]`.
  static let posix: [String: CharacterRanges] = [
    "alnum": CharacterRanges([48...57, 65...90, 97...122]), "alpha": CharacterRanges([65...90, 97...122]),
    "ascii": CharacterRanges([0...127]), "blank": CharacterRanges([9...9, 32...32]),
    "cntrl": CharacterRanges([0...31, 127...127]), "digit": digit, "graph": CharacterRanges([33...126]),
    "lower": CharacterRanges([97...122]), "print": CharacterRanges([32...126]),
    "punct": CharacterRanges([33...47, 58...64, 91...96, 123...126]), "space": CharacterRanges([9...13, 32...32]),
    "upper": CharacterRanges([65...90]), "word": word, "xdigit": CharacterRanges([48...57, 65...70, 97...102]),
  ]
}
