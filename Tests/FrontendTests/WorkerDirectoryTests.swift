import Configuration
import Logging
import Observability
import Synchronization
import XCTest

@testable import frontend

/// Which workers a frontend has, and how that changes while it runs.
final class WorkerDirectoryTests: XCTestCase {
  private let fixed = WorkerEndpoint.ipc(path: "/run/w1.sock")
  private let pool = WorkerEndpoint.dns(host: "workers.example", port: 9000)

  func testANameStandsForItsAddresses() {
    var directory = WorkerDirectory([fixed, pool], isEncrypted: true)
    XCTAssertEqual(directory.workers, ["ipc:///run/w1.sock"])
    XCTAssertEqual(directory.names, [pool])
    XCTAssertNil(directory.resolved(pool, ["10.0.0.2", "10.0.0.1", "10.0.0.2", "fd00::1"]))
    XCTAssertEqual(
      directory.workers,
      ["ipc:///run/w1.sock", "tcp://10.0.0.1:9000", "tcp://10.0.0.2:9000", "tcp://[fd00::1]:9000"])
    XCTAssertNil(directory.resolved(pool, ["10.0.0.3"]))
    XCTAssertEqual(directory.workers, ["ipc:///run/w1.sock", "tcp://10.0.0.3:9000"])
  }

  /// A name server that is away takes no worker away.
  func testAFailedLookUpChangesNothing() {
    var directory = WorkerDirectory([pool], isEncrypted: true)
    _ = directory.resolved(pool, ["10.0.0.1"])
    XCTAssertEqual(directory.resolved(pool, []), .unknownName("dns+tcp://workers.example:9000"))
    XCTAssertEqual(directory.workers, ["tcp://10.0.0.1:9000"])
  }

  /// Without CURVE a name server must not be able to send decrypted jobs to another machine.
  func testPlainLinksStayOnThisMachine() {
    let local = WorkerEndpoint.dns(host: "localhost", port: 9000)
    var directory = WorkerDirectory([local], isEncrypted: false)
    XCTAssertEqual(
      directory.resolved(local, ["127.0.0.1", "10.0.0.1", "::1"]),
      .unsafeAddresses("dns+tcp://localhost:9000", count: 1))
    XCTAssertEqual(directory.workers, ["tcp://127.0.0.1:9000", "tcp://[::1]:9000"])
  }

  func testTheConfigurationChanges() {
    var directory = WorkerDirectory([fixed, pool], isEncrypted: true)
    _ = directory.resolved(pool, ["10.0.0.1"])
    directory.configure([pool, fixed, .tcp(host: "10.0.0.1", port: 9000)])
    XCTAssertEqual(directory.workers, ["tcp://10.0.0.1:9000", "ipc:///run/w1.sock"], "each once")
    directory.configure([fixed])
    XCTAssertEqual(directory.workers, ["ipc:///run/w1.sock"])
    XCTAssertNil(directory.resolved(pool, ["10.0.0.1"]), "an answer that comes too late")
    XCTAssertEqual(directory.workers, ["ipc:///run/w1.sock"])
  }

  func testTheFollowerAppliesWhatChanged() async {
    let answers = Mutex<[[String]]>([["10.0.0.1"], ["10.0.0.1"], [], ["10.0.0.1", "10.0.0.2"]])
    let applied = Mutex<[[String]]>([])
    let follower = WorkerFollower(
      WorkerDirectory([pool], isEncrypted: true), limited: RateLimitedLog(logger: Logger(label: "test")),
      resolve: { host in
        XCTAssertEqual(host, "workers.example")
        return answers.withLock { $0.isEmpty ? [] : $0.removeFirst() }
      },
      apply: { workers in applied.withLock { $0.append(workers) } })
    for _ in 0..<5 { await follower.lookUp() }
    XCTAssertEqual(
      applied.withLock { $0 }, [["tcp://10.0.0.1:9000"], ["tcp://10.0.0.1:9000", "tcp://10.0.0.2:9000"]])
    follower.configure([fixed])
    XCTAssertEqual(applied.withLock { $0.last }, ["ipc:///run/w1.sock"])
  }

  func testTheSystemKnowsLocalhost() async {
    let found = await NameLookUp.system("localhost")
    XCTAssertTrue(found.contains("127.0.0.1") || found.contains("::1"), "\(found)")
    let none = await NameLookUp.system("does-not-exist.invalid")
    XCTAssertEqual(none, [])
  }
}
