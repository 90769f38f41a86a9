import Foundation
import XCTest

@testable import VQL

/// Rows of the artifacts beside what the system's own programs say of the same machine.
final class ArtifactRowsTests: ArtifactTestCase {
  func testProcessesAreThoseOfPs() throws {
    let child = Process()
    child.executableURL = URL(fileURLWithPath: "/bin/sleep")
    child.arguments = ["100"]
    try child.run()
    defer { child.terminate() }
    let rows = try run("SELECT Pid, Ppid, Name, Username FROM Artifact.Linux.Processes()", try load())
    var byPid: [String: [String: Any]] = [:]
    for row in rows { byPid["\(row["Pid"] ?? "")"] = row }
    var compared = 0
    for line in try lines("ps", "-eo", "pid=,ppid=,user:64=,comm=") {
      let fields = line.split(separator: " ", maxSplits: 3).map(String.init)
      // A process may have come or gone between the two looks.
      guard fields.count == 4, let row = byPid[fields[0]], "\(row["Ppid"] ?? "")" == fields[1] else { continue }
      let name = row["Name"] as? String ?? ""
      let shown = fields[3].trimmingCharacters(in: .whitespaces)
      // A program may be replaced by another in between: then the start of the name differs.
      guard name.hasPrefix(shown.prefix(15)) else { continue }
      XCTAssertEqual(row["Username"] as? String, fields[2], line)
      compared += 1
    }
    XCTAssertGreaterThan(compared * 10, rows.count * 8, "\(compared) of \(rows.count) processes agree")
    XCTAssertEqual(byPid["\(child.processIdentifier)"]?["Name"] as? String, "sleep")
  }

  func testListenersAreThoseOfSs() throws {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(listener) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isListening = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
        bind(listener, raw, size) == 0 && listen(listener, 1) == 0 && getsockname(listener, raw, &size) == 0
      }
    }
    guard isListening else { throw XCTSkip("no local port") }
    let port = Int(UInt16(bigEndian: address.sin_port))
    let rows = try run(
      "SELECT LocalAddress, LocalPort, Protocol, Pid FROM Artifact.Linux.Network.Netstat(StatusRegex='LISTEN')",
      try load())
    let own = rows.first { $0["LocalPort"] as? Int == port }
    XCTAssertEqual(own?["LocalAddress"] as? String, "127.0.0.1")
    XCTAssertEqual(own?["Pid"] as? Int, Int(getpid()))
    let listed = Set(rows.filter { $0["Protocol"] as? String == "TCP" }.compactMap { $0["LocalPort"] as? Int })
    let shown = try lines("ss", "-Htln").compactMap { line -> Int? in
      let fields = line.split(separator: " ")
      return fields.count > 3 ? fields[3].split(separator: ":").last.flatMap { Int($0) } : nil
    }
    XCTAssertTrue(shown.contains(port))
    // Others may open and close sockets meanwhile; most agree.
    XCTAssertGreaterThanOrEqual(Set(shown).intersection(listed).count * 10, Set(shown).count * 7)
  }

  func testAddressesAreThoseOfIp() throws {
    let rows = try run(
      "SELECT Name, Addresses FROM Artifact.Linux.Network.Interfaces(source='Addresses')", try load())
    var ours: Set<String> = []
    for row in rows {
      for address in row["Addresses"] as? [String] ?? [] { ours.insert("\(row["Name"] ?? "") \(address)") }
    }
    let theirs = try lines("ip", "-o", "addr").compactMap { line -> String? in
      let fields = line.split(separator: " ").map(String.init)
      return fields.count > 3 ? "\(fields[1]) \(fields[3])" : nil
    }
    XCTAssertEqual(ours, Set(theirs))
  }

  func testAccountsAreThoseOfGetent() throws {
    let rows = try run("SELECT User, Uid, Gid, Homedir, Shell FROM Artifact.Linux.Sys.Users()", try load())
    let ours = Set(
      rows.map { row in
        ["User", "Uid", "Gid", "Homedir", "Shell"].map { "\(row[$0] ?? "")" }.joined(separator: ":")
      })
    let theirs = try lines("getent", "-s", "files", "passwd").map { line -> String in
      let fields = line.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
      return [0, 2, 3, 5, 6].map { fields.indices.contains($0) ? fields[$0] : "" }.joined(separator: ":")
    }
    XCTAssertEqual(ours, Set(theirs))
  }

  func testFilesAreThoseOfStatAndSha256sum() throws {
    let path = try FileTree.temporaryDirectory()
    defer { FileTree.remove(path) }
    for (name, size) in [("a.bin", 0), ("b.bin", 1), ("c.bin", 200_000)] {
      try FileTree.write([UInt8](repeating: 7, count: size), to: "\(path)/\(name)")
    }
    chmod("\(path)/b.bin", 0o4755)
    let rows = try run(
      "SELECT OSPath, Size, Permissions, Mtime.Unix AS Time, Uid, Gid, Hash.SHA256 AS Digest "
        + "FROM Artifact.Linux.Search.FileFinder(Globs='Glob\n\(path)/*.bin\n', WithHash='Y')", try load())
    XCTAssertEqual(rows.count, 3)
    for row in rows {
      let file = row["OSPath"] as? String ?? ""
      let shown = try lines("stat", "-c", "%s %Y %u %g %a", file).first ?? ""
      let fields = ["Size", "Time", "Uid", "Gid"].map { "\(row[$0] ?? "")" }
      let isSetUser = (row["Permissions"] as? String)?.hasPrefix("u") == true
      XCTAssertEqual(fields.joined(separator: " "), shown.split(separator: " ").prefix(4).joined(separator: " "), file)
      XCTAssertEqual(isSetUser, shown.hasSuffix(" 4755"), file)
      XCTAssertEqual(row["Digest"] as? String, try lines("sha256sum", file).first.map { String($0.prefix(64)) }, file)
    }
  }

  func testMountsAreThoseOfFindmnt() throws {
    let rows = try run("SELECT MountPoint, Type FROM Artifact.Linux.Mounts(source='')", try load())
    let named = rows.isEmpty ? try run("SELECT MountPoint, Type FROM Artifact.Linux.Mounts()", try load()) : rows
    let ours = Set(named.map { "\($0["MountPoint"] ?? "") \($0["Type"] ?? "")" })
    let theirs = try lines("findmnt", "-rno", "TARGET,FSTYPE")
    XCTAssertFalse(theirs.isEmpty)
    for line in theirs where !line.contains("\\x") { XCTAssertTrue(ours.contains(line), line) }
  }
}
