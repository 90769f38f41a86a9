import ArgumentParser
import Configuration
import Foundation

/// `microraptor config`: makes and shows a deployment's files.
struct ConfigCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "config", abstract: "Make, show and repeat a deployment's configuration files.",
    subcommands: [
      Generate.self, Show.self, Client.self, Repack.self, Rotate.self, Reissue.self, Import.self, Workers.self,
    ])
}

extension ConfigCommand {
  /// `microraptor config generate`.
  struct Generate: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Make a new deployment: keys, certificates and one file for each role.",
      discussion: """
        Frontend number i is reached at host name i (the last one when there are fewer) and port i. With --url the \
        agents get exactly those URLs, and --hostname only adds names to the TLS certificate.
        """)

    @Option(name: .long, help: "Where the files shall lie (made with mode 0700).")
    var directory: String?

    @Option(name: .long, help: "A public host name or address of the frontends; may be repeated. Default: localhost.")
    var hostname: [String] = []

    @Option(name: .long, help: "A frontend's port; may be repeated. Default: 8000, 8001, …")
    var frontendPort: [Int] = []

    @Option(name: .long, help: "Number of frontends. Default: as many as host names or ports.")
    var frontends: Int?

    @Option(
      name: .long, parsing: .upToNextOption,
      help: ArgumentHelp(
        "Number of crypto-workers, or their endpoints (tcp://host:port, ipc:///path). Default: 1.",
        discussion: "Endpoints beyond loopback get CURVE keys."))
    var workers: [String] = []

    @Option(name: .long, help: "A directory for SQLite, or a postgresql:// URL. Default: DIRECTORY/datastore.")
    var datastore: String?

    @Option(name: .long, help: "A URL for agents, ending in /; may be repeated. Replaces those made from host names.")
    var url: [String] = []

    @Option(name: .long, help: "The address that frontends listen on.")
    var bindAddress = "0.0.0.0"

    @Option(name: .long, help: "Days that the message certificate and the TLS certificate are valid.")
    var validityDays = 365

    @Option(name: .long, help: "Seconds that a reader waits, and that an agent waits after an error. Default: 60.")
    var maxPoll: Int?

    @Flag(name: .long, help: "Replace the files of an existing deployment. Its agents are lost.")
    var force = false

    @Flag(name: [.customShort("i"), .long], help: "Ask for the choices, each with a default.")
    var interactive = false

    func run() throws {
      let (count, endpoints) = try WorkerList.parse(workers)
      let choices = DeploymentPlan.Choices(
        directory: directory ?? "", hostNames: hostname, ports: frontendPort, frontends: frontends, workers: count,
        workerEndpoints: endpoints, datastore: datastore, urls: url, bindAddress: bindAddress,
        validityDays: validityDays, maxPoll: maxPoll)
      do {
        guard let plan = interactive ? try ConfigWizard.standard.run(choices) : try DeploymentPlan(choices) else {
          throw ConfigFailure("nothing was written")
        }
        // Before the keys are made, so that a refusal is quick.
        let existing = DeploymentWriter.existing(in: plan.directory)
        if !existing.isEmpty, !force {
          throw ConfigFailure(DeploymentWriter.refusal(plan.directory, existing))
        }
        try DeploymentWriter.write(try DeploymentFiles(plan: plan, now: Date()), plan: plan, force: force)
        report(plan)
      } catch let failure as ConfigFailure {
        throw failure
      } catch {
        throw ConfigFailure("\(error)")
      }
    }

    private func report(_ plan: DeploymentPlan) {
      print("Wrote a new deployment to \(plan.directory):")
      let urls = plan.urls.joined(separator: " ")
      print("  \(DeploymentFiles.clientFile)         agents (public; agents connect to \(urls))")
      print("  \(DeploymentFiles.frontendFile)       frontends: TLS key, routing secret")
      print("  \(DeploymentFiles.workerFile)  crypto-workers: the message key; secret")
      print("  \(DeploymentFiles.adminFile)          the operator: microraptor clients --config …")
      print("  \(DeploymentFiles.caFile)                     the CA certificate")
      print("  \(DeploymentFiles.caKeyFile)                 the CA key: move it offline; it only signs certificates")
      WorkerList.report(plan.workerEndpoints)
    }
  }

  /// `microraptor config show`.
  struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Print a configuration file with its secrets masked.")

    @Argument(help: "A configuration file of any role, or of a stock server or client.")
    var file: String

    @Flag(name: .long, help: "As JSON.")
    var json = false

    func run() throws {
      do {
        let value = SecretMask.apply(try ConfigValue.parse(text: try ConfigFile.read(file), file: file))
        print(json ? value.json() : try value.yaml(), terminator: json ? "\n" : "")
      } catch {
        throw ConfigFailure("\(error)")
      }
    }
  }

  /// `microraptor config client`.
  struct Client: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Print the agents' file again, from the operator's file.")

    @Option(name: .long, help: "The operator's file.")
    var config = DeploymentFiles.adminFile

    func run() throws {
      do {
        let admin = try AdminConfig.load(path: config)
        print(try DeploymentFiles.render(admin.clientFile), terminator: "")
      } catch {
        throw ConfigFailure("\(error)")
      }
    }
  }
}

/// `--workers`: a number, or endpoints.
enum WorkerList {
  static func parse(_ texts: [String]) throws(ConfigFailure) -> (count: Int, endpoints: [String]) {
    guard let first = texts.first else { return (1, []) }
    if texts.count == 1, let count = Int(first) { return (count, []) }
    if let number = texts.first(where: { Int($0) != nil }) {
      throw ConfigFailure(
        "--workers: expected one number, or only endpoints such as tcp://10.0.0.5:9000; found \(number)")
    }
    return (1, texts)
  }

  /// How to start workers that are not all alike.
  static func report(_ endpoints: [WorkerEndpoint]) {
    guard endpoints.contains(where: \.needsCurve) else { return }
    print("The link to the crypto-workers is encrypted with CURVE. Each worker is started with its own endpoint:")
    for endpoint in endpoints {
      let bind = DeploymentPlan.bindEndpoint(of: endpoint)
      print("  \(endpoint): crypto-worker --config \(DeploymentFiles.workerFile) --bind \(bind)")
    }
  }
}

/// What went wrong, for the operator; the exit status is 1.
struct ConfigFailure: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) {
    self.description = description
  }

  /// Runs a command's work; its errors become texts for the operator.
  static func wrapping(_ work: () throws -> Void) throws(ConfigFailure) {
    do {
      try work()
    } catch {
      throw ConfigFailure("\(error)")
    }
  }
}
