import ArgumentParser
import Artifacts
import Foundation

/// `--artifacts` and the folders where definitions are looked for without being told.
struct ArtifactFolders: ParsableArguments {
  @Option(
    name: .customLong("artifacts"),
    help: ArgumentHelp(
      "A folder with own definitions, beside the shipped ones; may be repeated. $MICRORAPTOR_ARTIFACTS names more, "
        + "separated by colons.", valueName: "folder"))
  var folders: [String] = []

  /// The shipped definitions, those of the environment, and those of the options; later ones replace earlier ones.
  /// - Throws: `ArtifactError` when a folder that was named is not there.
  func library() throws -> ArtifactLibrary {
    var library = ArtifactLibrary()
    if let shipped = Self.shipped() { try library.load(folder: shipped) }
    let variable = ProcessInfo.processInfo.environment["MICRORAPTOR_ARTIFACTS"] ?? ""
    for folder in variable.split(separator: ":").map(String.init) + folders { try library.load(folder: folder) }
    return library
  }

  /// One definition that every set of shipped ones has.
  private static let landmark = "Generic.Client.Info.yaml"

  /// The folder of the shipped definitions: `artifacts` or `share/microraptor/artifacts` in the executable's folder or
  /// in one of those above it. So it is found beside the executable, below an installation's prefix, and in a clone.
  static func shipped(
    executable: String = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
  ) -> String? {
    var folder = (executable as NSString).deletingLastPathComponent
    for _ in 0..<5 where !folder.isEmpty {
      for place in ["artifacts", "share/microraptor/artifacts"] {
        let candidate = (folder as NSString).appendingPathComponent(place)
        let file = (candidate as NSString).appendingPathComponent(landmark)
        if FileManager.default.fileExists(atPath: file) { return candidate }
      }
      folder = (folder as NSString).deletingLastPathComponent
    }
    return nil
  }
}
