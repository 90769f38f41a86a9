/// The screen of `microraptor watch` as text: one table for frontends, one for crypto-workers.
enum WatchScreen {
  static func text(_ processes: [WatchedProcess], at time: String) -> String {
    let frontends = processes.filter { $0.role == .frontend }
    let workers = processes.filter { $0.role == .worker }
    let silent = processes.filter { $0.role == .unknown }
    func sum(_ list: [WatchedProcess], _ path: KeyPath<WatchedProcess, Double?>) -> Double {
      list.compactMap { $0[keyPath: path] }.reduce(0, +)
    }
    var text =
      "\(time)  \(frontends.count) frontends, \(workers.count) crypto-workers, \(whole(sum(frontends, \.readers))) readers, "
      + "\(short(sum(frontends, \.bodiesPerSecond))) bodies/s\n\n"
    if !frontends.isEmpty {
      text +=
        TableLayout.table(
          [
            "Frontend", "Readers", "Connections", "Bodies/s", "Stored/s", "Tasks/s", "403/s", "503/s", "Commit ms",
            "Workers", "In flight",
          ],
          frontends.map {
            [
              $0.target, whole($0.readers), whole($0.connections), short($0.bodiesPerSecond),
              short($0.acknowledgedPerSecond), short($0.tasksPerSecond), short($0.refusedPerSecond),
              short($0.unavailablePerSecond), short($0.commitMilliseconds), whole($0.workers), whole($0.inFlight),
            ]
          }) + "\n"
    }
    if !workers.isEmpty {
      text +=
        TableLayout.table(
          ["Crypto-worker", "Sessions", "Cache hits", "Opened/s", "RSA/s", "Cold queue", "Overloaded/s"],
          workers.map {
            [
              $0.target, whole($0.sessions), percent($0.hitRatio), short($0.openedPerSecond), short($0.rsaPerSecond),
              whole($0.coldDepth), short($0.overloadedPerSecond),
            ]
          }) + "\n"
    }
    if !silent.isEmpty {
      text += TableLayout.table(
        ["Not read", "Why"], silent.map { [$0.target, Terminal.printable($0.problem ?? "")] })
    }
    return text
  }

  private static func whole(_ value: Double?) -> String { value.map { String(Int($0)) } ?? "-" }

  private static func short(_ value: Double?) -> String {
    guard let value else { return "-" }
    let tenths = Int((value * 10).rounded())
    return value >= 100 || tenths % 10 == 0 ? String(Int(value.rounded())) : "\(tenths / 10).\(tenths % 10)"
  }

  private static func percent(_ value: Double?) -> String { value.map { "\(Int(($0 * 100).rounded(.down))) %" } ?? "-" }
}
