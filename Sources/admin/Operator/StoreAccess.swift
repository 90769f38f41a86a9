import ArgumentParser
import Configuration
import Foundation
import Store

/// `--config` and the store behind it.
struct StoreAccess: ParsableArguments {
  @Option(
    name: .long,
    help: "The operator's file, admin.config.yaml. Default: $MICRORAPTOR_CONFIG, then ./admin.config.yaml.")
  var config: String?

  /// Opens the store, runs `body`, closes the store. All errors end as one line on standard error and an exit code.
  func withStore(_ body: (any Store) async throws -> Void) async throws {
    let store: any Store
    do {
      store = try await open()
    } catch {
      throw CommandFailure.reported(error)
    }
    do {
      try await body(store)
      await store.close()
    } catch {
      await store.close()
      throw CommandFailure.reported(error)
    }
  }

  private func open() async throws -> any Store {
    switch try location() {
    case .sqlite(let path): return try await SQLiteStore.open(location: path)
    case .postgresql(let url): return try await PostgreSQLStore.open(url: url)
    }
  }

  /// Where the store lies, by the operator's file.
  func location() throws -> StoreLocation {
    let datastore = try file().datastore
    switch datastore.implementation {
    case .sqlite: return .sqlite(datastore.location)
    case .postgresql: return .postgresql(datastore.location)
    }
  }

  /// The operator's file.
  func file() throws -> AdminConfig {
    let variable = ProcessInfo.processInfo.environment["MICRORAPTOR_CONFIG"] ?? ""
    let path = config ?? (variable.isEmpty ? "admin.config.yaml" : variable)
    guard FileManager.default.fileExists(atPath: path) else {
      throw CommandFailure(.failed, "no file \(path): give --config FILE, as `microraptor config generate` wrote it")
    }
    return try AdminConfig.load(path: path)
  }
}

/// The exit codes of `microraptor --help`.
enum ExitStatus: Int32 {
  case failed = 1
  case flowFailed = 2
  case stillWaiting = 3
  case notFound = 4
  case usage = 64
  case interrupted = 130
}

/// An error with its exit code and a text that names the remedy.
struct CommandFailure: Error, Equatable, CustomStringConvertible {
  var status: ExitStatus
  var description: String

  init(_ status: ExitStatus, _ text: String) {
    self.status = status
    description = text
  }

  /// Prints any error as one line and gives the exit code to throw.
  static func reported(_ error: any Error) -> any Error {
    if error is ExitCode || error is ValidationError || error is CleanExit { return error }
    let failure = error as? CommandFailure ?? CommandFailure(.failed, "\(error)")
    if !failure.description.isEmpty { Terminal.note("microraptor: \(failure.description)") }
    return ExitCode(failure.status.rawValue)
  }
}

extension Operator {
  /// Who runs this command, for the audit trail.
  static var current: Operator {
    let environment = ProcessInfo.processInfo.environment
    let name = environment["SUDO_USER"] ?? NSUserName()
    return Operator(name: name, origin: ProcessInfo.processInfo.hostName)
  }
}
