import Configuration
import Foundation
import PKI
import WorkerLink
import XCTest

@testable import microraptor

final class KeyRotationTests: XCTestCase {
  private let now = KeyWorkspace.now
  private func later(_ days: Double) -> Date { now.addingTimeInterval(days * 86_400) }

  private func rotate(
    _ space: KeyWorkspace, at date: Date, accept: Int = 30, caKey: String? = nil
  ) throws -> [String] {
    var rotation = try KeyRotation(directory: space.directory, caKey: caKey, now: date)
    return try rotation.rotate(acceptDays: accept, validityDays: 365).lines
  }

  func testRotationKeepsTheFormerKeyForAWhile() throws {
    let space = try KeyWorkspace()
    try space.generate()
    let before = try space.worker()
    let client = try space.text("client.config.yaml")
    let frontendBefore = try space.frontend()
    let lines = try rotate(space, at: later(100))
    XCTAssertTrue(lines.contains { $0.contains("crypto-workers first") }, "\(lines)")
    let worker = try space.worker()
    XCTAssertNotEqual(worker.privateKey, before.privateKey)
    XCTAssertEqual(
      worker.previousKeys,
      [PreviousKey(privateKey: before.privateKey, certificate: before.certificate, acceptUntil: later(130))])
    XCTAssertEqual(worker.nonce, before.nonce)
    let frontend = try space.frontend()
    XCTAssertEqual(frontend.frontend.certificate, worker.certificate)
    XCTAssertEqual(frontend.frontend.tls, frontendBefore.frontend.tls)
    XCTAssertEqual(frontend.cryptoWorkers, frontendBefore.cryptoWorkers)
    XCTAssertFalse(try space.text("frontend.config.yaml").contains("RSA PRIVATE KEY"))
    XCTAssertTrue(try space.text("frontend.config.yaml").hasPrefix("# For frontends"))
    XCTAssertEqual(try space.text("client.config.yaml"), client, "agents need nothing new")
    // What an agent checks.
    let check = try ServerCertificateCheck(caPEM: frontend.client.caCertificate)
    let accepted = try check.verify(worker.certificate, now: later(101))
    XCTAssertEqual(accepted.publicKey, try RSAPrivateKey(pem: worker.privateKey).publicKey)
    for file in ["crypto-worker.config.yaml", "frontend.config.yaml"] {
      let attributes = try FileManager.default.attributesOfItem(atPath: space.path(file))
      XCTAssertEqual(attributes[.posixPermissions] as? Int, 0o600, file)
    }
  }

  func testSeveralRotations() throws {
    let space = try KeyWorkspace()
    try space.generate()
    _ = try rotate(space, at: later(0))
    let second = try space.worker()
    _ = try rotate(space, at: later(10))
    XCTAssertEqual(try space.worker().previousKeys.map(\.acceptUntil), [later(40), later(30)])
    // The first key's time is over; the second is ended at once.
    _ = try rotate(space, at: later(35), accept: 0)
    XCTAssertEqual(try space.worker().previousKeys.map(\.privateKey), [second.privateKey])
    var rotation = try KeyRotation(directory: space.directory, caKey: nil, now: later(41))
    let lines = try rotation.reissue(validityDays: 100, hostNames: []).lines
    XCTAssertTrue(lines.contains { $0.contains("1 previous key(s)") }, "\(lines)")
    XCTAssertEqual(try space.worker().previousKeys, [])
  }

  func testTheCAKeyMayBeOffline() throws {
    let space = try KeyWorkspace()
    try space.generate()
    let offline = space.root + "/offline.pem"
    try FileManager.default.moveItem(atPath: space.path("ca.key.pem"), toPath: offline)
    let before = try space.text("crypto-worker.config.yaml")
    let refused = KeyWorkspace.refusal { _ = try rotate(space, at: now) }
    XCTAssertTrue(refused.contains("--ca-key FILE"), refused)
    let missing = KeyWorkspace.refusal { _ = try rotate(space, at: now, caKey: "/none.pem") }
    XCTAssertTrue(missing.contains("--ca-key /none.pem: no such file"), missing)
    let other = space.root + "/other.pem"
    try ConfigFile.write(try CertificateAuthority.create(now: now).key.pkcs1PEM, to: other)
    let wrong = KeyWorkspace.refusal { _ = try rotate(space, at: now, caKey: other) }
    XCTAssertTrue(wrong.contains("does not belong to the CA certificate"), wrong)
    XCTAssertEqual(try space.text("crypto-worker.config.yaml"), before)
    _ = try rotate(space, at: now, caKey: offline)
    XCTAssertEqual(try space.worker().previousKeys.count, 1)
  }

  func testReissueKeepsTheKeys() throws {
    let space = try KeyWorkspace()
    try space.generate()
    let before = try (space.worker(), space.frontend())
    var rotation = try KeyRotation(directory: space.directory, caKey: nil, now: later(300))
    _ = try rotation.reissue(validityDays: 200, hostNames: ["extra.example.org", "10.0.0.9"])
    let (worker, frontend) = try (space.worker(), space.frontend())
    XCTAssertEqual(worker.privateKey, before.0.privateKey)
    XCTAssertEqual(try Certificate(pem: worker.certificate).notAfter, later(500))
    XCTAssertEqual(frontend.frontend.certificate, worker.certificate)
    guard case .inline(let pem, let key) = frontend.frontend.tls,
      case .inline(_, let keyBefore) = before.1.frontend.tls
    else { return XCTFail("no leaf") }
    XCTAssertEqual(key, keyBefore)
    let leaf = try Certificate(pem: pem)
    XCTAssertEqual(leaf.notAfter, later(500))
    XCTAssertEqual(leaf.dnsNames, ["VelociraptorServer", "velo.example.org", "extra.example.org"])
    XCTAssertEqual(leaf.ipAddresses, ["10.0.0.9"])
    XCTAssertTrue(try ECPrivateKey(pem: key).matches(leaf))
    XCTAssertNoThrow(try TrustAnchors(pem: frontend.client.caCertificate).verifyLeaf(leaf.der, at: later(400)))
  }

  /// What cannot be written back as it was is refused before anything is written.
  func testOtherSettingsAreNeverChanged() throws {
    let space = try KeyWorkspace()
    try space.generate()
    let path = space.path("crypto-worker.config.yaml")
    let odd = try space.text("crypto-worker.config.yaml") + "Orgs: {OABCD: 0012}\n"
    try ConfigFile.write(odd, to: path)
    let refused = KeyWorkspace.refusal { _ = try rotate(space, at: now) }
    XCTAssertTrue(refused.contains("nothing was written"), refused)
    XCTAssertEqual(try space.text("crypto-worker.config.yaml"), odd)
    try ConfigFile.write(odd.replacingOccurrences(of: "0012", with: "\"0012\"") + "# note\n", to: path)
    let lines = try rotate(space, at: now)
    XCTAssertEqual(try space.worker().orgs, ["OABCD": "0012"])
    XCTAssertTrue(lines.contains { $0.contains("Comments inside") }, "\(lines)")
  }

  func testCurveKeysForWorkersOnOtherMachines() throws {
    let space = try KeyWorkspace()
    try space.generate(workers: ["tcp://10.0.0.5:9000", "tcp://worker.example.org:9001"])
    let (worker, frontend) = try (space.worker(), space.frontend())
    XCTAssertEqual(worker.bindEndpoint, .tcp(host: "10.0.0.5", port: 9000))
    XCTAssertEqual(
      DeploymentPlan.bindEndpoint(of: .tcp(host: "worker.example.org", port: 9001)), .tcp(host: "0.0.0.0", port: 9001))
    let ours = try XCTUnwrap(worker.curve)
    let theirs = try XCTUnwrap(frontend.cryptoWorkers.curve)
    XCTAssertEqual(ours.peerPublicKeys, [theirs.publicKey])
    XCTAssertEqual(theirs.peerPublicKeys, [ours.publicKey])
    for keys in [ours, theirs] {
      XCTAssertNoThrow(
        try CurveKeys(publicKey: keys.publicKey, secretKey: keys.secretKey, peerPublicKeys: keys.peerPublicKeys))
    }
    XCTAssertFalse(try space.text("frontend.config.yaml").contains(ours.secretKey))
    // A rotation leaves them alone.
    _ = try rotate(space, at: now)
    XCTAssertEqual(try space.worker().curve, ours)
  }

  func testWorkersOfAnExistingDeployment() throws {
    let space = try KeyWorkspace()
    try space.generate()
    XCTAssertNil(try space.worker().curve)
    func apply(_ endpoints: [String], newKeys: Bool = false) throws {
      _ = try ConfigCommand.Workers.apply(
        try DeploymentPlan.endpoints(endpoints), to: try DeploymentFolder(space.directory), newKeys: newKeys)
    }
    let key = try space.worker().privateKey
    try apply(["tcp://127.0.0.1:9000"])
    XCTAssertNil(try space.frontend().cryptoWorkers.curve)
    try apply(["tcp://10.0.0.5:9000", "tcp://10.0.0.6:9000"])
    let first = try XCTUnwrap(try space.worker().curve)
    XCTAssertEqual(try space.frontend().cryptoWorkers.endpoints.count, 2)
    try apply(["tcp://10.0.0.7:9000"])
    XCTAssertEqual(try space.worker().curve, first)
    try apply(["tcp://10.0.0.7:9000"], newKeys: true)
    XCTAssertNotEqual(try space.worker().curve, first)
    XCTAssertEqual(try space.worker().privateKey, key)
  }

  func testWorkerLists() throws {
    XCTAssertEqual(try WorkerList.parse([]).count, 1)
    XCTAssertEqual(try WorkerList.parse(["3"]).count, 3)
    XCTAssertEqual(try WorkerList.parse(["tcp://a:1", "tcp://b:1"]).endpoints.count, 2)
    XCTAssertThrowsError(try WorkerList.parse(["3", "tcp://a:1"]))
    XCTAssertThrowsError(try DeploymentPlan.endpoints(["tcp://a:1", "tcp://a:1"]))
    XCTAssertThrowsError(try DeploymentPlan.endpoints(["tcp://a"]))
  }
}
