import ArgumentParser
import Foundation
import Store

/// `microraptor db`: the store as a whole.
struct DatabaseCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "db", abstract: "Look after the store: status, migrate, vacuum, backup.",
    subcommands: [Status.self, Migrate.self, Vacuum.self, Backup.self])

  struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "What the store is, how large, and whether its schema is up to date. Changes nothing.",
      discussion: "Exit codes: 0, 1 it cannot be reached or was written by a newer version.")
    @OptionGroup var access: StoreAccess
    @Flag(name: .long, help: "A JSON object.") var json = false

    func run() async throws {
      try await reporting {
        let status = try await StoreAdministration.status(try access.location())
        if json {
          Terminal.print(try ClientJSON.text(StatusJSON(status)))
        } else {
          Terminal.print(Self.text(status))
        }
        if status.isNewer {
          throw CommandFailure(
            .failed, "the store was written by a newer version of this software; upgrade this program")
        }
        if status.needsMigration, !json {
          Terminal.note("the schema is older than this program: a frontend's next start or `db migrate` changes it")
        }
      }
    }

    private static func text(_ status: StoreStatus) -> String {
      var rows = [
        ["Store", status.implementation], ["Place", status.place],
        ["Schema", "\(status.schema) of \(status.knownSchema) steps"],
        ["Size", "\(ByteText.short(status.bytes)), of these \(ByteText.short(status.freeBytes)) free"],
      ]
      if status.uploadBytes > 0 { rows.append(["Uploads beside it", ByteText.short(status.uploadBytes)]) }
      rows += status.records.map { [$0.name.capitalizedFirst, String($0.count)] }
      return TableLayout.table(["What", "Value"], rows)
    }
  }

  struct Migrate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Bring the schema up to date, as every start of a frontend does.",
      discussion: "Make a backup before: an older version refuses the changed store.")
    @OptionGroup var access: StoreAccess
    @Flag(name: .long, help: "A JSON object.") var json = false

    func run() async throws {
      try await reporting {
        let location = try access.location()
        // A database that is not there yet is made.
        let before = (try? await StoreAdministration.status(location))?.schema ?? 0
        try await StoreAdministration.migrate(location)
        let after = try await StoreAdministration.status(location).schema
        if json {
          Terminal.print(try ClientJSON.text(["schema_before": before, "schema": after]))
        } else {
          Terminal.print(before == after ? "up to date (\(after) steps)\n" : "from step \(before) to \(after)\n")
        }
      }
    }
  }

  struct Vacuum: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Give space that holds nothing back.",
      discussion: """
        SQLite copies its file: as much free disk is needed, and frontends answer 503 to what waits longer than their \
        deadline meanwhile, which agents send again. PostgreSQL locks nothing.
        """)
    @OptionGroup var access: StoreAccess
    @Flag(name: .long, help: "A JSON object.") var json = false

    func run() async throws {
      try await reporting {
        let (before, after) = try await StoreAdministration.vacuum(try access.location())
        if json {
          Terminal.print(try ClientJSON.text(["bytes_before": before, "bytes": after]))
        } else {
          Terminal.print("from \(ByteText.short(before)) to \(ByteText.short(after))\n")
        }
      }
    }
  }

  struct Backup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Write a consistent copy of the store while the deployment runs.",
      discussion: """
        SQLite: the copy is a database like the original; to restore it, stop the frontends and put it in its place, \
        with the uploads, which lie beside the database and are copied by the command that is printed. \
        PostgreSQL: runs pg_dump; to restore, pg_restore --dbname URL FILE into an empty database. \
        The configuration files and keys are not in it.
        """)
    @OptionGroup var access: StoreAccess
    @Flag(name: .long, help: "A JSON object.") var json = false
    @Argument(help: "The file to write; it must not exist.") var file: String

    func run() async throws {
      try await reporting {
        let backup = try await StoreAdministration.backup(try access.location(), to: file)
        if json {
          Terminal.print(try ClientJSON.text(BackupJSON(backup)))
          return
        }
        Terminal.print("\(backup.path) (\(ByteText.short(backup.bytes)))\n")
        if let command = backup.remainder { Terminal.note("uploaded files are not in it; copy them too: \(command)") }
      }
    }
  }
}

/// Errors end as one line on standard error and an exit code.
func reporting(_ body: () async throws -> Void) async throws {
  do { try await body() } catch { throw CommandFailure.reported(error) }
}

private struct StatusJSON: Encodable {
  var implementation: String
  var place: String
  var schema: Int
  var knownSchema: Int
  var bytes: Int64
  var freeBytes: Int64
  var uploadBytes: Int64
  var records: [String: Int64]

  init(_ status: StoreStatus) {
    implementation = status.implementation
    place = status.place
    schema = status.schema
    knownSchema = status.knownSchema
    bytes = status.bytes
    freeBytes = status.freeBytes
    uploadBytes = status.uploadBytes
    records = Dictionary(
      status.records.map { ($0.name.replacingOccurrences(of: " ", with: "_"), $0.count) }, uniquingKeysWith: +)
  }
}

private struct BackupJSON: Encodable {
  var path: String
  var bytes: Int64
  var copyBesides: String?

  init(_ backup: StoreBackup) {
    path = backup.path
    bytes = backup.bytes
    copyBesides = backup.remainder
  }
}

/// Sizes as people read them.
enum ByteText {
  static func short(_ bytes: Int64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    var value = Double(bytes)
    var unit = 0
    while value >= 1024, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    return unit == 0 ? "\(bytes) B" : String(format: "%.1f %@", value, units[unit])
  }
}

extension String {
  var capitalizedFirst: String { prefix(1).uppercased() + dropFirst() }
}
