import ArgumentParser
import Foundation

/// `microraptor`: the operator's command.
@main
struct Microraptor: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "microraptor",
    abstract: "Operates a Microraptor deployment: clients, queries, results.",
    discussion: """
      The commands that use the store read --config FILE, the admin.config.yaml that `config generate` wrote; its \
      default is $MICRORAPTOR_CONFIG, then ./admin.config.yaml. CLIENT is a client id or a host name. Results go to \
      standard output, everything else to standard error.

      Exit codes: 0 done; 1 the store or the configuration failed; 2 a flow failed or was cancelled; 3 gave up \
      waiting, the flow goes on; 4 no such client or flow; 64 wrong usage; 130 interrupted, the flow goes on.
      """,
    subcommands: [
      ClientsCommand.self, QueryCommand.self, FlowsCommand.self, ResultsCommand.self, LogsCommand.self,
      HuntCommand.self, EventsCommand.self, UploadsCommand.self, MonitorCommand.self, WatchCommand.self,
      CancelCommand.self, DatabaseCommand.self, LabelCommand.self, DeleteCommand.self, PoolCommand.self,
      AuditCommand.self, ArtifactsCommand.self, ConfigCommand.self, DecodeCommand.self, PKICommand.self,
      VQLCommand.self,
    ])

  /// `--config FILE` may stand before the command as well as after it.
  static func main() async {
    var arguments = Array(CommandLine.arguments.dropFirst())
    if let first = arguments.first, first.hasPrefix("--config=") {
      setenv("MICRORAPTOR_CONFIG", String(first.dropFirst("--config=".count)), 1)
      arguments.removeFirst()
    } else if arguments.first == "--config", arguments.count > 1 {
      setenv("MICRORAPTOR_CONFIG", arguments[1], 1)
      arguments.removeFirst(2)
    }
    await main(arguments)
  }
}
