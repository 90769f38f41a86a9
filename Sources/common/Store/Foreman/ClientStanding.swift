import PublicIdentity

/// What the store remembers of one client so that it is given each thing once (server.md §4, §6). All of it is read
/// with the client's key, so a look costs nothing beside the look for tasks.
package struct ClientStanding: Sendable, Equatable {
  /// When its labels changed last; 1970 when never.
  package var labelsChanged = Timestamp(microseconds: 0)
  /// It was asked who it is.
  package var isInterrogated = false
  /// Version of the event table queued for it last, nanoseconds since 1970; 0 for none.
  package var tableGiven: Int64 = 0
  /// Version of the table its last check-in named.
  package var tableReported: Int64 = 0
  /// Start of the newest hunt it was considered for. Back to 1970 when its labels or its system change, so that it is
  /// considered for all again.
  package var huntsSeen = Timestamp(microseconds: 0)

  package init() {}
}

/// What a client's labels and host say to the conditions of hunts and event tables.
struct ClientTraits: Sendable {
  /// In lower case.
  private let labels: Set<String>
  /// `linux`, `windows`, `darwin`; empty while not known.
  private let system: String

  init(labels: [String], system: String) {
    self.labels = Set(labels.map { $0.lowercased() })
    self.system = system.lowercased()
  }

  /// Whether the client has the label; every client has the empty one.
  func has(label: String) -> Bool { label.isEmpty || labels.contains(label.lowercased()) }

  /// Whether its host runs the system; every host runs the empty one.
  func runs(_ wanted: String) -> Bool { wanted.isEmpty || system == wanted.lowercased() }
}
