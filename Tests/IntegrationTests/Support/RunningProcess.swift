import Foundation
import ProcessSupport

/// A started executable whose output is read line by line.
final class RunningProcess: Sendable {
  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  let name: String
  private let process: Process
  private let output = ProcessOutput()

  /// The folder of the executables that were built with these tests.
  static var binaries: URL {
    URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()
  }

  init(_ executable: String, _ arguments: [String], name: String, environment: [String: String] = [:]) throws {
    self.name = name
    process = Process()
    process.executableURL =
      executable.hasPrefix("/")
      ? URL(fileURLWithPath: executable) : Self.binaries.appendingPathComponent(executable)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardInput = FileHandle.nullDevice
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    output.follow(pipe.fileHandleForReading)
  }

  var pid: Int32 { process.processIdentifier }
  var isRunning: Bool { process.isRunning }
  var lines: [String] { output.lines }

  /// Waits until a line holds the text, at most `seconds`.
  /// - Returns: the line.
  @discardableResult
  func wait(for text: String, seconds: Double = 60) throws -> String {
    if let line = output.wait(for: text, seconds: seconds) { return line }
    throw Failure(description: "\(name) did not say «\(text)»:\n" + lines.suffix(20).joined(separator: "\n"))
  }

  /// SIGTERM, and the exit code.
  func stop() -> Int32 {
    process.terminate()
    process.waitUntilExit()
    return process.terminationStatus
  }

  func kill() {
    Foundation.kill(pid, SIGKILL)
    process.waitUntilExit()
  }

  func waitForEnd() -> Int32 {
    process.waitUntilExit()
    return process.terminationStatus
  }

  /// Runs an executable to its end.
  /// - Returns: its exit code, its standard output, and what it wrote to standard error.
  static func run(_ path: String, _ arguments: [String]) throws -> (status: Int32, output: String, errors: String) {
    let process = Process()
    process.executableURL = path.hasPrefix("/") ? URL(fileURLWithPath: path) : binaries.appendingPathComponent(path)
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    // Files, not pipes: whoever fills one pipe while the other is read would wait for ever.
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("run-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    func stream(_ name: String) throws -> (FileHandle, URL) {
      let url = folder.appendingPathComponent(name)
      _ = FileManager.default.createFile(atPath: url.path, contents: nil)
      return (try FileHandle(forWritingTo: url), url)
    }
    let (output, outputURL) = try stream("output")
    let (errors, errorsURL) = try stream("errors")
    process.standardOutput = output
    process.standardError = errors
    try process.run()
    process.waitUntilExit()
    return (
      process.terminationStatus, try String(contentsOf: outputURL, encoding: .utf8),
      try String(contentsOf: errorsURL, encoding: .utf8)
    )
  }
}
