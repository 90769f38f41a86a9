/// Why an artifact cannot be used. Equal by code; the text names what exists or what to change.
package struct ArtifactError: Error, Equatable, CustomStringConvertible {
  package enum Code: Sendable {
    case unreadable
    case malformed
    case unknownArtifact
    case unknownParameter
    /// An event artifact where a collection is wanted, or the other way round.
    case wrongType
  }

  package var code: Code
  package var description: String

  package init(_ code: Code, _ text: String) {
    self.code = code
    description = text
  }

  package static func == (left: ArtifactError, right: ArtifactError) -> Bool { left.code == right.code }
}
