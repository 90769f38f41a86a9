import Foundation

/// How to measure, and where.
struct Settings: Sendable {
  let quick: Bool
  /// The folder of the executables under test.
  let bin: URL
  /// A folder of this run.
  let scratch: URL
  let readers: Int
  /// Size of the file of JSON lines, MiB.
  let bulkMegabytes: Int

  init(quick: Bool, bin: String?, readers: Int?, bulkMegabytes: Int? = nil) throws {
    self.quick = quick
    self.bulkMegabytes = max(1, bulkMegabytes ?? (quick ? 64 : 1024))
    let own = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
    self.bin = bin.map { URL(fileURLWithPath: $0) } ?? own
    // Short: socket paths below it are limited to 107 bytes.
    scratch = FileManager.default.temporaryDirectory
      .appendingPathComponent("mrb-\(UUID().uuidString.prefix(6).lowercased())")
    self.readers = max(1, readers ?? (quick ? 500 : 2000))
    try FileManager.default.createDirectory(at: scratch, withIntermediateDirectories: true)
  }

  func clean() { try? FileManager.default.removeItem(at: scratch) }

  /// Rounds of which the median counts.
  var rounds: Int { quick ? 3 : 5 }

  /// Seconds of one round.
  func seconds(_ normal: Double) -> Double { quick ? normal / 2 : normal }

  func count(_ normal: Int) -> Int { quick ? max(1, normal / 3) : normal }
}
