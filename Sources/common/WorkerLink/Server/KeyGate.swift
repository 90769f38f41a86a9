import CZeroMQ

/// Decides which CURVE keys may connect: ZeroMQ's authentication protocol (ZAP 1.0, rfc.zeromq.org/spec/27), answered
/// on the server's own thread. It must be bound before the sockets it guards.
struct KeyGate {
  let socket: ZMQSocket
  private let allowed: Set<[UInt8]>

  init(_ context: ZMQContext, _ keys: CurveKeys) throws {
    allowed = Set(keys.peers)
    socket = try ZMQSocket(context, type: ZMQ_REP)
    try socket.bind("inproc://zeromq.zap.01")
  }

  /// Answers the handshakes that wait.
  /// - Parameter refused: called for each peer whose key is not listed.
  func answer(refused: () -> Void) {
    while let frames = socket.receive() {
      let (reply, isAdmitted) = Self.decide(frames, allowed)
      if !isAdmitted { refused() }
      _ = socket.send(reply)
    }
  }

  /// The answer to a request: version, request id, domain, address, identity, mechanism, credentials.
  static func decide(_ frames: [[UInt8]], _ allowed: Set<[UInt8]>) -> (reply: [[UInt8]], isAdmitted: Bool) {
    let id = frames.dropFirst().first ?? []
    let isAdmitted =
      frames.count == 7 && frames.first == Array("1.0".utf8) && frames.dropFirst(5).first == Array("CURVE".utf8)
      && frames.last.map { $0.count == CurveKeys.size && allowed.contains($0) } == true
    let texts = isAdmitted ? ["200", "OK", "frontend", ""] : ["400", "key not listed", "", ""]
    return ([Array("1.0".utf8), id] + texts.map { Array($0.utf8) }, isAdmitted)
  }
}
