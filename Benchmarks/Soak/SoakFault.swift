import Foundation

/// Something that goes wrong for a while.
enum SoakFault: Sendable, Hashable {
  case frontendKilled(Int)
  case frontendStopped(Int)
  case workerKilled(Int)
  case workerStopped(Int)
  case nginxKilled
  case network(Int, Network)

  enum Network: String, Sendable, CaseIterable {
    case refused, cut, slow, corrupted, silent

    var mode: FaultProxy.Mode {
      switch self {
      case .refused: .refuse
      case .cut: .cut(after: .random(in: 100...20_000))
      case .slow: .delay(milliseconds: .random(in: 200...2500))
      case .corrupted: .corrupt
      case .silent: .stall
      }
    }
  }

  /// What faults of this kind are called in the report.
  var kind: String {
    switch self {
    case .frontendKilled: "frontend killed"
    case .frontendStopped: "frontend restarted"
    case .workerKilled: "crypto-worker killed"
    case .workerStopped: "crypto-worker restarted"
    case .nginxKilled: "nginx killed"
    case .network(_, let what): "network \(what.rawValue)"
    }
  }

  static func random() -> SoakFault {
    switch Int.random(in: 0..<10) {
    case 0: .frontendKilled(.random(in: 1...SoakDeployment.frontends))
    case 1: .frontendStopped(.random(in: 1...SoakDeployment.frontends))
    case 2: .workerKilled(.random(in: 1...SoakDeployment.workers))
    case 3: .workerStopped(.random(in: 1...SoakDeployment.workers))
    case 4: .nginxKilled
    default:
      .network(.random(in: 0..<SoakDeployment.frontends), Network.allCases.randomElement() ?? .cut)
    }
  }

  func begin(_ soak: SoakDeployment) throws {
    switch self {
    case .frontendKilled(let number): try soak.deployment.process("frontend-\(number)").kill()
    case .frontendStopped(let number): try soak.deployment.process("frontend-\(number)").stop(seconds: 40)
    case .workerKilled(let number): try soak.deployment.process("worker-\(number)").kill()
    case .workerStopped(let number): try soak.deployment.process("worker-\(number)").stop(seconds: 40)
    case .nginxKilled: try soak.deployment.process("nginx").kill()
    case .network(let index, let what): soak.networks[index].mode = what.mode
    }
  }

  func end(_ soak: SoakDeployment) throws {
    switch self {
    case .frontendKilled(let number), .frontendStopped(let number): try soak.startFrontend(number)
    case .workerKilled(let number), .workerStopped(let number): try soak.startWorker(number)
    case .nginxKilled: try soak.startNginx()
    case .network(let index, _): soak.networks[index].mode = .pass
    }
  }
}
