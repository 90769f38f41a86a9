import NIOCore

/// Whether the other end of a waiting reader still reacts: a pad is sent, which its TCP must acknowledge.
enum Liveness {
  /// How long an acknowledgement may take, and how often it is looked for.
  static let patience = Duration.seconds(3)
  private static let interval = Duration.milliseconds(100)

  @Sendable
  static func isAnswering(_ reader: WaitingReader) async -> Bool {
    let connection = reader.exchange.connection
    guard let before = await connection.outstanding() else { return connection.channel.isActive }
    if before.isSilent { return false }
    reader.exchange.writePad()
    let end = ContinuousClock.now + patience
    while ContinuousClock.now < end, connection.channel.isActive {
      try? await Task.sleep(for: interval)
      if Task.isCancelled { return true }
      guard let now = await connection.outstanding() else { return false }
      if now.isSettled { return true }
    }
    return false
  }
}
