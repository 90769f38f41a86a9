import AgentCore
import ArgumentParser
import Configuration
import FoundationEssentials
import Glibc
import Observability

/// What the service commands share.
enum ServiceManager {
  static let withoutSystemd = """
    This host does not run systemd. Start the agent by your own service manager: agent run --config FILE, \
    restarted whenever it ends; agent install --print shows the settings.
    """

  static func requireSystemd() throws {
    guard FileManager.default.fileExists(atPath: "/run/systemd/system") else {
      throw ValidationError(withoutSystemd)
    }
  }

  /// - Returns: the exit status.
  @discardableResult
  static func systemctl(_ arguments: [String]) throws -> Int32 {
    var pointers = (["systemctl"] + arguments).map { strdup($0) }
    defer { for pointer in pointers { free(pointer) } }
    pointers.append(nil)
    var child: pid_t = 0
    let code = posix_spawnp(&child, "systemctl", nil, nil, &pointers, environ)
    guard code == 0 else {
      throw ValidationError("systemctl cannot be started: \(String(cString: strerror(code)))")
    }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0 {
      guard errno == EINTR else { throw ValidationError("systemctl was lost: \(String(cString: strerror(errno)))") }
    }
    // As the shell has it: the exit code, or 128 and the signal.
    return status & 0x7F == 0 ? (status >> 8) & 0xFF : 128 + (status & 0x7F)
  }
}

/// `agent install`.
struct InstallCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "install", abstract: "Installs and starts the agent as a systemd service.")

  @Option(name: .long, help: "The client file (client.config.yaml); without it the one in the executable.")
  var config: String?

  @Flag(name: .long, help: "Write the unit to standard output and change nothing.")
  var print = false

  func run() throws {
    let program = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? "/usr/bin/agent"
    let file = config.map { URL(fileURLWithPath: $0).standardizedFileURL.path }
    if file == nil, try EmbeddedConfig.read() == nil {
      throw ValidationError("name the client file: agent install --config FILE (this executable carries none)")
    }
    let text = try ServiceUnit.text(program: program, config: file)
    if print { return StandardStream.output.write(text) }
    try ServiceManager.requireSystemd()
    try Data(text.utf8).write(to: URL(fileURLWithPath: ServiceUnit.path), options: .atomic)
    for arguments in [["daemon-reload"], ["enable", "--now", ServiceUnit.name]] {
      let status = try ServiceManager.systemctl(arguments)
      if status != 0 { throw ExitCode(status) }
    }
  }
}

/// `agent uninstall`: the state stays, so that a later agent is the same client.
struct UninstallCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "uninstall", abstract: "Stops and removes the service; its state is kept.")

  func run() throws {
    try ServiceManager.requireSystemd()
    try ServiceManager.systemctl(["disable", "--now", ServiceUnit.name])
    if FileManager.default.fileExists(atPath: ServiceUnit.path) {
      try FileManager.default.removeItem(atPath: ServiceUnit.path)
    }
    try ServiceManager.systemctl(["daemon-reload"])
  }
}

/// `agent status`.
struct StatusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "Says whether the service runs; the exit code is systemctl's.")

  func run() throws {
    try ServiceManager.requireSystemd()
    let status = try ServiceManager.systemctl(["status", "--no-pager", ServiceUnit.name])
    if status != 0 { throw ExitCode(status) }
  }
}
