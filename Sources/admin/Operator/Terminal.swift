import Foundation

/// What the command's streams are connected to.
enum Terminal {
  /// Columns of the terminal on standard output; nil when it is none, then nothing is cut.
  static var width: Int? {
    var size = winsize()
    guard isatty(STDOUT_FILENO) == 1, ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else {
      return nil
    }
    return Int(size.ws_col)
  }

  static var showsProgress: Bool { isatty(STDERR_FILENO) == 1 }

  /// One line to standard error.
  static func note(_ text: String) {
    write("\(clearLine)\(text)\n", to: .standardError)
  }

  /// Replaces the progress line on a terminal.
  static func progress(_ text: String) {
    guard showsProgress else { return }
    write("\r\u{1B}[K\(text)", to: .standardError)
  }

  static func endProgress() {
    if showsProgress { write(clearLine, to: .standardError) }
  }

  static func print(_ text: String) {
    write(text, to: .standardOutput)
  }

  private static var clearLine: String { showsProgress ? "\r\u{1B}[K" : "" }

  private static func write(_ text: String, to handle: FileHandle) {
    // A reader that went away (`| head`) is no error worth a report; SIGPIPE ends the process as usual.
    try? handle.write(contentsOf: Data(text.utf8))
  }

  /// Text that cannot steer a terminal: control characters are written as escapes.
  static func printable(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      case "\r": result += "\\r"
      case let control where isControl(control): result += "\\x" + String(control.value, radix: 16)
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    // Format characters include the marks that reorder what a terminal shows.
    [.control, .format, .lineSeparator, .paragraphSeparator].contains(scalar.properties.generalCategory)
  }

  /// Columns a printable text takes.
  static func columns(_ text: String) -> Int {
    text.reduce(0) { $0 + columns($1) }
  }

  static func columns(_ character: Character) -> Int {
    guard let value = character.unicodeScalars.first?.value else { return 0 }
    let wide: [ClosedRange<UInt32>] = [
      0x1100...0x115F, 0x2E80...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60,
      0xFFE0...0xFFE6, 0x1F300...0x1F64F, 0x1F900...0x1F9FF, 0x20000...0x3FFFD,
    ]
    return value >= 0x1100 && wide.contains { $0.contains(value) } ? 2 : 1
  }
}
