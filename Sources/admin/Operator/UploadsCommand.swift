import ArgumentParser
import Foundation
import Store

/// `microraptor uploads`.
struct UploadsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "uploads", abstract: "List or fetch the files that a flow uploaded.",
    subcommands: [List.self, Get.self], defaultSubcommand: List.self)

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List the files.")
    @OptionGroup var access: StoreAccess
    @Argument(help: "A client id or host name.") var client: String
    @Argument(help: "A flow id.") var flow: String

    func run() async throws {
      try await access.withStore { store in
        let selection = ClientSelection(store: store)
        let flow = try await selection.flow(try await selection.one(client), flow)
        let rows = try await store.uploads(of: flow.name).map {
          [
            String($0.number), $0.accessor, $0.clientPath, String($0.size), String($0.storedSize),
            $0.complete ? "yes" : "no",
          ]
        }
        Terminal.print(TableLayout.table(["Number", "Accessor", "Path", "Size", "Stored", "Complete"], rows))
        if rows.isEmpty { Terminal.note("the flow has no uploads") }
      }
    }
  }

  struct Get: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Copy the files of a flow into a directory.",
      discussion: """
        A file is named by its number and the last part of its path. Holes of sparse files are holes again. Where the \
        query's rows hold the SHA-256 of a file, it is compared; a file that differs is not written.
        """)
    @OptionGroup var access: StoreAccess
    @Option(name: .long, help: "Where to write; made when missing.") var output = "."
    @Argument(help: "A client id or host name.") var client: String
    @Argument(help: "A flow id.") var flow: String
    @Argument(help: "Only the upload with this number.") var number: Int64?

    func run() async throws {
      try await access.withStore { store in
        let selection = ClientSelection(store: store)
        let flow = try await selection.flow(try await selection.one(client), flow)
        let uploads = try await store.uploads(of: flow.name).filter { number == nil || $0.number == number }
        guard !uploads.isEmpty else { throw CommandFailure(.notFound, "the flow has no such upload") }
        let directory = URL(fileURLWithPath: output, isDirectory: true)
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        let digests = try await UploadDigests.find(in: flow.name, store)
        for upload in uploads {
          // The stored name is one harmless component already.
          let name = "\(upload.number)-\((upload.storedPath as NSString).lastPathComponent)"
          let target = directory.appendingPathComponent(name)
          try await UploadCopy(store: store, flow: flow.name, upload: upload).write(
            to: target, digest: digests[upload.number])
          if !upload.complete { Terminal.note("\(Terminal.printable(upload.clientPath)) is not complete yet") }
          Terminal.print(target.path + "\n")
        }
      }
    }
  }
}
