import ArgumentParser
import Foundation
import Observability

/// `microraptor watch`.
struct WatchCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "watch", abstract: "Show frontends and crypto-workers at work, refreshed each second.",
    discussion: """
      Reads the metrics ports of the processes: --target HOST:PORT for each, or Monitoring.targets of the operator's \
      file. A process shows its numbers when it was started with --monitoring-port or Monitoring.bind_port. \
      Rates are those since the last look. Ends with Ctrl-C, then with exit code 0.
      """)

  @OptionGroup var access: StoreAccess
  @Option(name: .long, help: "HOST:PORT of a metrics port; repeat for several. Default: those of the operator's file.")
  var target: [String] = []
  @Option(name: .long, help: "Seconds between two looks.")
  var interval = 1.0
  @Flag(name: .long, help: "Look twice, print, and end.")
  var once = false
  @Flag(name: .long, help: "A JSON object for each look, on a line of its own.")
  var json = false

  func validate() throws {
    guard (0.1...3600).contains(interval) else { throw ValidationError("--interval must be between 0.1 and 3600") }
  }

  func run() async throws {
    try await reporting {
      let names = target.isEmpty ? try access.file().monitoringTargets : target
      guard !names.isEmpty else {
        throw CommandFailure(
          .failed, "no metrics ports are known: give --target HOST:PORT, or Monitoring.targets in the operator's file")
      }
      let readers: [(String, MetricsReader)]
      do {
        readers = try names.map { ($0, try MetricsReader($0)) }
      } catch {
        throw CommandFailure(.usage, "\(error)")
      }
      await watch(readers)
    }
  }

  private func watch(_ readers: [(String, MetricsReader)]) async {
    let signal = ShutdownSignal()
    let isScreen = isatty(STDOUT_FILENO) == 1 && !json && !once
    // The alternate screen: what was there before comes back at the end.
    if isScreen { Terminal.print("\u{1B}[?1049h\u{1B}[?25l") }
    defer { if isScreen { Terminal.print("\u{1B}[?25h\u{1B}[?1049l") } }
    var pages: [String: MetricsPage] = [:]
    var isFirst = true
    while signal.received == nil {
      var processes: [WatchedProcess] = []
      for (name, result) in await Self.read(readers) {
        switch result {
        case .success(let page):
          processes.append(WatchedProcess(target: name, page, since: pages[name]))
          pages[name] = page
        case .failure(let failure):
          processes.append(WatchedProcess(target: name, problem: failure.description))
          pages[name] = nil
        }
      }
      // Without a screen the first look, which has no rates, is not shown.
      if isScreen || !isFirst { show(processes, isScreen: isScreen) }
      if once, !isFirst { return }
      isFirst = false
      let wake = ContinuousClock.now.advanced(by: .seconds(interval))
      while signal.received == nil, ContinuousClock.now < wake {
        try? await Task.sleep(for: min(.milliseconds(100), wake - .now))
      }
    }
  }

  private func show(_ processes: [WatchedProcess], isScreen: Bool) {
    let now = Date().formatted(.iso8601)
    if json {
      let encoder = JSONEncoder()
      encoder.outputFormatting = .sortedKeys
      encoder.keyEncodingStrategy = .convertToSnakeCase
      guard let line = try? encoder.encode(Look(time: now, processes: processes)) else { return }
      Terminal.print(String(decoding: line, as: UTF8.self) + "\n")
    } else {
      let text = WatchScreen.text(processes, at: now)
      // Each line clears its rest, the end clears what is below: no flicker.
      let shown =
        isScreen ? "\u{1B}[H" + text.replacingOccurrences(of: "\n", with: "\u{1B}[K\n") + "\u{1B}[J" : text + "\n"
      Terminal.print(shown)
    }
  }

  private struct Look: Encodable {
    var time: String
    var processes: [WatchedProcess]
  }

  /// All at once: one that hangs does not hold the others.
  private static func read(
    _ readers: [(String, MetricsReader)]
  ) async -> [(String, Result<MetricsPage, MetricsReader.Failure>)] {
    await withTaskGroup(of: (Int, Result<MetricsPage, MetricsReader.Failure>).self) { group in
      for (index, (_, reader)) in readers.enumerated() {
        group.addTask {
          await withCheckedContinuation { continuation in
            DispatchQueue.global().async { continuation.resume(returning: (index, page(reader))) }
          }
        }
      }
      var results: [(Int, Result<MetricsPage, MetricsReader.Failure>)] = []
      for await result in group { results.append(result) }
      return results.sorted { $0.0 < $1.0 }.map { (readers[$0.0].0, $0.1) }
    }
  }

  private static func page(_ reader: MetricsReader) -> Result<MetricsPage, MetricsReader.Failure> {
    do {
      return .success(MetricsPage(try reader.read(), at: ProcessInfo.processInfo.systemUptime))
    } catch {
      return .failure(error as? MetricsReader.Failure ?? MetricsReader.Failure(description: "\(error)"))
    }
  }
}
