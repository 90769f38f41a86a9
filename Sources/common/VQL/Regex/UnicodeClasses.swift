import Synchronization

/// `\p{…}`: general categories from the standard library, and the scripts that log patterns name.
enum UnicodeClasses {
  private static let cache = Mutex<[String: [ClosedRange<UInt32>]]>([:])

  private static let scripts: [String: [ClosedRange<UInt32>]] = [
    "Latin": [
      65...90, 97...122, 0xAA...0xAA, 0xBA...0xBA, 0xC0...0xD6, 0xD8...0xF6, 0xF8...0x2B8, 0x2E0...0x2E4,
      0x1D00...0x1D25, 0x1E00...0x1EFF, 0x2C60...0x2C7F, 0xA722...0xA787, 0xFB00...0xFB06, 0xFF21...0xFF3A,
      0xFF41...0xFF5A,
    ],
    "Greek": [
      0x370...0x373, 0x375...0x377, 0x37A...0x37D, 0x37F...0x37F, 0x384...0x384, 0x386...0x386,
      0x388...0x3E1, 0x3F0...0x3FF, 0x1F00...0x1FFE,
    ],
    "Cyrillic": [0x400...0x484, 0x487...0x52F, 0x1C80...0x1C88, 0x2DE0...0x2DFF, 0xA640...0xA69F],
    "Han": [
      0x2E80...0x2FD5, 0x3005...0x3005, 0x3007...0x3007, 0x3021...0x3029, 0x3038...0x303B, 0x3400...0x4DBF,
      0x4E00...0x9FFF, 0xF900...0xFAD9, 0x20000...0x323AF,
    ],
    "Hiragana": [0x3041...0x3096, 0x309D...0x309F],
    "Katakana": [0x30A1...0x30FA, 0x30FD...0x30FF, 0x31F0...0x31FF, 0xFF66...0xFF6F, 0xFF71...0xFF9D],
    "Arabic": [
      0x600...0x604, 0x606...0x60B, 0x60D...0x61A, 0x61C...0x61E, 0x620...0x63F, 0x641...0x64A,
      0x656...0x66F, 0x671...0x6DC, 0x6DE...0x6FF, 0x750...0x77F,
    ],
    "Hebrew": [0x591...0x5C7, 0x5D0...0x5EA, 0x5EF...0x5F4, 0xFB1D...0xFB4F],
  ]

  static func find(_ name: String) -> CharacterRanges? {
    if name == "Any" { return .any }
    if let script = scripts[name] { return CharacterRanges(script) }
    guard let test = category(name) else { return nil }
    if let known = cache.withLock({ $0[name] }) { return CharacterRanges(known) }
    var ranges: [ClosedRange<UInt32>] = []
    var start: UInt32?
    for scalar in UInt32(0)...CharacterRanges.last {
      let inside = Unicode.Scalar(scalar).map { test($0.properties.generalCategory) } ?? false
      if inside && start == nil { start = scalar }
      if !inside, let first = start {
        ranges.append(first...(scalar - 1))
        start = nil
      }
    }
    if let first = start { ranges.append(first...CharacterRanges.last) }
    let made = ranges
    cache.withLock { $0[name] = made }
    return CharacterRanges(made)
  }

  private static func category(_ name: String) -> ((Unicode.GeneralCategory) -> Bool)? {
    let names: [String: Set<Unicode.GeneralCategory>] = [
      "L": [.uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter],
      "Lu": [.uppercaseLetter], "Ll": [.lowercaseLetter], "Lt": [.titlecaseLetter], "Lm": [.modifierLetter],
      "Lo": [.otherLetter], "M": [.nonspacingMark, .spacingMark, .enclosingMark], "Mn": [.nonspacingMark],
      "Mc": [.spacingMark], "Me": [.enclosingMark], "N": [.decimalNumber, .letterNumber, .otherNumber],
      "Nd": [.decimalNumber], "Nl": [.letterNumber], "No": [.otherNumber],
      "P": [
        .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation,
        .finalPunctuation, .otherPunctuation,
      ],
      "Pc": [.connectorPunctuation], "Pd": [.dashPunctuation], "Ps": [.openPunctuation], "Pe": [.closePunctuation],
      "Pi": [.initialPunctuation], "Pf": [.finalPunctuation], "Po": [.otherPunctuation],
      "S": [.mathSymbol, .currencySymbol, .modifierSymbol, .otherSymbol], "Sm": [.mathSymbol],
      "Sc": [.currencySymbol], "Sk": [.modifierSymbol], "So": [.otherSymbol],
      "Z": [.spaceSeparator, .lineSeparator, .paragraphSeparator], "Zs": [.spaceSeparator],
      "Zl": [.lineSeparator], "Zp": [.paragraphSeparator], "C": [.control, .format, .privateUse],
      "Cc": [.control], "Cf": [.format], "Co": [.privateUse],
    ]
    return names[name].map { set in { set.contains($0) } }
  }
}
