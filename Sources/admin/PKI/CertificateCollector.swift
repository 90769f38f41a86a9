import Configuration
import Foundation
import PKI

/// Finds the certificates of configuration and PEM files.
struct CertificateCollector {
  private(set) var items: [CertificateItem] = []
  /// `Client.ca_certificate` of the first file that has one, else a CA file.
  private(set) var caPEM: String?

  /// Where certificates are in the files of all roles.
  private static let places: [(path: [String], use: CertificateUse)] = [
    (["Client", "ca_certificate"], .ca), (["Frontend", "certificate"], .message),
    (["Frontend", "tls_certificate"], .tls), (["Client", "Crypto", "client_certificate"], .clientTLS),
    (["Client", "Crypto", "root_certs"], .chain), (["GUI", "gw_certificate"], .gateway),
  ]

  /// Takes all certificates of a file. A file with only a key has none, which is no mistake.
  mutating func add(file: String) throws {
    let text = try ConfigFile.read(file)
    if text.hasPrefix("-----BEGIN ") { return addPEM(text, file) }
    let root = try ConfigValue.parse(text: text, file: file)
    for (path, use) in Self.places {
      guard let pem = root[path: path]?.text, !pem.isEmpty else { continue }
      if use == .ca, caPEM == nil { caPEM = pem }
      items.append(CertificateItem(file: file, key: path.joined(separator: "."), use: use, pem: pem))
    }
    if case .list(let keys)? = root[path: ["Frontend", "previous_private_keys"]] {
      for (index, key) in keys.enumerated() {
        guard let pem = key["certificate"]?.text else { continue }
        items.append(
          CertificateItem(
            file: file, key: "Frontend.previous_private_keys[\(index)]", use: .previousMessage, pem: pem))
      }
    }
    addTLSFile(root, file)
  }

  private mutating func addPEM(_ text: String, _ file: String) {
    guard text.contains("-----BEGIN CERTIFICATE-----") else { return }
    let isCA = (try? Certificate(pem: text))?.isCA == true
    if isCA, caPEM == nil { caPEM = text }
    items.append(CertificateItem(file: file, key: "", use: isCA ? .ca : .other, pem: text))
  }

  private mutating func addTLSFile(_ root: ConfigValue, _ file: String) {
    let key = "tls_certificate_filename"
    guard let path = root[path: ["Frontend", key]]?.text, !path.isEmpty else { return }
    // A file that cannot be read is shown as a certificate that cannot be read.
    let pem = (try? ConfigFile.read(path)) ?? ""
    items.append(CertificateItem(file: path, key: "Frontend.\(key)", use: .tls, pem: pem))
  }

  /// The role files and PEM files of a directory.
  mutating func add(directory: String) throws {
    let names: [String]
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: directory)
    } catch {
      throw ConfigFailure("--directory \(directory): it cannot be read")
    }
    for name in names.sorted() where name.hasSuffix(".config.yaml") || name.hasSuffix(".pem") {
      try add(file: "\(directory)/\(name)")
    }
  }
}
