import FoundationEssentials
import Glibc
import Logging
import PKI
import PublicIdentity

/// Looks at everything between this host and its servers, and names the remedy of what fails. Changes nothing: no
/// enrollment, no task is taken.
package struct Doctor: Sendable {
  /// A larger difference of the clocks is reported: certificates and logs suffer from it.
  static let clockTolerance: TimeInterval = 300

  private let settings: AgentSettings
  private let now: @Sendable () -> Date

  package init(settings: AgentSettings, now: @escaping @Sendable () -> Date = { Date() }) {
    self.settings = settings
    self.now = now
  }

  package func examine() async -> DoctorReport {
    var report = DoctorReport()
    let key: RSAPrivateKey
    do {
      key = try identity(&report)
    } catch {
      report.fail(
        "identity", settings.writebackPath, "\(error)",
        remedy: "make the file readable for this user, or name another one with --writeback")
      return report
    }
    for url in settings.serverURLs { await examine(url, key, &report) }
    return report
  }

  /// The key of the state file; a passing one when the agent never ran.
  private func identity(_ report: inout DoctorReport) throws -> RSAPrivateKey {
    let path = settings.writebackPath
    let exists = [path, path + settings.writebackSuffix].contains { FileManager.default.fileExists(atPath: $0) }
    guard exists else {
      report.pass("identity", path, "no state file yet: the agent makes a key at its first start")
      return try RSAPrivateKey.generate()
    }
    let log = Logger(label: "doctor") { _ in SwiftLogNoOpLogHandler() }
    let writeback = try Writeback.open(path: path, suffix: settings.writebackSuffix, log: log)
    report.pass("identity", path, "this agent is \(writeback.clientID)")
    return writeback.privateKey
  }

  private func examine(_ text: String, _ key: RSAPrivateKey, _ report: inout DoctorReport) async {
    do {
      let url = try BaseURL(text)
      let proxy = settings.proxies.proxy(for: url)
      if let proxy { report.pass("proxy", text, "through \(proxy)") }
      let address = proxy.map { "\($0.host):\($0.port)" } ?? url.authority
      guard resolve(proxy?.host ?? url.host, text, fallback: settings.fallbackAddresses[address], &report) else {
        return
      }
      let chain = ChainRecorder()
      let rules = try DeploymentLeafRules(caCertificate: settings.caCertificate, now: now)
      let transport = try NIOTransport(settings: settings, rules: rules, onChain: { chain.set($0) })
      let answer = await fetch(url, transport, chain, &report)
      if let answer {
        checkClock(answer, text, &report)
        if checkServerPEM(answer, url, &report) {
          await roundTrip(url, key, answer.body, transport, &report)
        }
      }
      await transport.close()
    } catch {
      report.fail("configuration", text, "\(error)", remedy: "correct this key of the Client section")
    }
  }

  private func resolve(
    _ host: String, _ subject: String, fallback: String?, _ report: inout DoctorReport
  ) -> Bool {
    let (addresses, problem) = NameLookup.addresses(of: host)
    guard let problem else {
      report.pass("dns", subject, "\(host) is \(addresses.joined(separator: ", "))")
      return true
    }
    if let fallback {
      report.pass("dns", subject, "\(host) cannot be resolved: \(problem); its fallback address is \(fallback)")
      return true
    }
    report.fail(
      "dns", subject, "\(host) cannot be resolved: \(problem)",
      remedy: "correct the name in server_urls, or add it to the DNS server or /etc/hosts of this host")
    return false
  }

  // MARK: connection and TLS

  private func fetch(
    _ url: BaseURL, _ transport: NIOTransport, _ chain: ChainRecorder, _ report: inout DoctorReport
  ) async -> TransportAnswer? {
    do {
      var request = TransportRequest(url: url, handler: "server.pem", body: nil)
      request.responseLimit = 50 << 20
      let answer = try await transport.perform(request)
      report.pass("connection", url.text, "TCP and HTTP work")
      if url.usesTLS { report.pass("tls", url.text, CertificateFacts.text(chain.chain)) }
      return answer
    } catch {
      let found = DoctorDiagnosis.connection("\(error)", url: url, chain: chain.chain, settings, now: now())
      if found.check == "tls" { report.pass("connection", url.text, "TCP works") }
      report.fail(found.check, url.text, found.detail, remedy: found.remedy)
      return nil
    }
  }

  private func checkClock(_ answer: TransportAnswer, _ subject: String, _ report: inout DoctorReport) {
    guard let text = answer.date, let server = HTTPDate.parse(text) else { return }
    let skew = now().timeIntervalSince(server)
    guard abs(skew) > Self.clockTolerance else {
      return report.pass("clock", subject, "agrees with the server's within \(Int(Self.clockTolerance)) s")
    }
    report.fail(
      "clock", subject, "this host is \(Int(abs(skew))) s \(skew < 0 ? "behind" : "ahead of") the server (\(text))",
      remedy: "set the clock: timedatectl set-ntp true; wrong clocks make certificates look expired or not yet valid")
  }

  // MARK: server.pem

  /// - Returns: whether it is our server's.
  private func checkServerPEM(_ answer: TransportAnswer, _ url: BaseURL, _ report: inout DoctorReport) -> Bool {
    let subject = url.text + "server.pem"
    let body = String(decoding: answer.body, as: UTF8.self)
    guard answer.status == 200 else {
      let found = DoctorDiagnosis.status(answer, body)
      report.fail("server.pem", subject, found.detail, remedy: found.remedy)
      return false
    }
    do {
      let check = try ServerCertificateCheck(caPEM: settings.caCertificate, pinnedName: settings.pinnedServerName)
      let accepted = try check.verify(body, now: now())
      report.pass("server.pem", subject, CertificateFacts.text(accepted.certificate))
      return true
    } catch {
      let found = DoctorDiagnosis.serverPEM(error, body, now: now())
      report.fail("server.pem", subject, found.detail, remedy: found.remedy)
      return false
    }
  }

  // MARK: round trip

  /// An empty body to `control`: it is answered at once, and takes no task.
  private func roundTrip(
    _ url: BaseURL, _ key: RSAPrivateKey, _ serverPEM: [UInt8], _ transport: NIOTransport,
    _ report: inout DoctorReport
  ) async {
    let subject = url.text + "control"
    do {
      let trust = try ServerTrust(settings: settings, privateKey: key, now: now)
      _ = try trust.accept(serverPEM: serverPEM, rekey: true)
      let body = try trust.seal(lists: [], compressed: settings.compress)
      let answer = try await transport.perform(TransportRequest(url: url, handler: "control", body: body))
      switch answer.status {
      case 200:
        if answer.isMessage, answer.body.isEmpty {
          return report.pass("round-trip", subject, "enrolled; the server takes bodies; the nonce is right")
        }
        guard try trust.open(answer.body) != nil else {
          return report.fail(
            "round-trip", subject, "the answer is empty",
            remedy: "something between this host and the server answers in its place: look at proxies on the way")
        }
        report.pass("round-trip", subject, "enrolled; the server's answer opens; the nonce is right")
      case 406: report.pass("round-trip", subject, "the nonce is right; not enrolled yet: the agent will ask for it")
      case 403:
        report.fail(
          "round-trip", subject, "403: the server cannot open our body",
          remedy: "the nonce is not this deployment's: take Client.nonce from a fresh client file of this server")
      default:
        let found = DoctorDiagnosis.status(answer, String(decoding: answer.body, as: UTF8.self))
        report.fail("round-trip", subject, found.detail, remedy: found.remedy)
      }
    } catch {
      report.fail(
        "round-trip", subject, "\(error)",
        remedy: "what answers does not hold the server's key: a captive portal, a proxy, or a server being rotated")
    }
  }
}
