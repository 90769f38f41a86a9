import ArgumentParser
import Foundation

#if FUZZING
  // Built with -sanitize=fuzzer: libFuzzer has the main function, and this is what it calls.

  private let chosen: FuzzTarget? = {
    let name = ProcessInfo.processInfo.environment["MICRORAPTOR_FUZZ_TARGET"] ?? ""
    return FuzzTarget.all.first { $0.name == name }
  }()

  /// Leaves well-formed inputs where libFuzzer looks for them.
  @_cdecl("LLVMFuzzerInitialize")
  public func initialize(_ count: UnsafeMutableRawPointer?, _ arguments: UnsafeMutableRawPointer?) -> Int32 {
    guard let folder = ProcessInfo.processInfo.environment["MICRORAPTOR_FUZZ_CORPUS"], let chosen else { return 0 }
    for (number, sample) in ((try? chosen.samples()) ?? []).enumerated() {
      try? Data(sample).write(to: URL(fileURLWithPath: folder).appendingPathComponent("sample-\(number)"))
    }
    return 0
  }

  @_cdecl("LLVMFuzzerTestOneInput")
  public func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    guard let chosen else { fatalError("MICRORAPTOR_FUZZ_TARGET: expected a target's name") }
    chosen.run(Array(UnsafeBufferPointer(start: start, count: count)))
    return 0
  }
#else
  /// Runs targets with inputs that a generator damages: where libFuzzer is not there, and for a quick look.
  @main
  struct Fuzz: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "fuzz", abstract: "Feeds damaged input to what faces the outside.",
      discussion: "deploy/fuzz builds it with libFuzzer, which is far better at finding paths.")

    @Argument(help: "Targets; all without one.")
    var targets: [String] = []

    @Option(help: "Seconds for each target.")
    var seconds = 10.0

    @Option(help: "Which inputs: the same seed gives the same ones.")
    var seed: UInt64 = 1

    @Flag(help: "Print the targets' names and end.")
    var list = false

    func validate() throws {
      for name in targets where !FuzzTarget.all.contains(where: { $0.name == name }) {
        throw ValidationError("no target is called \(name); --list shows them")
      }
    }

    func run() throws {
      for target in FuzzTarget.all where targets.isEmpty || targets.contains(target.name) {
        if list {
          print("\(target.name)\t\(target.abstract)")
        } else {
          try run(target)
        }
      }
    }

    private func run(_ target: FuzzTarget) throws {
      var mutator = Mutator(seed: seed, samples: try target.samples())
      let end = Date(timeIntervalSinceNow: seconds)
      var count = 0
      while Date() < end {
        for _ in 0..<64 { target.run(mutator.next()) }
        count += 64
      }
      print("\(target.name): \(count) inputs, nothing found")
    }
  }
#endif
