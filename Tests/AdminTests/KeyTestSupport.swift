import Configuration
import Foundation
import XCTest

@testable import microraptor

/// A deployment's directory for one test.
final class KeyWorkspace {
  let root = NSTemporaryDirectory() + "mr-\(UUID().uuidString.prefix(8))"
  var directory: String { root + "/d" }

  init() throws {
    try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: root) }

  static let now = Date(timeIntervalSince1970: 1_800_000_000)

  func generate(workers: [String] = []) throws {
    var choices = DeploymentPlan.Choices(directory: directory)
    choices.hostNames = ["velo.example.org"]
    choices.workerEndpoints = workers
    let plan = try DeploymentPlan(choices)
    try DeploymentWriter.write(try DeploymentFiles(plan: plan, now: Self.now), plan: plan, force: false)
  }

  func path(_ name: String) -> String { "\(directory)/\(name)" }
  func text(_ name: String) throws -> String { try ConfigFile.read(path(name)) }
  func worker() throws -> WorkerConfig { try WorkerConfig.load(path: path(DeploymentFiles.workerFile)) }
  func frontend() throws -> FrontendConfig { try FrontendConfig.load(path: path(DeploymentFiles.frontendFile)) }

  /// The error that the body throws, as text.
  static func refusal(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "accepted"
    } catch {
      return "\(error)"
    }
  }
}
