import Foundation
import VQL

/// The artifact definitions of some folders, by name.
package struct ArtifactLibrary: Sendable {
  private var byName: [String: VQLArtifact] = [:]
  /// Files that could not be read as a definition, and why.
  package private(set) var problems: [String] = []

  package init() {}

  /// All definitions in the order of their names.
  package var all: [VQLArtifact] { byName.values.sorted { $0.name < $1.name } }

  /// A definition; it replaces one of the same name.
  package mutating func add(_ artifact: VQLArtifact) {
    byName[artifact.name] = artifact
  }

  /// Reads the `.yaml` and `.yml` files of a folder and of the folders in it. They replace definitions of the same
  /// name; a file that is no definition becomes a problem and stops nothing.
  /// - Throws: `ArtifactError.Code.unreadable` when there is no such folder.
  package mutating func load(folder: String) throws(ArtifactError) {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder), isFolder.boolValue,
      let paths = FileManager.default.enumerator(atPath: folder)
    else { throw ArtifactError(.unreadable, "there is no folder of artifacts \(folder)") }
    let files = paths.compactMap { $0 as? String }.filter { $0.hasSuffix(".yaml") || $0.hasSuffix(".yml") }
    for file in files.sorted() {
      let path = (folder as NSString).appendingPathComponent(file)
      do {
        add(try VQLArtifact(yaml: try String(contentsOfFile: path, encoding: .utf8)))
      } catch {
        problems.append("\(path): \(error)")
      }
    }
  }

  /// - Throws: `ArtifactError.Code.unknownArtifact` with the names that come close.
  package func artifact(_ name: String) throws(ArtifactError) -> VQLArtifact {
    if let artifact = byName[name] { return artifact }
    let wanted = name.lowercased()
    let words = wanted.split(separator: ".").filter { $0.count > 3 }
    let near = all.map(\.name).filter { known in
      let known = known.lowercased()
      return known.contains(wanted) || wanted.contains(known) || words.contains { known.contains($0) }
    }
    let known = near.isEmpty ? all.map(\.name) : near
    let list = known.isEmpty ? "none are loaded" : "there are \(known.prefix(12).joined(separator: ", "))"
    let more = known.count > 12 ? ", …" : ""
    let broken = problems.first { $0.contains(name) }.map { "; \($0)" } ?? ""
    throw ArtifactError(.unknownArtifact, "there is no artifact \(name); \(list)\(more)\(broken)")
  }
}

extension VQLArtifact {
  /// Whether its sources never end and belong into an event table.
  package var isClientEvent: Bool { type.uppercased() == "CLIENT_EVENT" }
  /// Whether it can be collected from a client; an absent type means that.
  package var isClient: Bool { ["", "CLIENT"].contains(type.uppercased()) }
}
