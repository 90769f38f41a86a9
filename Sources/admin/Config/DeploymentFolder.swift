import Configuration
import Foundation
import PKI
import PublicIdentity

/// A role's file that is to be changed in place: what is not touched stays as it is.
struct RoleFile {
  let path: String
  var value: ConfigValue
  /// The comment at the top, which is kept.
  private let comment: String
  /// Whether there are other comments, which are lost.
  let losesComments: Bool

  init(_ path: String) throws {
    self.path = path
    let text = try ConfigFile.read(path)
    value = try ConfigValue.parse(text: text, file: path)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    let top = lines.prefix { $0.hasPrefix("#") }
    comment = top.map { "\($0)\n" }.joined()
    losesComments = lines.dropFirst(top.count).contains { $0.drop(while: \.isWhitespace).hasPrefix("#") }
  }

  func text() throws -> String { try comment + value.yaml() }
}

/// The worker's and the frontend's file of a deployment, and the checks that every change of them must pass.
struct DeploymentFolder {
  let directory: String
  var worker: RoleFile
  var frontend: RoleFile
  let workerConfig: WorkerConfig
  let frontendConfig: FrontendConfig

  init(_ directory: String) throws {
    self.directory = URL(fileURLWithPath: directory).standardizedFileURL.path
    let workerPath = "\(self.directory)/\(DeploymentFiles.workerFile)"
    let frontendPath = "\(self.directory)/\(DeploymentFiles.frontendFile)"
    workerConfig = try WorkerConfig.load(path: workerPath)
    frontendConfig = try FrontendConfig.load(path: frontendPath)
    worker = try RoleFile(workerPath)
    frontend = try RoleFile(frontendPath)
  }

  /// The CA of the agents, with its key.
  ///
  /// - Parameter caKey: path of the key when it is kept elsewhere.
  func authority(caKey: String?) throws -> CertificateAuthority {
    let path = try caKeyPath(caKey)
    do {
      return try CertificateAuthority(
        certificatePEM: frontendConfig.client.caCertificate, keyPEM: try ConfigFile.read(path))
    } catch let error as PKIError {
      throw ConfigFailure("\(path): \(error) (Client.ca_certificate of \(frontend.path))")
    }
  }

  private func caKeyPath(_ given: String?) throws -> String {
    if let given {
      guard FileManager.default.fileExists(atPath: given) else {
        throw ConfigFailure("--ca-key \(given): no such file")
      }
      return given
    }
    let admin = try? AdminConfig.load(path: "\(directory)/\(DeploymentFiles.adminFile)")
    let usual = ["\(directory)/\(DeploymentFiles.caKeyFile)", admin?.caPrivateKeyFilename].compactMap { $0 }
    guard let path = usual.first(where: { FileManager.default.fileExists(atPath: $0) }) else {
      throw ConfigFailure(
        "the CA key is not at \(usual.joined(separator: " or ")), and only it can sign a certificate. If it is kept "
          + "offline, make it readable for this command and give its path: --ca-key FILE")
    }
    return path
  }

  /// Writes both files, the worker's first: workers that accept a new key are no harm while frontends do not yet serve
  /// its certificate, the other way round agents would get errors.
  ///
  /// - Parameters: what the files must mean afterwards; a change of anything else is refused.
  func write(worker expectedWorker: WorkerConfig, frontend expectedFrontend: FrontendConfig) throws {
    let workerText = try worker.text()
    let frontendText = try frontend.text()
    guard try WorkerConfig.parse(text: workerText, file: worker.path) == expectedWorker,
      try FrontendConfig.parse(text: frontendText, file: frontend.path) == expectedFrontend
    else {
      throw ConfigFailure(
        "the files in \(directory) cannot be rewritten without changing other settings; nothing was written. "
          + "Write unusual values in quotes and try again")
    }
    try ConfigFile.write(workerText, to: worker.path)
    try ConfigFile.write(frontendText, to: frontend.path)
  }

  /// What is lost by rewriting, for the operator.
  var commentNote: String? {
    let files = [worker, frontend].filter(\.losesComments).map(\.path)
    return files.isEmpty ? nil : "Comments inside \(files.joined(separator: " and ")) were not kept."
  }
}
