import ArgumentParser
import Foundation

/// Measures what the project promises, beside the limit of the same machine in the same run.
@main
struct Benchmarks: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "benchmarks",
    abstract: "Measures the executables of the release build and the libraries they are made of.",
    discussion: "Build with -c release. Everything runs on loopback and in a temporary directory.",
    subcommands: [Run.self, EngineProbe.self, QueryProbe.self, Soak.self], defaultSubcommand: Run.self)

  /// All benchmarks, in the order in which they run.
  static let all: [Benchmark] = [
    .warmOpen, .coldOpen, .linkWarm, .linkCold, .forgedBodies, .coldBurst, .workerRestart, .workerKilled, .checkIn,
    .monitoringRows, .tlsPost, .idleReaders, .taskLatency,
    .storeRows, .largeStore, .queries, .jsonLines, .hashTree, .engineStart, .agentStart,
  ]
}

struct Run: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "run", abstract: "Runs benchmarks (the default).")

  @Argument(help: "Benchmarks or beginnings of their names; all without one.")
  var names: [String] = []

  @Flag(help: "Print an array of figures as JSON.")
  var json = false

  @Flag(help: "Shorter runs: within two minutes.")
  var quick = false

  @Flag(help: "Print the names and end.")
  var list = false

  @Option(help: "Folder of the executables under test. Default: beside this one.")
  var bin: String?

  @Option(help: "Waiting readers for the memory figure.")
  var readers: Int?

  @Option(help: "MiB of the file of JSON lines; default 1024, with --quick 64.")
  var jsonlMib: Int?

  func run() async throws {
    if list {
      for benchmark in Benchmarks.all { print(benchmark.name.padded(to: 20) + benchmark.abstract) }
      return
    }
    let chosen = try chosen()
    let settings = try Settings(quick: quick, bin: bin, readers: readers, bulkMegabytes: jsonlMib)
    defer { settings.clean() }
    let machine = Machine()
    if !json { print(machine.header) }
    var figures: [Figure] = []
    for benchmark in chosen {
      FileHandle.standardError.write(Data("… \(benchmark.name)\n".utf8))
      do {
        figures += try await benchmark.run(settings)
      } catch {
        figures.append(.failed(benchmark.name, "not measured: \(error)"))
      }
    }
    print(json ? try Report.json(figures) : Report.table(figures))
  }

  private func chosen() throws -> [Benchmark] {
    for name in names where !Benchmarks.all.contains(where: { $0.name.hasPrefix(name) }) {
      throw ValidationError("no benchmark is called \(name); --list shows them")
    }
    guard !names.isEmpty else { return Benchmarks.all }
    return Benchmarks.all.filter { benchmark in names.contains { benchmark.name.hasPrefix($0) } }
  }
}
