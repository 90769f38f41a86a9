/// Rules that describe content by strings and a condition on them, in the language of YARA.
///
/// What is supported: text, hexadecimal and regular strings with their usual modifiers, and conditions over matches,
/// counts, offsets, the file's size and its bytes. Modules (`pe`, `elf`, `math`, …) are not.
struct YaraRule {
  var name: String
  var tags: [String] = []
  var meta: [(String, VQLValue)] = []
  var strings: [YaraString] = []
  var condition: YaraExpression = .constant(.bool(false))
  var isPrivate = false
  var isGlobal = false
}

/// One string of a rule, compiled.
struct YaraString {
  /// With its dollar sign; `$` alone is anonymous.
  var name: String
  var patterns: [YaraPattern]
  var isFullWord = false
  var isPrivate = false
}

/// One form of a string, as it may stand in the data.
enum YaraPattern {
  case literal([UInt8])
  case expression(Regex)
  /// A text hidden by exclusive or with one byte of a range.
  case hidden([UInt8], ClosedRange<UInt8>)
}

/// A condition, or a part of one.
indirect enum YaraExpression {
  case constant(VQLValue)
  case fileSize
  case variable(String)
  case rule(String)
  /// A string occurs; a nil name stands for the string of the loop around it.
  case occurs(String?, YaraPlace)
  case count(String?, YaraPlace)
  case offset(String?, YaraExpression)
  case length(String?, YaraExpression)
  /// An integer in the data: bytes, signed, big-endian, and where.
  case integer(Int, Bool, Bool, YaraExpression)
  case not(YaraExpression)
  case defined(YaraExpression)
  case negative(YaraExpression)
  case complement(YaraExpression)
  case and([YaraExpression])
  case or([YaraExpression])
  case binary(String, YaraExpression, YaraExpression)
  case of(YaraQuantity, [YaraReference], YaraPlace)
  case forStrings(YaraQuantity, [YaraReference], YaraExpression)
  case forNumbers(YaraQuantity, String, [YaraExpression], YaraRange?, YaraExpression)
}

struct YaraRange {
  let low: YaraExpression
  let high: YaraExpression
}

/// Where a string has to stand.
indirect enum YaraPlace {
  case anywhere
  case at(YaraExpression)
  case inside(YaraRange)
}

enum YaraQuantity {
  case all, any, none
  case number(YaraExpression)
  case percent(YaraExpression)
}

/// Strings or rules by name, or by the beginning of their names.
struct YaraReference {
  let name: String
  let isPrefix: Bool

  func fits(_ other: String) -> Bool { isPrefix ? other.hasPrefix(name) : other == name }
}
