import Wire

/// Where the executor puts its messages.
package protocol Outbox: Sendable {
  /// Queues a message; blocks the calling thread while the queue is full and `isAbandoned` is false.
  func send(_ message: Proto_VeloMessage, isAbandoned: () -> Bool)
  /// Queues a message that overtakes; never blocks.
  func sendUrgent(_ message: Proto_VeloMessage)
  /// Rows of this flow that were not sent yet may be dropped.
  func dropRows(ofFlow id: String)
  /// The flow goes on: what it sends from now on is kept.
  func keepRows(ofFlow id: String)
}

extension OutboundQueue: Outbox {
  package func send(_ message: Proto_VeloMessage, isAbandoned: () -> Bool) {
    do {
      try append(message, isAbandoned: isAbandoned)
    } catch {
      reportLoss(error)
    }
  }

  package func sendUrgent(_ message: Proto_VeloMessage) {
    do {
      try appendUrgent(message)
    } catch {
      reportLoss(error)
    }
  }
}
