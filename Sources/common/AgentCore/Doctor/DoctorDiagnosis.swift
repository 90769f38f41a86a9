import FoundationEssentials
import Glibc
import PKI
import PublicIdentity
import Synchronization

/// From symptoms to causes, as values.
enum DoctorDiagnosis {
  struct Finding: Equatable {
    var check = "connection"
    var detail: String
    var remedy: String
  }

  /// Why no answer came.
  static func connection(
    _ error: String, url: BaseURL, chain: [[UInt8]], _ settings: AgentSettings, now: Date
  ) -> Finding {
    let notTLS = ["WRONG_VERSION_NUMBER", "HTTP_REQUEST", "EOF during handshake", "inside the TLS handshake"]
    if chain.isEmpty, notTLS.contains(where: error.contains) {
      return Finding(
        check: "tls", detail: "the port does not speak TLS (plain HTTP on an HTTPS port?)",
        remedy: "use http:// in server_urls, or let the server or its proxy terminate TLS on port \(url.port)")
    }
    if error.contains("the proxy") {
      return Finding(
        check: "proxy", detail: error, remedy: "correct Client.proxy_config or the HTTPS_PROXY variable, or the proxy")
    }
    if let leaf = chain.first, let certificate = try? Certificate(der: leaf), error.contains("TLS") {
      return tls(error, certificate, settings, now: now)
    }
    if error.contains("TLS") {
      return Finding(
        check: "tls", detail: error,
        remedy: "look at the server's TLS settings and at devices on the way that cut handshakes")
    }
    if error.contains("closed before") {
      return Finding(
        detail: error,
        remedy: "the server closes connections: is \(url.origin) an HTTPS port used with http://, or is it overloaded?")
    }
    return Finding(
      detail: error,
      remedy: "check that the server runs, and that firewalls let this host reach \(url.host) port \(url.port)")
  }

  private static func tls(_ error: String, _ leaf: Certificate, _ settings: AgentSettings, now: Date) -> Finding {
    let shown = CertificateFacts.text(leaf)
    if !leaf.isValid(at: now) {
      return Finding(
        check: "tls", detail: "the TLS certificate is expired or not valid yet: \(shown)",
        remedy: "renew the server's certificate; if its dates are right, set this host's clock")
    }
    let authority = (try? Certificate(pem: settings.caCertificate))?.subject
    if leaf.issuer != authority {
      return Finding(
        check: "tls", detail: "another authority made the TLS certificate (TLS inspection?): \(shown). \(error)",
        remedy: "exempt the server from TLS inspection, or set use_self_signed_ssl: false and add the "
          + "authority to Client.Crypto.root_certs")
    }
    return Finding(
      check: "tls", detail: "\(shown). \(error)",
      remedy: "let the server present a certificate for the name \(settings.pinnedServerName) or its host name")
  }

  /// An answer with a status that nothing of ours gives.
  static func status(_ answer: TransportAnswer, _ body: String) -> Finding {
    if WebPage.isOne(body) || answer.status == 511 || (300..<400).contains(answer.status) {
      let place = answer.location.map { " to \($0)" } ?? ""
      return Finding(
        detail: "status \(answer.status)\(place): a captive portal or a proxy answers",
        remedy: "log in to the network with a browser, or exempt this host from the portal")
    }
    switch answer.status {
    case 404:
      return Finding(
        detail: "404: there is no such page on this server",
        remedy: "add the server's base_path to server_urls, or name the frontend's port")
    case 400:
      return Finding(
        detail: "400: the server does not like the request",
        remedy: "an HTTPS port used with http://? Use https:// in server_urls")
    case 502, 503, 504, 408, 429:
      return Finding(
        detail: "\(answer.status): the server is there and cannot serve now",
        remedy: "look at the server's log; a proxy in front may have lost its frontend")
    default:
      return Finding(
        detail: "status \(answer.status), which this protocol does not use",
        remedy: "check that the URL is the frontend's and not the GUI's or another program's")
    }
  }

  static func serverPEM(_ error: any Error, _ body: String, now: Date) -> Finding {
    let text = "\(error)"
    if WebPage.isOne(body) {
      return Finding(
        detail: "\(text): a web page came instead (a captive portal?)",
        remedy: "log in to the network with a browser, or exempt this host from the portal")
    }
    guard let failure = error as? ServerCertificateCheck.Failure else {
      return Finding(detail: text, remedy: "correct Client.ca_certificate")
    }
    switch failure {
    case .unableToParsePEM, .unableToParseCertificate:
      return Finding(detail: text, remedy: "check that the URL is the frontend's")
    case .notRSA, .keyRefused:
      return Finding(
        detail: text, remedy: "the frontend must give out its message certificate, not its TLS certificate")
    case .invalidCommonName(let found, _):
      return Finding(detail: text, remedy: "set Client.pinned_server_name to \(found) if that is your server")
    case .notTrusted:
      if let certificate = try? Certificate(pem: body), !certificate.isValid(at: now) {
        return Finding(
          detail: "\(text): \(CertificateFacts.text(certificate))",
          remedy: "reissue the server's certificate; if its dates are right, set this host's clock")
      }
      return Finding(
        detail: text, remedy: "the server belongs to another deployment: take a client file of this server")
    }
  }
}

/// What captive portals and proxies send.
enum WebPage {
  static func isOne(_ body: [UInt8]) -> Bool { isOne(String(decoding: body.prefix(512), as: UTF8.self)) }

  static func isOne(_ body: String) -> Bool {
    let start = body.prefix(512).lowercased()
    return start.contains("<html") || start.contains("<!doctype")
  }
}

/// Certificates for people: names and dates.
enum CertificateFacts {
  static func text(_ chain: [[UInt8]]) -> String {
    let texts = chain.compactMap { try? Certificate(der: $0) }.map(text)
    return texts.isEmpty ? "no certificate" : texts.joined(separator: "; ")
  }

  static func text(_ certificate: Certificate) -> String {
    let names = ([certificate.name] + certificate.dnsNames + certificate.ipAddresses).filter { !$0.isEmpty }
    var seen: Set<String> = []
    let unique = names.filter { seen.insert($0).inserted }
    return "\(unique.joined(separator: ", ")) by \(certificate.issuer), valid \(day(certificate.notBefore)) to "
      + day(certificate.notAfter)
  }

  private static func day(_ date: Date) -> String {
    var seconds = time_t(date.timeIntervalSince1970)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    let (month, day) = (Int(parts.tm_mon) + 1, Int(parts.tm_mday))
    return "\(Int(parts.tm_year) + 1900)-\(month < 10 ? "0" : "")\(month)-\(day < 10 ? "0" : "")\(day)"
  }
}

/// `Date` headers, in the form servers write them.
enum HTTPDate {
  private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

  static func parse(_ text: String) -> Date? {
    // Wed, 21 Oct 2015 07:28:00 GMT
    let words = text.split(whereSeparator: { $0 == " " || $0 == ":" || $0 == "," })
    guard words.count == 8, words[7] == "GMT", let day = Int32(words[1]), let year = Int32(words[3]),
      let month = months.firstIndex(of: String(words[2])), let hour = Int32(words[4]), let minute = Int32(words[5]),
      let second = Int32(words[6])
    else { return nil }
    var parts = tm()
    parts.tm_year = year - 1900
    parts.tm_mon = Int32(month)
    parts.tm_mday = day
    parts.tm_hour = hour
    parts.tm_min = minute
    parts.tm_sec = second
    return Date(timeIntervalSince1970: TimeInterval(timegm(&parts)))
  }
}

/// The certificates the server showed last.
final class ChainRecorder: Sendable {
  private let box = Mutex<[[UInt8]]>([])
  var chain: [[UInt8]] { box.withLock { $0 } }
  func set(_ chain: [[UInt8]]) { box.withLock { $0 = chain } }
}

/// The system's resolver, asked directly.
enum NameLookup {
  static func addresses(of host: String) -> (addresses: [String], problem: String?) {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, nil, &hints, &list)
    guard code == 0 else { return ([], String(cString: gai_strerror(code))) }
    defer { freeaddrinfo(list) }
    var found: [String] = []
    var next = list
    while let entry = next?.pointee {
      var name = [CChar](repeating: 0, count: Int(NI_MAXHOST))
      let got = getnameinfo(
        entry.ai_addr, entry.ai_addrlen, &name, socklen_t(name.count), nil, 0, NI_NUMERICHOST)
      let bytes = name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:))
      if got == 0 { found.append(String(decoding: bytes, as: UTF8.self)) }
      next = entry.ai_next
    }
    return (found, nil)
  }
}
