/// Decides whether the data of a body is delivered, from the answers to it (http.md §6).
///
/// Data leaves only after a sealed acknowledgement; websockets have none, and their code must do. Some servers answer a body they will never take with a bare 200 or
/// with 400/413; such a body is halved until the item is alone, and an item that is refused `strikes` times while the
/// server is seen to seal other answers is set aside, so that it cannot hold back the rest for ever.
package struct DeliveryJudge: Sendable {
  package enum Verdict: Equatable, Sendable {
    /// Acknowledged: forget it.
    case delivered
    /// Send the same lists again.
    case keep
    /// Put everything back; lease at most this many records from now on.
    case split(Int)
    /// One item that is refused for good.
    case setAside(String)
  }

  static let strikes = 3

  private var refusals = 0
  private var sealedAtFirst = 0
  /// The most records of the next lease; absent: no bound.
  package private(set) var recordLimit: Int?

  package init() {}

  /// - Parameters:
  ///   - records: how many records were in the body.
  ///   - sealedAnswers: a count of all authentic answers of the server so far, this lane's and the other's.
  package mutating func judge(_ result: ExchangeResult, records: Int, sealedAnswers: Int) -> Verdict {
    switch result {
    case .sealed, .accepted:
      refusals = 0
      recordLimit = recordLimit.flatMap { $0 >= 4096 ? nil : $0 * 2 }
      return .delivered
    case .empty, .padding: return refused("answered 200 without an acknowledgement", records, sealedAnswers)
    case .refused(let status): return refused("answered \(status)", records, sealedAnswers, statusIsClear: true)
    case .foreign, .redirect, .enrol, .conflict, .busy, .rejected, .broken, .interrupted: return .keep
    }
  }

  private mutating func refused(
    _ what: String, _ records: Int, _ sealedAnswers: Int, statusIsClear: Bool = false
  ) -> Verdict {
    if refusals == 0 { sealedAtFirst = sealedAnswers }
    refusals += 1
    if records > 1 {
      // The first time the same body is tried once more: the answer may have come from something between us.
      guard refusals > 1 else { return .keep }
      refusals = 0
      recordLimit = records / 2
      return .split(records / 2)
    }
    let serverAnswers = statusIsClear || sealedAnswers > sealedAtFirst
    guard refusals >= Self.strikes, serverAnswers else { return .keep }
    let times = refusals
    refusals = 0
    return .setAside("\(what) \(times) times")
  }
}
