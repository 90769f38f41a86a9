/// What a connection is for. The roles have connections of their own, so that a slow query never holds up a commit.
enum PGRole: Int, CaseIterable, Sendable {
  /// Commits groups of submissions.
  case ingest
  /// All other changes.
  case change
  case read
  /// Holds the LISTEN.
  case listen
}

/// Some statements that are sent together, in one pipeline, and answered together.
struct PGJob: Sendable {
  enum Place: Sendable {
    /// Any free connection of the role.
    case free(PGRole)
    /// The connection that an earlier job kept.
    case kept(PGSession)
  }

  var place: Place
  var statements: [PGStatement]
  /// Whether the connection stays with the caller after success, for the next job of a transaction.
  var keeps: Bool
  var deadline: ContinuousClock.Instant
  var completion: @Sendable (Result<PGReply, PGFailure>) -> Void
}

/// Names a connection that one caller keeps; never used again after it was given back.
struct PGSession: Hashable, Sendable {
  var number: Int
}

struct PGReply: Sendable {
  /// One for each statement.
  var results: [PGResult]
  var session: PGSession
}

/// Sizes and times of the PostgreSQL store.
package struct PostgreSQLTuning: Sendable {
  /// How long a request waits for a lost or busy server before it throws `.unavailable` or `.busy`.
  package var deadline: Duration = .seconds(10)
  /// How long one attempt to connect may take.
  package var connectTimeout: Duration = .seconds(5)
  /// The first and the longest pause between attempts to connect; each is varied by chance.
  package var shortestPause: Duration = .milliseconds(50)
  package var longestPause: Duration = .seconds(1)
  /// How often the LISTEN connection is asked whether it is alive.
  package var listenInterval: Duration = .seconds(15)
  /// Connections for queries and for changes other than submissions.
  package var readers = 3
  package var changers = 2

  package init() {}

  func connections(of role: PGRole) -> Int {
    switch role {
    case .ingest, .listen: 1
    case .change: max(1, changers)
    case .read: max(1, readers)
    }
  }

  /// The pause before attempt `number` (1 is the first after a failure).
  func pause(before number: Int) -> Duration {
    var pause = shortestPause
    for _ in 1..<max(2, min(number, 20)) where pause < longestPause { pause *= 2 }
    return min(pause, longestPause) * Double.random(in: 0.5...1)
  }
}
