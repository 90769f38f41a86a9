import ArgumentParser
import Configuration
import Foundation

/// Where the deployment and its CA key are.
struct KeyOptions: ParsableArguments {
  @Option(name: .long, help: "Where the deployment's files lie.")
  var directory: String

  @Option(name: .long, help: "The CA key, when it is not in the directory because it is kept offline.")
  var caKey: String?

  @Option(name: .long, help: "Days that the new certificates are valid.")
  var validityDays = 365
}

extension ConfigCommand {
  /// `microraptor config rotate`.
  struct Rotate: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Replace the message key; no agent has to enroll again.",
      discussion: """
        Makes a new RSA key and certificate under the same CA. Crypto-workers accept the former key too for a while, \
        so that agents with the former certificate lose nothing until they fetch the new one.
        """)

    @OptionGroup var options: KeyOptions

    @Option(name: .long, help: "Days that the former key is accepted; 0 for a key that has leaked.")
    var acceptOld = 30

    func run() throws {
      try ConfigFailure.wrapping {
        var rotation = try KeyRotation(directory: options.directory, caKey: options.caKey, now: Date())
        let report = try rotation.rotate(acceptDays: acceptOld, validityDays: options.validityDays)
        report.lines.forEach { print($0) }
      }
    }
  }

  /// `microraptor config reissue`.
  struct Reissue: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Make the message certificate and the TLS certificate anew for the same keys.",
      discussion: "Also removes previous message keys whose time is over.")

    @OptionGroup var options: KeyOptions

    @Option(name: .long, help: "A name or address to add to the TLS certificate; may be repeated.")
    var hostname: [String] = []

    func run() throws {
      try ConfigFailure.wrapping {
        var rotation = try KeyRotation(directory: options.directory, caKey: options.caKey, now: Date())
        let report = try rotation.reissue(validityDays: options.validityDays, hostNames: hostname)
        report.lines.forEach { print($0) }
      }
    }
  }

  /// `microraptor config workers`.
  struct Workers: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Set where the crypto-workers of an existing deployment are; makes CURVE keys when they are needed.")

    @Option(name: .long, help: "Where the deployment's files lie.")
    var directory: String

    @Flag(name: .long, help: "Replace the CURVE keys that are there.")
    var newKeys = false

    @Argument(help: "The workers' endpoints: tcp://host:port or ipc:///path.")
    var endpoints: [String]

    func run() throws {
      try ConfigFailure.wrapping {
        let list = try DeploymentPlan.endpoints(endpoints)
        let lines = try Self.apply(list, to: try DeploymentFolder(directory), newKeys: newKeys)
        lines.forEach { print($0) }
        WorkerList.report(list)
      }
    }

    /// Changes both files.
    static func apply(_ list: [WorkerEndpoint], to start: DeploymentFolder, newKeys: Bool) throws -> [String] {
      var folder = start
      var worker = folder.workerConfig
      var frontend = folder.frontendConfig
      let isKeyed = worker.curve != nil && frontend.cryptoWorkers.curve != nil
      let makesKeys = newKeys || (list.contains(where: \.needsCurve) && !isKeyed)
      if makesKeys {
        let pairs = try CurvePairs.make()
        worker.curve = pairs.worker
        frontend.cryptoWorkers.curve = pairs.frontend
        folder.worker.value.set(["CryptoWorkers", "curve"], pairs.worker.value)
        folder.frontend.value.set(["CryptoWorkers", "curve"], pairs.frontend.value)
      }
      let bind = list.first.map(DeploymentPlan.bindEndpoint)
      worker.bindEndpoint = bind
      frontend.cryptoWorkers.endpoints = list
      folder.worker.value.set(["CryptoWorkers", "bind_endpoint"], bind.map { .text($0.description) })
      folder.frontend.value.set(["CryptoWorkers", "endpoints"], .texts(list.map(\.description)))
      try folder.write(worker: worker, frontend: frontend)
      let keys = makesKeys ? "new CURVE keys" : worker.curve == nil ? "no CURVE" : "the same CURVE keys"
      return [
        "\(list.count) crypto-worker(s), \(keys):", "  \(folder.worker.path)", "  \(folder.frontend.path)",
        "Copy the files to their machines and restart crypto-workers and frontends.",
      ] + [folder.commentNote].compactMap { $0 }
    }
  }
}
