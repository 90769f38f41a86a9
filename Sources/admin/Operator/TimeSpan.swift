import ArgumentParser

/// A span of time on the command line: a number and `s`, `m`, `h` or `d`; without a letter seconds.
struct TimeSpan: ExpressibleByArgument, Equatable {
  var seconds: Int64

  init?(argument: String) {
    let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3_600, "d": 86_400]
    let unit = argument.last.flatMap { units[$0] }
    guard let number = Int64(unit == nil ? argument[...] : argument.dropLast()), number > 0, number < 1_000_000_000
    else { return nil }
    seconds = number * (unit ?? 1)
  }

  init(days: Int64) {
    seconds = days * 86_400
  }

  var defaultValueDescription: String {
    seconds % 86_400 == 0 ? "\(seconds / 86_400)d" : "\(seconds)s"
  }
}
