import ArgumentParser
import Configuration
import Foundation

extension ConfigCommand {
  /// `microraptor config import`.
  struct Import: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Split a stock server's file into the role files of a new deployment; its agents keep their trust.",
      discussion: """
        The agents' URLs stay as they are: the frontends have to be reachable there. Keys of the file that have no use \
        here are left out, and named when this version does not know them.
        """)

    @Argument(help: "The stock server's file, server.config.yaml.")
    var file: String

    @Option(name: .long, help: "Where the files shall lie (made with mode 0700).")
    var directory: String

    @Option(name: .long, help: "The port that frontends listen on. Default: the stock server's.")
    var frontendPort: Int?

    @Option(name: .long, parsing: .upToNextOption, help: "Number of crypto-workers, or their endpoints. Default: 1.")
    var workers: [String] = []

    @Option(name: .long, help: "A directory for SQLite, or a postgresql:// URL. Default: DIRECTORY/datastore.")
    var datastore: String?

    @Option(name: .long, help: "A name or address to add to the TLS certificate; may be repeated.")
    var hostname: [String] = []

    @Option(name: .long, help: "The CA key, when the stock file does not hold it.")
    var caKey: String?

    @Option(name: .long, help: "Days that the new TLS certificate is valid.")
    var validityDays = 365

    @Flag(name: .long, help: "Replace the files of an existing deployment.")
    var force = false

    func run() throws {
      try ConfigFailure.wrapping {
        if let frontendPort, !(1...65_535).contains(frontendPort) {
          throw ConfigFailure("--frontend-port: expected 1 to 65535, found \(frontendPort)")
        }
        let stock = try StockServerFile.parse(text: try ConfigFile.read(file), file: file)
        let (count, endpoints) = try WorkerList.parse(workers)
        let plan = try DeploymentPlan(
          DeploymentPlan.Choices(
            directory: directory, hostNames: hostname, workers: count, workerEndpoints: endpoints,
            datastore: datastore, urls: stock.section.serverURLs, validityDays: validityDays))
        let result = try ServerImport(
          stock, plan: plan,
          choices: ServerImport.Choices(
            frontendPort: frontendPort, hostNames: hostname, caKeyPEM: try caKey.map { try ConfigFile.read($0) },
            validityDays: validityDays),
          now: Date())
        try DeploymentWriter.write(result.files, plan: plan, force: force)
        print("Wrote the deployment of \(file) to \(plan.directory):")
        for (name, _) in result.files.texts { print("  \(name)") }
        result.notes.forEach { print($0) }
        WorkerList.report(plan.workerEndpoints)
      }
    }
  }
}
