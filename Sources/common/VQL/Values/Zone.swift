/// A time zone, from the system's zone files.
package final class VQLZone: Sendable {
  private let zone: ZoneFile?
  private let fixed: Int

  /// A fixed offset in seconds east of UTC.
  init(offset: Int) {
    zone = nil
    fixed = offset
  }

  init?(named name: String) {
    if name.isEmpty || name == "UTC" || name == "Z" {
      zone = nil
    } else if name.lowercased() == "local" {
      zone = ZoneFile.local
    } else if let found = ZoneFile.named(name) {
      zone = found
    } else {
      return nil
    }
    fixed = 0
  }

  static var local: VQLZone { VQLZone(named: "local") ?? VQLZone(offset: 0) }

  func offset(at seconds: Int64) -> (seconds: Int, name: String) {
    guard let zone else { return (fixed, fixed == 0 ? "UTC" : "") }
    let rule = zone.rule(at: seconds)
    return (rule.offset, rule.name)
  }

  func isDaylight(at seconds: Int64) -> Bool {
    zone?.rule(at: seconds).isDaylight ?? false
  }

  /// The offset that an abbreviation such as `EST` stands for in this zone, nil when it is none of its own.
  func offset(ofAbbreviation name: String, near seconds: Int64) -> Int? {
    // Both halves of a year, so that summer time is seen too.
    [seconds, seconds &+ 182 * 86400].lazy.compactMap { self.zone?.rule(at: $0) }.first { $0.name == name }?.offset
  }
}
