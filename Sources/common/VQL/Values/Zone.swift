import Foundation

/// A time zone, from the system's zone files.
package final class VQLZone: @unchecked Sendable {
  // Safe to share: never changed after it is made.
  private let zone: TimeZone?
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
      zone = TimeZone.current
    } else if let found = TimeZone(identifier: name) {
      zone = found
    } else {
      return nil
    }
    fixed = 0
  }

  static var local: VQLZone { VQLZone(named: "local") ?? VQLZone(offset: 0) }

  func offset(at seconds: Int64) -> (seconds: Int, name: String) {
    guard let zone else { return (fixed, fixed == 0 ? "UTC" : "") }
    // The zone tables know nothing beyond some centuries.
    let date = Date(timeIntervalSince1970: Double(min(max(seconds, -1 << 36), 1 << 36)))
    return (zone.secondsFromGMT(for: date), zone.abbreviation(for: date) ?? "")
  }

  func isDaylight(at seconds: Int64) -> Bool {
    zone?.isDaylightSavingTime(for: Date(timeIntervalSince1970: Double(seconds))) ?? false
  }
}
