import NIOCore

/// What tells one reader of a client from another.
struct ReaderFacts: Sendable, Equatable {
  /// A hash of the session's `encrypted_cipher`. An agent process has one session, so two sessions are two processes
  /// or a restart.
  var session: UInt64
  /// The address without its port.
  var host: String
  /// The address for display.
  var remoteAddress: String
  var userAgent: String
  /// A proxy's TCP stands between, so that an answer of the connection says nothing about the agent.
  var isRelayed: Bool
}

/// Two machines that use one client id.
struct ReaderConflict: Sendable, Equatable {
  var holder: ReaderFacts
  var newcomer: ReaderFacts
}

/// Who may hold the one reader of a client, as a value (http.md §5 step 6). The reference refuses every second reader,
/// so an agent whose network changed is locked out by its own ghost. Here the newer one wins unless the holder is known
/// to be alive; and two that keep displacing each other are refused as the reference does.
struct ReaderSeat {
  enum Decision: Equatable {
    /// The newcomer is seated; nobody was.
    case seat
    /// The newcomer is seated; the holder's answer is to be ended.
    case displace
    /// The holder's connection is to be asked whether it still answers; tell the answer to `probed`.
    case probe
    /// 409. A conflict is to be recorded.
    case refuse(ReaderConflict?)
  }

  /// What a reader elsewhere means for the one here.
  enum Elsewhere: Equatable {
    case none
    /// The holder's answer is to be ended; a conflict is to be recorded.
    case end(ReaderConflict?)
  }

  private enum State: Equatable {
    case free
    case held(ReaderFacts)
    /// `holder` is being asked whether it answers; nil when it left meanwhile.
    case contested(holder: ReaderFacts?, newcomer: ReaderFacts)
  }

  private struct Displaced: Equatable {
    var session: UInt64
    var by: ReaderFacts
    var until: NIODeadline
    /// The one who displaced sits at another frontend.
    var isElsewhere: Bool
  }

  /// How long a displacement is remembered: longer than an agent waits between two attempts.
  static let memory = TimeAmount.minutes(10)
  /// The most displacements remembered of one client.
  private static let most = 4

  private var state = State.free
  private var displaced: [Displaced] = []

  var holder: ReaderFacts? { if case .held(let facts) = state { facts } else { nil } }

  /// Nothing is to be remembered about this client.
  func isEmpty(now: NIODeadline) -> Bool { state == .free && !displaced.contains { $0.until > now } }

  /// A reader asks for the seat.
  mutating func arrive(_ newcomer: ReaderFacts, now: NIODeadline) -> Decision {
    displaced.removeAll { $0.until <= now }
    switch state {
    case .free:
      // Its displacer sits at another frontend: taking the seat back would only go on for ever.
      if let entry = displaced.last(where: { $0.session == newcomer.session && $0.isElsewhere }), isFeud(newcomer) {
        return .refuse(ReaderConflict(holder: entry.by, newcomer: newcomer))
      }
      state = .held(newcomer)
      return .seat
    case .contested: return .refuse(nil)
    case .held(let holder): return meet(holder, newcomer, now)
    }
  }

  private mutating func meet(_ holder: ReaderFacts, _ newcomer: ReaderFacts, _ now: NIODeadline) -> Decision {
    if holder.session == newcomer.session {
      // One agent process: it has moved. From the same address a live holder is believed, as the reference does.
      if holder.host != newcomer.host || holder.isRelayed { return displace(holder, newcomer, now, remember: false) }
    } else {
      if displaced.contains(where: { $0.session == newcomer.session }) {
        return .refuse(ReaderConflict(holder: holder, newcomer: newcomer))
      }
      let isSamePlace = holder.host == newcomer.host && holder.userAgent == newcomer.userAgent
      if isSamePlace || holder.isRelayed { return displace(holder, newcomer, now, remember: true) }
    }
    state = .contested(holder: holder, newcomer: newcomer)
    return .probe
  }

  /// The holder's connection answered in time, or did not.
  mutating func probed(isAnswering: Bool, now: NIODeadline) -> Decision {
    guard case .contested(let holder, let newcomer) = state else { return .refuse(nil) }
    guard let holder else {
      state = .held(newcomer)
      return .seat
    }
    if !isAnswering { return displace(holder, newcomer, now, remember: holder.session != newcomer.session) }
    state = .held(holder)
    return .refuse(ReaderConflict(holder: holder, newcomer: newcomer))
  }

  /// A reader of the client was seated at another frontend: the newer one wins.
  mutating func seatedElsewhere(_ other: ReaderFacts, now: NIODeadline) -> Elsewhere {
    displaced.removeAll { $0.until <= now }
    let here: ReaderFacts
    switch state {
    case .free: return .none
    case .held(let facts): here = facts
    case .contested(let holder, let newcomer): here = holder ?? newcomer
    }
    guard here.session != other.session else { return .end(nil) }
    let isMutual = displaced.contains { $0.session == other.session && $0.by.session == here.session }
    remember(here, by: other, now, isElsewhere: true)
    return .end(isMutual ? ReaderConflict(holder: here, newcomer: other) : nil)
  }

  /// A reader that was here displaced one at another frontend.
  mutating func displacedElsewhere(_ other: ReaderFacts, by here: ReaderFacts, now: NIODeadline) {
    guard other.session != here.session else { return }
    remember(other, by: here, now, isElsewhere: false)
  }

  /// The holder's answer has ended.
  mutating func left() {
    switch state {
    case .free: break
    case .held: state = .free
    case .contested(_, let newcomer): state = .contested(holder: nil, newcomer: newcomer)
    }
  }

  private mutating func displace(
    _ holder: ReaderFacts, _ newcomer: ReaderFacts, _ now: NIODeadline, remember isKept: Bool
  ) -> Decision {
    if isKept { remember(holder, by: newcomer, now, isElsewhere: false) }
    state = .held(newcomer)
    return .displace
  }

  /// It was displaced by one that it had displaced before.
  private func isFeud(_ facts: ReaderFacts) -> Bool {
    displaced.contains { entry in
      entry.session == facts.session
        && displaced.contains { $0.session == entry.by.session && $0.by.session == facts.session }
    }
  }

  private mutating func remember(_ facts: ReaderFacts, by other: ReaderFacts, _ now: NIODeadline, isElsewhere: Bool) {
    displaced.removeAll { $0.session == facts.session && $0.by.session == other.session }
    if displaced.count >= Self.most { displaced.removeFirst() }
    displaced.append(Displaced(session: facts.session, by: other, until: now + Self.memory, isElsewhere: isElsewhere))
  }
}
