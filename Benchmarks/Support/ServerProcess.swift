import Foundation
import ProcessSupport

/// A started executable whose output is read line by line.
final class ServerProcess: Sendable {
  let name: String
  private let process: Process
  private let output = ProcessOutput(keeping: 2000)

  init(_ executable: URL, _ arguments: [String], name: String) throws {
    self.name = name
    guard FileManager.default.isExecutableFile(atPath: executable.path) else {
      throw Trouble("\(executable.lastPathComponent) is not built: swift build -c release, or --bin FOLDER")
    }
    process = Process()
    process.executableURL = executable
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.start()
    output.follow(pipe.fileHandleForReading)
  }

  var pid: Int32 { process.processIdentifier }
  var isRunning: Bool { process.isRunning }
  var lines: [String] { output.lines }

  /// Waits until a line holds the text.
  @discardableResult
  func wait(for text: String, seconds: Double = 30) throws -> String {
    if let line = output.wait(for: text, seconds: seconds) { return line }
    throw Trouble("\(name) did not say «\(text)»: " + lines.suffix(3).joined(separator: " / "))
  }

  /// SIGTERM, and SIGKILL when that does not help.
  func stop(seconds: Double = 5) {
    guard process.isRunning else { return }
    process.terminate()
    let end = Clock.now() + UInt64(seconds * 1e9)
    while process.isRunning, Clock.now() < end { usleep(10_000) }
    kill()
  }

  func kill() {
    guard process.isRunning else { return }
    Foundation.kill(pid, SIGKILL)
    process.waitUntilExit()
  }
}

extension Process {
  /// Starts the process with no signal blocked: threads of the concurrency pool block all, and children inherit that;
  /// a blocked SIGALRM would let `openssl speed` run for ever.
  func start() throws {
    var none = sigset_t()
    var former = sigset_t()
    sigemptyset(&none)
    pthread_sigmask(SIG_SETMASK, &none, &former)
    defer { pthread_sigmask(SIG_SETMASK, &former, nil) }
    try run()
  }
}

/// Commands that run to their end.
enum Command {
  struct Result {
    var status: Int32
    var output: String
    var errors: String
  }

  /// - Parameter path: absolute, or a name that is looked for in PATH.
  static func run(_ path: String, _ arguments: [String], in scratch: URL, seconds: Double = 60) throws -> Result {
    let process = Process()
    let isPath = path.hasPrefix("/")
    process.executableURL = URL(fileURLWithPath: isPath ? path : "/usr/bin/env")
    process.arguments = isPath ? arguments : [path] + arguments
    process.standardInput = FileHandle.nullDevice
    let files = ["out", "err"].map { scratch.appendingPathComponent("\($0)-\(UUID().uuidString.prefix(8))") }
    defer { for file in files { try? FileManager.default.removeItem(at: file) } }
    for file in files { _ = FileManager.default.createFile(atPath: file.path, contents: nil) }
    process.standardOutput = try FileHandle(forWritingTo: files[0])
    process.standardError = try FileHandle(forWritingTo: files[1])
    try process.start()
    let end = Clock.now() + UInt64(seconds * 1e9)
    while process.isRunning, Clock.now() < end { usleep(2000) }
    guard !process.isRunning else {
      Foundation.kill(process.processIdentifier, SIGKILL)
      throw Trouble("\(path) did not end within \(Int(seconds)) s")
    }
    process.waitUntilExit()
    return Result(
      status: process.terminationStatus, output: try String(contentsOf: files[0], encoding: .utf8),
      errors: try String(contentsOf: files[1], encoding: .utf8))
  }

  /// Runs a command that has to succeed.
  static func check(_ path: String, _ arguments: [String], in scratch: URL) throws -> String {
    let result = try run(path, arguments, in: scratch)
    guard result.status == 0 else {
      throw Trouble("\(path) \(arguments.first ?? ""): \(result.errors.split(separator: "\n").last ?? "failed")")
    }
    return result.output
  }

  /// Private RSA-2048 operations per second of processor time, as OpenSSL itself measures them.
  static func openSSLPrivateOperations(_ settings: Settings) throws -> Double {
    let seconds = settings.quick ? 1 : 2
    let output = try check("openssl", ["speed", "-mr", "-seconds", "\(seconds)", "rsa2048"], in: settings.scratch)
    let line = output.split(separator: "\n").first { $0.hasPrefix("+F2:") }
    guard let fields = line?.split(separator: ":"), fields.count > 3, let each = Double(fields[3]), each > 0 else {
      throw Trouble("openssl speed printed nothing to read")
    }
    // Older versions print seconds for each operation, newer ones operations a second.
    return each < 1 ? 1 / each : each
  }
}
