import FoundationEssentials
import Glibc

/// Gives back what only the start or a query needed: pages of the executable's code and constants are unmapped, and the
/// kernel maps again, from its page cache, those that the idle agent really uses.
struct IdleMemory {
  /// How often: what an agent with much to do has to map again costs it a millisecond.
  static let interval: Duration = .seconds(30)

  /// The executable's mappings stay as they are, so they are looked up once.
  private let ranges = Self.releasable(
    ProcessFile.whole("/proc/self/smaps"),
    of: (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? "")

  func release() {
    for range in ranges {
      guard let address = UnsafeMutableRawPointer(bitPattern: range.lowerBound) else { continue }
      _ = madvise(address, range.count, MADV_DONTNEED)
    }
  }

  /// The mappings of a file in a text of `/proc/PID/smaps` that cannot be written and in which nothing was ever written.
  ///
  /// What the loader has relocated is such a mapping too, but it holds pages of its own (`Anonymous`), which are in no file.
  static func releasable(_ smaps: String, of file: String) -> [Range<UInt>] {
    var found: [Range<UInt>] = []
    var candidate: Range<UInt>?
    for line in smaps.split(separator: "\n") {
      let words = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
      guard let first = words.first else { continue }
      if words.count >= 5, let range = addresses(first) {
        let isReadOnlyFile = words[1].hasPrefix("r") && words[1].hasSuffix("p") && !words[1].contains("w")
        let isFile = words.count == 6 && words[5].drop { $0 == " " } == file
        candidate = isReadOnlyFile && isFile ? range : nil
      } else if first == "Anonymous:", words.dropFirst().first == "0", let range = candidate {
        found.append(range)
        candidate = nil
      }
    }
    return found
  }

  private static func addresses(_ word: Substring) -> Range<UInt>? {
    let ends = word.split(separator: "-")
    guard ends.count == 2, let start = UInt(ends[0], radix: 16), let end = UInt(ends[1], radix: 16), start < end else {
      return nil
    }
    return start..<end
  }
}
