import PublicIdentity

/// A change that another process may have made and that a frontend must act on.
package enum StoreEvent: Sendable, Hashable {
  /// Tasks wait for the client: wake its reader (http.md §11).
  case tasksQueued(ClientName)
  /// The client is gone: broadcast `forget` to the workers, end its reader (server.md §12).
  case clientDeleted(ClientName)
  /// A key was stored: broadcast `forget`, so that negative caches do not refuse the new client.
  case keyChanged(ClientName)
  /// The client's reader was seated at another process: `Store.seat` tells where.
  case seatTaken(ClientName)
  /// Event tables or hunts of the org changed: read the orders again, let its readers look.
  case foremanChanged(org: String)
}
