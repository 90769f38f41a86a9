import Foundation
import PublicIdentity
import Wire

/// The id of a hunt: `H.` and 13 characters of base32hex, made as a flow's.
package struct HuntID: Hashable, Sendable, CustomStringConvertible {
  package let text: String

  /// - Returns: nil when the text is no hunt id.
  package init?(_ text: String) {
    guard text.hasPrefix("H."), (1...32).contains(text.utf8.count - 2),
      text.utf8.dropFirst(2).allSatisfy(ASCII.isBase32Hex)
    else { return nil }
    self.text = text
  }

  package static func make(at time: Timestamp) -> HuntID {
    HuntID(unchecked: "H." + FlowID.make(at: time).text.dropFirst(2))
  }

  private init(unchecked text: String) {
    self.text = text
  }

  package var description: String { text }
}

/// A hunt to be started.
package struct NewHunt: Sendable {
  package var org = ""
  /// For people.
  package var title: String
  /// What each client runs.
  package var request: Proto_FlowRequest
  /// Only clients with this label; empty for all.
  package var label = ""
  /// Only hosts of this system (`linux`, `windows`, `darwin`); empty for all.
  package var system = ""
  package var expiresAt: Timestamp
  /// So many clients at most; 0 for any number.
  package var limit: Int64 = 0

  package init(title: String, request: Proto_FlowRequest, expiresAt: Timestamp) {
    self.title = title
    self.request = request
    self.expiresAt = expiresAt
  }
}

/// Whether a hunt takes clients. The raw values are stored.
package enum HuntState: Int64, Sendable {
  case running = 0
  case stopped = 1
  /// It has as many clients as it may.
  case full = 2
}

/// How far the clients of a hunt are.
package struct HuntProgress: Sendable, Equatable {
  /// Clients that were given its flow.
  package var scheduled: Int64 = 0
  /// Of these: the agent has not spoken about it yet.
  package var waiting: Int64 = 0
  package var running: Int64 = 0
  package var completed: Int64 = 0
  package var errors: Int64 = 0
  /// Withdrawn, cancelled or expired.
  package var cancelled: Int64 = 0
  /// Rows stored so far.
  package var rows: Int64 = 0

  package init() {}

  /// - Parameter state: of the flows; nil when they were removed since.
  mutating func add(_ state: FlowState?, _ count: Int64) {
    scheduled += count
    switch state {
    case .waiting: waiting += count
    case .running: running += count
    case .finished, nil: completed += count
    case .error: errors += count
    case .cancelled, .expired: cancelled += count
    }
  }
}

package struct HuntRecord: Sendable, Equatable {
  package var id: HuntID
  package var org: String
  package var title: String
  package var creator: String
  package var startedAt: Timestamp
  package var expiresAt: Timestamp
  package var limit: Int64
  package var label: String
  package var system: String
  package var state: HuntState
  /// The serialized `FlowRequest`.
  package var request: [UInt8]
  package var progress = HuntProgress()

  package func displayedState(at now: Timestamp) -> String {
    switch state {
    case .running: expiresAt > now ? "RUNNING" : "EXPIRED"
    case .stopped: "STOPPED"
    case .full: "FULL"
    }
  }
}

/// One client of a hunt.
package struct HuntMember: Sendable, Equatable {
  /// Grows; pass the last one to read on.
  package var cursor: Int64
  package var client: ClientName
  package var hostname: String
  package var flow: FlowID
  package var state: FlowState
  package var errorText: String
}

/// A running hunt as the foreman sees it.
package struct HuntOrder: Sendable, Equatable {
  /// The store's number of the hunt.
  var key: Int64
  var id: HuntID
  var org: String
  var startedAt: Timestamp
  var expiresAt: Timestamp
  var label: String
  var system: String
  /// The serialized `FlowRequest`.
  var request: [UInt8]

  func isFor(_ traits: ClientTraits) -> Bool { traits.has(label: label) && traits.runs(system) }

  /// The flow of one client.
  func task(for client: ClientName, flow: FlowID) throws -> NewTask {
    var message = Proto_VeloMessage()
    message.sessionID = flow.text
    message.requestID = 1
    do {
      message.flowRequest = try Proto_FlowRequest(serializedBytes: request)
    } catch {
      throw StoreError(.corrupt, "the request of hunt \(id) cannot be read; stop the hunt")
    }
    return NewTask(client: client, message: message, expiresAt: expiresAt)
  }
}

extension NewHunt {
  /// The request as it is stored. Throws `.invalid`.
  func serializedRequest() throws -> Data {
    guard limit >= 0, !(title + label + system).utf8.contains(0) else {
      throw StoreError(.invalid, "a hunt has a limit of at least 0 and texts without NUL")
    }
    do {
      return try request.serializedBytes()
    } catch {
      throw StoreError(.invalid, "the request of a hunt cannot be serialized: \(error)")
    }
  }
}
