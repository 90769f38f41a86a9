import FoundationEssentials

/// Variables in path values (client.md §1): `$VAR`, `${VAR}`, `%VAR%`, and `$$` for a dollar sign.
package enum PathExpansion {
  /// - Parameters:
  ///   - text: the value.
  ///   - nonce: when given, `NONCE` is replaced by a form of it that is safe in file names.
  ///   - environment: the variables; unknown ones become empty.
  package static func expand(
    _ text: String, nonce: String? = nil, environment: [String: String] = ProcessInfo.processInfo.environment
  ) -> String {
    var rest = Array(text)[...]
    var out = ""
    func value(_ name: String) -> String {
      if name == "NONCE", let nonce { return fileName(nonce) }
      return environment[name] ?? ""
    }
    while let character = rest.popFirst() {
      if character == "$", rest.first == "$" {
        rest.removeFirst()
        out.append("$")
      } else if character == "$", rest.first == "{", let end = rest.firstIndex(of: "}") {
        out += value(String(rest[rest.index(after: rest.startIndex)..<end]))
        rest = rest[(end + 1)...]
      } else if character == "$", let first = rest.first, isNameCharacter(first) {
        let name = rest.prefix(while: isNameCharacter)
        out += value(String(name))
        rest = rest.dropFirst(name.count)
      } else if character == "%", let end = rest.firstIndex(of: "%"), end > rest.startIndex,
        rest[..<end].allSatisfy(isNameCharacter)
      {
        out += value(String(rest[..<end]))
        rest = rest[(end + 1)...]
      } else {
        out.append(character)
      }
    }
    return out
  }

  /// Letters and digits stay, all else becomes `_`.
  static func fileName(_ nonce: String) -> String {
    String(nonce.map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "_" })
  }

  private static func isNameCharacter(_ character: Character) -> Bool {
    character.isASCII && (character.isLetter || character.isNumber || character == "_")
  }
}
