import ArgumentParser
import Configuration
import Foundation
import PKI

/// `microraptor pki`: looks after a deployment's certificates.
struct PKICommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pki", abstract: "Look after a deployment's certificates.", subcommands: [PKIStatusCommand.self])
}

/// `microraptor pki status`.
struct PKIStatusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "List every certificate of the role files and when it expires.",
    discussion: """
      Exit codes: 0 all good for 30 days; 1 a file cannot be read; 2 a certificate has expired, expires within 30 \
      days, or is not of the deployment's CA.
      """)

  @Option(name: .long, help: "A deployment's directory: all its role files and PEM files.")
  var directory: String?

  @Flag(name: .long, help: "As JSON.")
  var json = false

  @Argument(help: "Role files, a stock server's file, or PEM files.")
  var files: [String] = []

  func validate() throws {
    if directory == nil, files.isEmpty { throw ValidationError("give --directory, or files") }
  }

  func run() throws {
    var report = PKIReport(statuses: [])
    try ConfigFailure.wrapping {
      var collector = CertificateCollector()
      if let directory { try collector.add(directory: directory) }
      for file in files { try collector.add(file: file) }
      guard !collector.items.isEmpty else { throw ConfigFailure("there is no certificate in the files") }
      report = PKIReport(
        statuses: CertificateStatus.check(collector.items, caPEM: collector.caPEM, now: Date()))
    }
    print(json ? report.json : report.table)
    if report.needsAttention { throw ExitCode(2) }
  }
}

/// The states of a deployment's certificates, for people and for programs.
struct PKIReport {
  let statuses: [CertificateStatus]

  /// Whether something has expired, expires within 30 days, or cannot work at all.
  var needsAttention: Bool { mismatch != nil || statuses.contains(where: Self.needsAttention) }

  private static func needsAttention(_ status: CertificateStatus) -> Bool {
    status.problem != nil || (status.severity >= .within30Days && status.use != .previousMessage)
  }

  /// Frontends and crypto-workers with different message certificates: one of the files was not copied.
  var mismatch: String? {
    let messages = statuses.filter { $0.use == .message && $0.problem == nil }
    guard Set(messages.map(\.serial)).count > 1 else { return nil }
    return "The files hold different message certificates: \(messages.map(\.file).joined(separator: ", "))"
  }

  var table: String {
    let head = ["FILE", "USE", "NAME", "CA", "DAYS", "EXPIRES", "WHEN IT EXPIRES"]
    let rows = [head] + statuses.map(Self.row)
    let widths = head.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    var lines = rows.map { row in
      zip(row, widths).map { $0.padding(toLength: max($1, $0.count), withPad: " ", startingAt: 0) }
        .joined(separator: "  ").trimmingCharacters(in: .whitespaces)
    }
    lines += statuses.filter(Self.needsAttention).compactMap { status in
      status.warning.map { "ATTENTION \(status.file): \($0)" }
    }
    if let mismatch { lines.append("ATTENTION \(mismatch)") }
    return lines.joined(separator: "\n")
  }

  private static func row(_ status: CertificateStatus) -> [String] {
    let issued = status.isIssuedByCA.map { $0 ? "ok" : "other" } ?? "-"
    return [
      status.file, status.use.rawValue, status.name, issued, String(status.daysLeft),
      status.notAfter.formatted(.iso8601), status.use.consequence,
    ]
  }

  var json: String {
    ConfigValue.list(
      statuses.map { status in
        .section([
          "file": .text(status.file), "key": .text(status.key), "use": .text(status.use.rawValue),
          "name": .text(status.name), "issuer": .text(status.issuer),
          "issuer_ok": status.isIssuedByCA.map { .boolean($0) } ?? .null, "serial": .text(status.serial),
          "not_before": .text(status.notBefore.formatted(.iso8601)),
          "not_after": .text(status.notAfter.formatted(.iso8601)), "days_left": .integer(status.daysLeft),
          "consequence": .text(status.use.consequence), "problem": status.problem.map { .text($0) },
        ])
      }
    ).json()
  }
}
