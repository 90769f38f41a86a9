import ArgumentParser
import Foundation
import VQL

extension Benchmark {
  static let engineStart = Benchmark(
    name: "engine-start", abstract: "Time and memory that the query engine needs in a fresh process.",
    run: EngineProbe.measure)
}

/// The part that runs in a fresh process: what the first session costs, in nanoseconds and bytes.
struct EngineProbe: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "engine-probe", abstract: "Prints what the query engine's start costs.", shouldDisplay: false)

  func run() throws {
    let pid = ProcessInfo.processInfo.processIdentifier
    let before = try ProcessStatus.residentBytes(pid)
    let start = Clock.now()
    let session = VQLSession(options: VQLSessionOptions())
    var rows = 0
    try session.run("SELECT 1 AS A FROM range(end=1)") { _ in
      rows += 1
      return .more
    }
    let nanoseconds = Clock.now() - start
    let bytes = try ProcessStatus.residentBytes(pid) - before
    session.close()
    print("\(rows) \(nanoseconds) \(Int(bytes))")
  }

  static func measure(_ settings: Settings) async throws -> [Figure] {
    let own = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().path
    var (times, sizes): ([Double], [Double]) = ([], [])
    for _ in 0..<7 {
      let output = try Command.check(own, ["engine-probe"], in: settings.scratch)
      let numbers = output.split(whereSeparator: \.isWhitespace).compactMap { Double($0) }
      guard numbers.count == 3, numbers[0] == 1 else { throw Trouble("the probe printed «\(output)»") }
      times.append(numbers[1] / 1e6)
      sizes.append(numbers[2] / 1_048_576)
    }
    return [
      Figure("VQL engine: start and first row in a fresh process", Statistics.median(times), "ms", goal: .atMost(5)),
      Figure("VQL engine: memory of its start", Statistics.median(sizes), "MiB", goal: .atMost(4)),
    ]
  }
}
