import Foundation
import TestDatabase
import XCTest

/// Kills processes of a deployment at random with SIGKILL and starts them again.
final class ChaosMonkey {
  enum Victim: Hashable {
    case frontend(Int)
    case worker(Int)
    case database
  }

  private let deployment: Deployment
  private let database: PostgreSQLServer?
  private(set) var kills: [String: Int] = [:]

  init(_ deployment: Deployment, database: PostgreSQLServer?) {
    self.deployment = deployment
    self.database = database
  }

  /// Goes on until the time; then everything runs.
  func rage(until end: Date) throws {
    var all: [Victim] = [.frontend(1), .frontend(2), .worker(1), .worker(2)]
    if database != nil { all.append(.database) }
    while Date() < end {
      let victims = Array(all.shuffled().prefix(.random(in: 1...2)))
      for victim in victims { try kill(victim) }
      usleep(.random(in: 0...400_000))
      // The database first: a frontend does not start without it.
      if victims.contains(.database) { try database?.start() }
      for victim in victims { try revive(victim) }
      usleep(.random(in: 100_000...800_000))
    }
  }

  private func kill(_ victim: Victim) throws {
    switch victim {
    case .frontend(let number): try deployment.kill("frontend-\(number)")
    case .worker(let number): try deployment.kill("worker-\(number)")
    case .database: try database?.kill()
    }
    kills[name(victim), default: 0] += 1
  }

  private func name(_ victim: Victim) -> String {
    switch victim {
    case .frontend: "frontend"
    case .worker: "crypto-worker"
    case .database: "PostgreSQL"
    }
  }

  private func revive(_ victim: Victim) throws {
    switch victim {
    case .frontend(let number): try retrying { try deployment.startFrontend(number) }
    case .worker(let number): try retrying { try deployment.startWorker(number) }
    case .database: break
    }
  }

  /// The system may have given the port of a dead frontend to one of our own connections for a moment.
  private func retrying(_ body: () throws -> Void) throws {
    for attempt in 1... {
      do {
        return try body()
      } catch {
        guard attempt < 20 else { throw error }
        usleep(200_000)
      }
    }
  }
}
