import Foundation
import XCTest

@testable import Configuration

/// `microraptor config`, run as the operator runs it: the executable lies beside the tests.
final class ConfigCommandTests: XCTestCase {
  private let root = NSTemporaryDirectory() + "mr-\(UUID().uuidString.prefix(8))"
  private var directory: String { root + "/d" }

  override func setUpWithError() throws {
    try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
  }

  override func tearDown() {
    try? FileManager.default.removeItem(atPath: root)
  }

  private struct Run {
    let status: Int32
    let output: String
    let errors: String
  }

  private func executable() throws -> URL {
    let tests = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let file = URL(fileURLWithPath: tests).deletingLastPathComponent().appendingPathComponent("microraptor")
    guard FileManager.default.isExecutableFile(atPath: file.path) else {
      throw NotBuilt(path: file.path)
    }
    return file
  }

  private struct NotBuilt: Error {
    let path: String
  }

  private func config(_ arguments: String..., input: String = "") throws -> Run {
    try config(arguments, input: input)
  }

  private func config(_ arguments: [String], input: String = "") throws -> Run {
    let process = Process()
    process.executableURL = try executable()
    process.arguments = ["config"] + arguments
    process.currentDirectoryURL = URL(fileURLWithPath: root)
    let output = Pipe()
    let errors = Pipe()
    let standardInput = Pipe()
    process.standardOutput = output
    process.standardError = errors
    process.standardInput = standardInput
    try process.run()
    try standardInput.fileHandleForWriting.write(contentsOf: Data(input.utf8))
    try standardInput.fileHandleForWriting.close()
    let text = try output.fileHandleForReading.readToEnd() ?? Data()
    let errorText = try errors.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return Run(
      status: process.terminationStatus, output: String(decoding: text, as: UTF8.self),
      errors: String(decoding: errorText, as: UTF8.self))
  }

  private func text(_ file: String) throws -> String {
    try ConfigFile.read("\(directory)/\(file)")
  }

  func testGenerateWritesOneFileForEachRole() throws {
    let run = try config(
      "generate", "--directory", directory, "--hostname", "velo.example.org", "--frontends", "2", "--workers", "3")
    XCTAssertEqual(run.status, 0, run.errors)
    for file in [
      "client.config.yaml", "frontend.config.yaml", "crypto-worker.config.yaml", "admin.config.yaml", "ca.pem",
      "ca.key.pem",
    ] {
      let attributes = try FileManager.default.attributesOfItem(atPath: "\(directory)/\(file)")
      XCTAssertEqual(attributes[.posixPermissions] as? Int, 0o600, file)
    }
    let attributes = try FileManager.default.attributesOfItem(atPath: directory)
    XCTAssertEqual(attributes[.posixPermissions] as? Int, 0o700)
    let client = try ClientConfig.load(path: "\(directory)/client.config.yaml").client
    XCTAssertEqual(client.serverURLs, ["https://velo.example.org:8000/", "https://velo.example.org:8001/"])
    XCTAssertTrue(client.useSelfSignedSSL)
    XCTAssertEqual(Data(base64Encoded: client.nonce)?.count, 8)
    let frontend = try FrontendConfig.load(path: "\(directory)/frontend.config.yaml")
    XCTAssertEqual(frontend.cryptoWorkers.endpoints.count, 3)
    XCTAssertEqual(frontend.datastore, DatastoreSection(implementation: .sqlite, location: directory + "/datastore"))
    let worker = try WorkerConfig.load(path: "\(directory)/crypto-worker.config.yaml")
    XCTAssertEqual(worker.nonce, client.nonce)
    XCTAssertEqual(worker.bindEndpoint, frontend.cryptoWorkers.endpoints.first)
    XCTAssertEqual(worker.certificate, frontend.frontend.certificate)
    XCTAssertEqual(try AdminConfig.load(path: "\(directory)/admin.config.yaml").client, client)
  }

  func testEachFileHoldsOnlyWhatItsRoleNeeds() throws {
    XCTAssertEqual(try config("generate", "--directory", directory).status, 0)
    XCTAssertFalse(try text("frontend.config.yaml").contains("RSA PRIVATE KEY"))
    XCTAssertFalse(try text("frontend.config.yaml").contains("nonce"))
    XCTAssertFalse(try text("client.config.yaml").contains("PRIVATE KEY"))
    XCTAssertFalse(try text("admin.config.yaml").contains("PRIVATE KEY"))
    let caKey = try text("ca.key.pem").split(separator: "\n")[3]
    XCTAssertFalse(try text("crypto-worker.config.yaml").contains(caKey))
  }

  /// The keys of the client file are a subset of those that a stock client file and the protocol's table have.
  func testClientFileHasOnlyStockKeys() throws {
    XCTAssertEqual(try config("generate", "--directory", directory, "--max-poll", "5").status, 0)
    let ours = try ConfigValue.parse(text: text("client.config.yaml"), file: "ours")
    let stock = try ConfigValue.parse(text: StockFiles.client, file: "stock")
    func paths(_ value: ConfigValue?, _ prefix: String = "") -> Set<String> {
      guard case .section(let entries)? = value else { return [prefix] }
      return entries.reduce(into: []) { $0.formUnion(paths($1.value, "\(prefix)/\($1.key)")) }
    }
    XCTAssertEqual(paths(ours).subtracting(paths(stock)), ["/Client/max_poll_std"])
  }

  func testNothingIsOverwrittenWithoutForce() throws {
    XCTAssertEqual(try config("generate", "--directory", directory).status, 0)
    let before = try text("ca.pem")
    let refused = try config("generate", "--directory", directory)
    XCTAssertEqual(refused.status, 1)
    XCTAssertTrue(refused.errors.contains("--force"), refused.errors)
    XCTAssertEqual(try text("ca.pem"), before)
    XCTAssertEqual(try config("generate", "--directory", directory, "--force").status, 0)
    XCTAssertNotEqual(try text("ca.pem"), before)
  }

  func testWrongChoicesNameTheOption() throws {
    for (arguments, option) in [
      (["--workers", "0"], "--workers"), (["--url", "https://a:1"], "--url"), (["--hostname", "a b"], "--hostname"),
      (["--frontend-port", "70000"], "--frontend-port"), (["--datastore", "mysql://x"], "--datastore"),
      (["--validity-days", "0"], "--validity-days"),
      (["--frontends", "1", "--frontend-port", "1", "--frontend-port", "2"], "--frontend-port"),
    ] {
      let run = try config(["generate", "--directory", directory] + arguments)
      XCTAssertEqual(run.status, 1, "\(arguments)")
      XCTAssertTrue(run.errors.contains(option), run.errors)
    }
    XCTAssertTrue(try config("generate").errors.contains("--directory is needed"))
    let long = root + "/" + String(repeating: "x", count: 120)
    XCTAssertTrue(try config("generate", "--directory", long).errors.contains("use a directory with a shorter name"))
    XCTAssertFalse(FileManager.default.fileExists(atPath: directory))
  }

  func testURLsOfSeveralHostsAndPorts() throws {
    func urls(_ arguments: [String]) throws -> [String] {
      let run = try config(["generate", "--force", "--directory", directory] + arguments)
      XCTAssertEqual(run.status, 0, run.errors)
      return try ClientConfig.load(path: "\(directory)/client.config.yaml").client.serverURLs
    }
    XCTAssertEqual(try urls([]), ["https://localhost:8000/"])
    XCTAssertEqual(try urls(["--hostname", "a", "--hostname", "b"]), ["https://a:8000/", "https://b:8000/"])
    XCTAssertEqual(
      try urls(["--hostname", "a", "--frontend-port", "443", "--frontend-port", "444"]),
      ["https://a/", "https://a:444/"])
    XCTAssertEqual(try urls(["--hostname", "::1", "--frontend-port", "9"]), ["https://[::1]:9/"])
    XCTAssertEqual(try urls(["--url", "wss://x/velo/"]), ["wss://x/velo/"])
  }

  func testWizardWithAnswersAndDefaults() throws {
    let run = try config("generate", "-i", input: "\(directory)\nvelo.example.org\n2\n9000\nwrong\n2\n\n2\nyes\n")
    XCTAssertEqual(run.status, 0, run.errors)
    XCTAssertTrue(run.errors.contains("Number of crypto-workers (1 to 512) [1]:"), run.errors)
    let client = try ClientConfig.load(path: "\(directory)/client.config.yaml").client
    XCTAssertEqual(client.serverURLs, ["https://velo.example.org:9000/", "https://velo.example.org:9001/"])
    XCTAssertEqual(
      try FrontendConfig.load(path: "\(directory)/frontend.config.yaml").cryptoWorkers.endpoints.count, 2)
    let declined = try config("generate", "-i", input: "\(root)/other\n\n\n\n\n\n\nno\n")
    XCTAssertEqual(declined.status, 1)
    XCTAssertTrue(declined.errors.contains("nothing was written"))
    XCTAssertFalse(FileManager.default.fileExists(atPath: root + "/other"))
    let defaults = try config("generate", "-i", "--directory", root + "/third")
    XCTAssertEqual(defaults.status, 0, defaults.errors)
    XCTAssertTrue(FileManager.default.fileExists(atPath: root + "/third/client.config.yaml"))
  }

  func testShowMasksSecrets() throws {
    XCTAssertEqual(try config("generate", "--directory", directory).status, 0)
    let nonce = try ClientConfig.load(path: "\(directory)/client.config.yaml").client.nonce
    for file in ["client", "frontend", "crypto-worker", "admin"] {
      let path = "\(directory)/\(file).config.yaml"
      for shown in [try config("show", path), try config("show", path, "--json")] {
        XCTAssertEqual(shown.status, 0, shown.errors)
        XCTAssertFalse(shown.output.contains("PRIVATE KEY"), file)
        XCTAssertFalse(shown.output.contains(nonce), file)
        XCTAssertTrue(shown.output.contains("BEGIN CERTIFICATE"), file)
      }
    }
    let json = try config("show", "\(directory)/frontend.config.yaml", "--json").output
    let object = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
    XCTAssertEqual((object?["CryptoWorkers"] as? [String: Any])?["routing_secret"] as? String, "(hidden)")
    let missing = try config("show", "\(directory)/none.yaml")
    XCTAssertEqual(missing.status, 1)
    XCTAssertTrue(missing.errors.contains("found no file"), missing.errors)
  }

  func testClientPrintsTheSameFileAgain() throws {
    XCTAssertEqual(try config("generate", "--directory", directory).status, 0)
    let again = try config("client", "--config", "\(directory)/admin.config.yaml")
    XCTAssertEqual(again.status, 0, again.errors)
    XCTAssertEqual(again.output, try text("client.config.yaml"))
    XCTAssertEqual(try config("client").status, 1)
  }
}
