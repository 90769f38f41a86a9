import XCTest

@testable import Configuration

final class ConfigValueTests: XCTestCase {
  func testYAMLRoundTrip() throws {
    let words = [
      "plain", "", "true", "No", "null", "~", "12", "1e5", "0x1f", "-", "a: b", "# c", "'q' \"d\"", " lead",
      "trail ", "ünï", "$ProgramFiles\\X", "*x", "&x", "!x", "%x", "@x", "[1]", "{a}", "a\nb\n", "a\nb", "c=", "0777",
      ":", "|",
    ]
    let value = ConfigValue.section([
      "words": .texts(words), "number": .integer(-5), "flag": .boolean(true), "none": .null, "empty": .list([]),
      "nested": .section(["no": .text("yes"), "12": .text("x")]), "nothing": .section([]),
    ])
    let text = try value.yaml()
    XCTAssertEqual(try ConfigValue.parse(text: text, file: "x"), value, text)
  }

  func testJSON() throws {
    let value = ConfigValue.section(["a": .texts(["x\n\"\\\u{1}"]), "b": .integer(1), "c": .null, "d": .list([])])
    XCTAssertEqual(
      value.json(),
      "{\n  \"a\": [\n    \"x\\n\\\"\\\\\\u0001\"\n  ],\n  \"b\": 1,\n  \"c\": null,\n  \"d\": []\n}")
  }

  func testMask() throws {
    let text = """
      Client: {nonce: N1, Crypto: {client_certificate_private_key: K1}}
      Frontend: {private_key: K2, tls_private_key: K3, certificate: public, odd: "-----BEGIN RSA PRIVATE KEY-----\\nK4"}
      CryptoWorkers: {routing_secret: S1}
      CA: {private_key_filename: /d/ca.key.pem, private_key: ""}
      GUI: {authenticator: {oauth_client_secret: S2}}
      Orgs: {OABCD: N2}
      Datastore: {location: "postgresql://user:PW1@host/db?password=PW2&x=1"}
      list: ["postgresql://user:PW3@host/db"]

      """
    let shown = try SecretMask.apply(ConfigValue.parse(text: text, file: "x")).yaml()
    for secret in ["N1", "N2", "K1", "K2", "K3", "K4", "S1", "S2", "PW1", "PW2", "PW3"] {
      XCTAssertFalse(shown.contains(secret), "\(secret) in \(shown)")
    }
    for kept in ["public", "/d/ca.key.pem", "OABCD", "postgresql://user:(hidden)@host/db?password=(hidden)&x=1"] {
      XCTAssertTrue(shown.contains(kept), "\(kept) not in \(shown)")
    }
  }

  func testStockServerFileIsMasked() throws {
    let shown = try SecretMask.apply(ConfigValue.parse(text: StockFiles.server, file: "x")).yaml()
    XCTAssertFalse(shown.contains("PRIVATE KEY"))
    XCTAssertFalse(shown.contains("m1AUbpfvkdY="))
    XCTAssertFalse(shown.contains("o16/H5U1Ee0="))
  }

  func testWritingIsPrivateAndReplaces() throws {
    let directory = NSTemporaryDirectory() + "microraptor-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let path = directory + "/file"
    try ConfigFile.write("one", to: path)
    try ConfigFile.write("two", to: path)
    XCTAssertEqual(try ConfigFile.read(path), "two")
    let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    XCTAssertEqual(mode, 0o600)
    XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: directory), ["file"])
    XCTAssertThrowsError(try ConfigFile.write("x", to: directory + "/no/file"))
    XCTAssertThrowsError(try ConfigFile.read(directory))
  }

  func testEditDistance() {
    XCTAssertEqual(EditDistance.between("", "abc"), 3)
    XCTAssertEqual(EditDistance.between("max_pol", "max_poll"), 1)
    XCTAssertEqual(EditDistance.between("kitten", "sitting"), 3)
  }
}
