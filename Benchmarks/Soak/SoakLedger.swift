import Foundation
import PublicIdentity
import Store
import Synchronization

/// What was asked of the agents, and whether the store has the answers, each row once.
final class SoakLedger: Sendable {
  /// Rows that each query makes.
  static let rows = 300

  struct Verdict: Codable, Sendable {
    var flows = 0
    var rows = 0
    var unfinished: [String] = []
    var failed: [String] = []
    var missingRows = 0
    var doubledRows = 0

    var isClean: Bool { unfinished.isEmpty && failed.isEmpty && missingRows == 0 && doubledRows == 0 }
  }

  private let flows = Mutex<[FlowName]>([])
  private let soak: SoakDeployment

  init(_ soak: SoakDeployment) { self.soak = soak }

  var count: Int { flows.withLock { $0.count } }

  /// Asks one client.
  func ask(_ client: ClientName) throws {
    let query = "SELECT _value AS N FROM range(end=\(Self.rows))"
    let output = try soak.microraptor(["query", client.id.rawValue, query, "--no-wait"])
    guard let id = output.split(whereSeparator: \.isWhitespace).lazy.compactMap({ FlowID(String($0)) }).last else {
      throw Trouble("microraptor query printed no flow: \(output)")
    }
    flows.withLock { $0.append(FlowName(client: client, flow: id)) }
  }

  /// Waits until every flow has ended, then counts.
  ///
  /// - Parameter patience: seconds that the last ones may take.
  func settle(_ store: any Store, patience: Double) async throws -> Verdict {
    let all = flows.withLock { $0 }
    var open = all
    let end = Date(timeIntervalSinceNow: patience)
    while !open.isEmpty, Date() < end {
      var rest: [FlowName] = []
      for name in open where try await store.flow(name)?.state.hasEnded != true { rest.append(name) }
      open = rest
      if !open.isEmpty { try await Task.sleep(for: .seconds(1)) }
    }
    var verdict = Verdict(flows: all.count, unfinished: open.map { "\($0)" })
    for name in all where !open.contains(name) { try await check(name, store, &verdict) }
    return verdict
  }

  private func check(_ name: FlowName, _ store: any Store, _ verdict: inout Verdict) async throws {
    guard let flow = try await store.flow(name), flow.state == .finished else {
      verdict.failed.append("\(name)")
      return
    }
    var seen: [Int: Int] = [:]
    for source in try await store.sources(of: name) {
      for row in try await store.rows(of: name, source: source.name, from: 0, limit: Self.rows * 4) {
        let number = row.json.drop { $0 != ":" }.dropFirst().prefix { $0.isNumber }
        seen[Int(number) ?? -1, default: 0] += 1
      }
    }
    verdict.rows += seen.values.reduce(0, +)
    verdict.missingRows += (0..<Self.rows).filter { seen[$0] == nil }.count
    verdict.doubledRows += seen.values.reduce(0) { $0 + $1 - 1 }
  }
}
