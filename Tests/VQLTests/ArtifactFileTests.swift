import Foundation
import XCTest

@testable import VQL

/// The artifacts that come with the project: each must load, and its sources must run without a complaint.
final class ArtifactFileTests: ArtifactTestCase {
  func testEverySourceRuns() throws {
    let artifacts = try load()
    for artifact in artifacts where !artifact.type.hasSuffix("EVENT") && artifact.name != "Linux.Sys.SUID" {
      for source in artifact.sources {
        let argument = source.name.isEmpty ? "" : "source='\(source.name)'"
        _ = try run("SELECT * FROM Artifact.\(artifact.name)(\(argument)) LIMIT 20", artifacts)
      }
    }
  }

  func testProcessesHoldThisOne() throws {
    let rows = try run("SELECT * FROM Artifact.Linux.Processes() WHERE Pid = getpid()", try load())
    XCTAssertEqual(rows.count, 1)
    XCTAssertEqual(rows.first?["Pid"] as? Int, Int(getpid()))
    XCTAssertEqual(rows.first?["Ppid"] as? Int, Int(getppid()))
  }

  func testAccountsAgreeWithTheSystem() throws {
    let rows = try run("SELECT User, Uid, Gid, Homedir FROM Artifact.Linux.Sys.Users()", try load())
    XCTAssertFalse(rows.isEmpty)
    for row in rows {
      let name = row["User"] as? String ?? ""
      guard let entry = getpwnam(name) else { continue }
      XCTAssertEqual(row["Uid"] as? Int, Int(entry.pointee.pw_uid), name)
      XCTAssertEqual(row["Gid"] as? Int, Int(entry.pointee.pw_gid), name)
      XCTAssertEqual(row["Homedir"] as? String, String(cString: entry.pointee.pw_dir), name)
    }
  }

  func testFilesAreFoundByContent() throws {
    let artifacts = try load()
    let path = try FileTree.temporaryDirectory()
    defer { FileTree.remove(path) }
    try FileTree.write(Array("needle".utf8), to: path + "/a.txt")
    try FileTree.write(Array("hay".utf8), to: path + "/b.txt")
    let rows = try run(
      "SELECT OSPath, Hash.SHA256 AS Digest FROM Artifact.Linux.Search.FileFinder("
        + "Globs='Glob\n\(path)/*.txt\n', ContentRegex='NEEDLE', WithHash='Y')", artifacts)
    XCTAssertEqual(rows.count, 1)
    XCTAssertEqual(rows.first?["OSPath"] as? String, path + "/a.txt")
    XCTAssertEqual(
      rows.first?["Digest"] as? String, "09881f6ed93360a2f6ad81f435a8ca51ca4575d0f954f197ff8f7d16c6565562")
  }

  func testTablesOfCronAreRead() throws {
    let artifacts = try load()
    let path = try FileTree.temporaryDirectory()
    defer { FileTree.remove(path) }
    let table = "# comment\nPATH=/bin\n17 * * * * root cd / && run\n@reboot daemon /opt/start now\n"
    try FileTree.write(Array(table.utf8), to: path + "/crontab")
    try FileTree.write(Array("*/5 1-3 * * 1,2 echo hi\n".utf8), to: path + "/alice")
    let rows = try run(
      "SELECT User, When, Command FROM Artifact.Linux.Sys.Crontab(source='Tables', "
        + "SystemTables='\(path)/crontab', UserTables='\(path)/alice')", artifacts)
    XCTAssertEqual(rows.map { $0["User"] as? String }, ["root", "daemon", "alice"])
    XCTAssertEqual(rows.map { $0["When"] as? String }, ["17 * * * *", "@reboot", "*/5 1-3 * * 1,2"])
    XCTAssertEqual(rows.map { $0["Command"] as? String }, ["cd / && run", "/opt/start now", "echo hi"])
  }

  func testHistoryHasTimes() throws {
    let artifacts = try load()
    let path = try FileTree.temporaryDirectory()
    defer { FileTree.remove(path) }
    try FileTree.write(Array("ls -l\n#1600000000\nwhoami\n".utf8), to: path + "/.bash_history")
    let rows = try run(
      "SELECT Time, Command FROM Artifact.Linux.Sys.BashHistory(HistoryFiles='\(path)/.bash_history')", artifacts)
    XCTAssertEqual(rows.map { $0["Command"] as? String }, ["ls -l", "whoami"])
    XCTAssertEqual(rows.map { $0["Time"] as? String }, [nil, "2020-09-13T12:26:40Z"])
  }

  func testKeysHaveTheirParts() throws {
    let artifacts = try load()
    let path = try FileTree.temporaryDirectory()
    defer { FileTree.remove(path) }
    FileTree.makeParents(of: path + "/.ssh/x")
    try FileTree.write(Array("u:x:7:7::\(path):/bin/sh\n".utf8), to: path + "/passwd")
    let keys = "# c\nssh-ed25519 aGVsbG8= me@host\nfrom=\"10.0.0.1\",no-pty ssh-rsa aGVsbG8=\n"
    try FileTree.write(Array(keys.utf8), to: path + "/.ssh/authorized_keys")
    let rows = try run(
      "SELECT * FROM Artifact.Linux.Ssh.AuthorizedKeys(PasswordFile='\(path)/passwd')", artifacts)
    XCTAssertEqual(rows.map { $0["Type"] as? String }, ["ssh-ed25519", "ssh-rsa"])
    XCTAssertEqual(rows.map { $0["Comment"] as? String }, ["me@host", ""])
    XCTAssertEqual(rows.map { $0["Options"] as? String }, ["", "from=\"10.0.0.1\",no-pty"])
    XCTAssertEqual(
      rows.first?["KeySHA256"] as? String, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
  }
}
