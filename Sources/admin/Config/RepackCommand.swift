import ArgumentParser
import Configuration
import Foundation

extension ConfigCommand {
  /// `microraptor config repack`.
  struct Repack: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Put the agents' file into the agent's executable: one file to roll out.",
      discussion: """
        The result runs without --config: agent, agent doctor, agent install. One that carries a file already gets the \
        new one. Sign or package it afterwards: a signature over the former file does not cover what is added.
        """)

    @Argument(help: "The agent's executable.")
    var agent: String

    @Argument(help: "Where the new executable goes.")
    var output: String

    @Option(name: .long, help: "The client file; without it the one of the operator's file is used.")
    var client: String?

    @Option(name: .long, help: "The operator's file.")
    var config = DeploymentFiles.adminFile

    func run() throws {
      try ConfigFailure.wrapping {
        let text =
          try client.map { try ConfigFile.read($0) }
          ?? DeploymentFiles.render(AdminConfig.load(path: config).clientFile)
        let name = client ?? config
        guard !text.contains("PRIVATE KEY-----") else {
          throw ConfigFailure(
            "\(name): it holds a private key, which must not be on endpoints. Embed the client file: "
              + "microraptor config client > client.config.yaml")
        }
        let file = try ClientConfig.parse(text: text, file: name)
        try EmbeddedConfig.write(text, into: agent, output: output)
        print("Wrote \(output), an agent for:")
        file.client.serverURLs.forEach { print("  \($0)") }
      }
    }
  }
}
