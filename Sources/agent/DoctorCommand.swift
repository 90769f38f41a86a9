import AgentCore
import ArgumentParser
import Observability

/// `agent doctor`.
struct DoctorCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Says what keeps this host from its server, and what to do about it.",
    discussion: """
      Looks at names, connections, proxies, TLS, clocks, server.pem and enrollment. Changes nothing.
      Exit codes: 0 all passed; 1 something failed; 78 wrong configuration.
      """)

  @OptionGroup var files: FileOptions

  @Flag(name: .long, help: "Print JSON.")
  var json = false

  func run() async throws {
    let settings: AgentSettings
    do {
      settings = try files.settings()
    } catch {
      StandardStream.error.write("\(error)\n")
      throw FileOptions.configurationExit
    }
    let report = await Doctor(settings: settings).examine()
    StandardStream.output.write(json ? report.json : report.text)
    if !report.passed { throw ExitCode(1) }
  }
}
