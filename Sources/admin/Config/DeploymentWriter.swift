import Configuration
import Foundation

/// Puts a deployment's files in their directory: files 0600, directories 0700.
enum DeploymentWriter {
  /// The files of a deployment that are already there.
  static func existing(in directory: String) -> [String] {
    [
      DeploymentFiles.caKeyFile, DeploymentFiles.caFile, DeploymentFiles.workerFile, DeploymentFiles.frontendFile,
      DeploymentFiles.clientFile, DeploymentFiles.adminFile,
    ].filter { FileManager.default.fileExists(atPath: "\(directory)/\($0)") }
  }

  /// Why nothing is overwritten, and what to do.
  static func refusal(_ directory: String, _ existing: [String]) -> String {
    "\(directory) already holds \(existing.joined(separator: ", ")). Every agent of that deployment trusts its CA: "
      + "choose another --directory, or replace it for good with --force"
  }

  /// - Parameter force: replaces files that are there.
  /// - Throws: ``DeploymentPlan/Problem`` or `ConfigurationError`.
  static func write(_ files: DeploymentFiles, plan: DeploymentPlan, force: Bool) throws {
    let existing = existing(in: plan.directory)
    guard existing.isEmpty || force else {
      throw DeploymentPlan.Problem(description: refusal(plan.directory, existing))
    }
    try makeDirectory(plan.directory)
    try makeDirectory("\(plan.directory)/run")
    if plan.datastore.implementation == .sqlite {
      try makeDirectory(plan.datastore.location)
    }
    for (name, text) in files.texts {
      try ConfigFile.write(text, to: "\(plan.directory)/\(name)")
    }
  }

  /// Makes a directory of mode 0700; one that exists keeps its mode.
  private static func makeDirectory(_ path: String) throws {
    do {
      try FileManager.default.createDirectory(
        atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    } catch {
      throw DeploymentPlan.Problem(description: "\(path) cannot be made: \(error.localizedDescription)")
    }
  }
}
