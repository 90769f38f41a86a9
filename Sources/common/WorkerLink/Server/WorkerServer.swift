import CZeroMQ
import Foundation
import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// A crypto-worker's end of the link: a ROUTER socket on a thread of its own. Requests are handed to `handler` on that
/// thread; answers may come from any thread.
package final class WorkerServer: Sendable {
  /// Where an answer goes.
  package struct Responder: Sendable {
    fileprivate let server: WorkerServer
    fileprivate let peer: [UInt8]
    fileprivate let id: UInt64

    /// Answers; to be called once. An answer to a frontend that has gone is dropped and counted.
    package func callAsFunction(_ reply: WorkerReply) {
      server.answer(peer, reply.frames(id: id))
    }
  }

  /// What happened on the link, for logs and metrics.
  package enum Note: Sendable {
    case frontendConnected
    case frontendDisconnected
    /// Bytes that are not ZeroMQ, or a peer that never finished its handshake.
    case handshakeFailed
    /// A peer with a CURVE key that is not listed.
    case unknownKey
    /// A ZeroMQ message that is not ours.
    case badMessage(FrameError)
    case answerDropped
  }

  package typealias Handler = @Sendable (WorkerRequest, FrameHeader, Responder) -> Void

  private struct Outbox {
    var messages: [(peer: [UInt8], frames: [[UInt8]])] = []
    var announcements: [WorkerReply] = []
    var stop = false
  }

  private let outbox = Mutex(Outbox())
  private let waker: Waker
  private let notes: @Sendable (Note) -> Void
  private let ended = DispatchSemaphore(value: 0)
  private let loopThread = Mutex<pthread_t?>(nil)
  private let bound = Mutex("")

  /// Binds and starts the thread.
  /// - Parameters:
  ///   - endpoint: `ipc://…` (its socket file gets mode 0600) or `tcp://…`, port `*` allowed.
  ///   - curve: this worker's keys; then only frontends with a listed key get in. Without it, loopback only.
  ///   - handler: called on the socket's thread; must not block.
  package init(
    endpoint: String, curve: CurveKeys? = nil, notes: @escaping @Sendable (Note) -> Void, handler: @escaping Handler
  ) throws {
    waker = try Waker()
    self.notes = notes
    let context = try ZMQContext()
    let started = DispatchSemaphore(value: 0)
    let failure = Mutex<(any Error)?>(nil)
    let thread = Thread { [self] in
      do {
        let gate = try curve.map { try KeyGate(context, $0) }
        let socket = try ZMQSocket(context, type: ZMQ_ROUTER)
        try socket.setLinkOptions()
        if let curve { try socket.setCurveServer(curve) }
        try socket.set(ZMQ_ROUTER_MANDATORY, 1)
        let monitor = try ZMQMonitor(context, of: socket, name: "server")
        try Self.bind(socket, endpoint)
        bound.withLock { $0 = (try? socket.lastEndpoint()) ?? endpoint }
        loopThread.withLock { $0 = pthread_self() }
        started.signal()
        run(socket, monitor, gate, handler)
      } catch {
        failure.withLock { $0 = error }
        started.signal()
      }
      ended.signal()
    }
    thread.name = "worker-server"
    thread.stackSize = 8 << 20
    thread.start()
    started.wait()
    if let error = failure.withLock({ $0 }) { throw error }
  }

  /// The socket file is made by bind: the mask, which is the process's, keeps it from being open to others even for a
  /// moment, and no longer than that.
  private static func bind(_ socket: ZMQSocket, _ endpoint: String) throws {
    let mask = umask(0o177)
    defer { umask(mask) }
    try socket.bind(endpoint)
  }

  /// The endpoint in use, with the port that was chosen.
  package var endpoint: String { bound.withLock { $0 } }

  /// Tells every frontend that has asked something, without being asked: for health that changed.
  package func announce(_ reply: WorkerReply) {
    outbox.withLock { $0.announcements.append(reply) }
    waker.wake()
  }

  /// Ends the thread after the answers that are ready have been handed to ZeroMQ, and waits for it.
  package func stop() {
    outbox.withLock { $0.stop = true }
    waker.wake()
    ended.wait()
    ended.signal()
  }

  fileprivate func answer(_ peer: [UInt8], _ frames: [[UInt8]]) {
    let first = outbox.withLock { outbox in
      outbox.messages.append((peer, frames))
      return outbox.messages.count == 1
    }
    // The socket's own thread empties the outbox after each request: it need not wake itself.
    if first, loopThread.withLock({ $0 }) != pthread_self() { waker.wake() }
  }

  /// Frontends that are remembered for announcements.
  private static let peerLimit = 4096

  private func run(_ socket: ZMQSocket, _ monitor: ZMQMonitor, _ gate: KeyGate?, _ handler: Handler) {
    var peers: Set<[UInt8]> = []
    var lastPeer: [UInt8] = []
    while true {
      var items = [
        zmq_pollitem_t(socket: nil, fd: waker.descriptor, events: Int16(ZMQ_POLLIN), revents: 0),
        zmq_pollitem_t(socket: socket.handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0),
        zmq_pollitem_t(socket: monitor.socket.handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0),
      ]
      if let gate {
        items.append(zmq_pollitem_t(socket: gate.socket.handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0))
      }
      zmq_poll(&items, Int32(items.count), 1000)
      if items[0].revents != 0 { waker.drain() }
      gate?.answer { notes(.unknownKey) }
      while let event = monitor.next() { note(event) }
      // Bounded, so that ready answers of other threads are not held back by a flood of requests.
      for _ in 0..<256 {
        guard let frames = socket.receive() else { break }
        if let peer = frames.first, peer != lastPeer, peers.count < Self.peerLimit {
          peers.insert(peer)
          lastPeer = peer
        }
        receive(frames, handler)
      }
      if flush(socket, &peers) { return }
    }
  }

  private func note(_ event: ZMQMonitor.Event) {
    switch event {
    case .up: notes(.frontendConnected)
    case .down: notes(.frontendDisconnected)
    case .handshakeFailed: notes(.handshakeFailed)
    case .other: break
    }
  }

  private func receive(_ frames: [[UInt8]], _ handler: Handler) {
    guard let peer = frames.first else { return notes(.badMessage(.malformed)) }
    do throws(FrameError) {
      let (header, request) = try WorkerRequest.parse(frames.dropFirst())
      handler(request, header, Responder(server: self, peer: peer, id: header.id))
    } catch {
      notes(.badMessage(error))
    }
  }

  /// - Returns: whether the server is to stop.
  private func flush(_ socket: ZMQSocket, _ peers: inout Set<[UInt8]>) -> Bool {
    let taken = outbox.withLock { outbox in
      let taken = outbox
      outbox.messages = []
      outbox.announcements = []
      return taken
    }
    for message in taken.messages where !socket.send(message.frames, to: message.peer) { notes(.answerDropped) }
    for reply in taken.announcements {
      let frames = reply.frames(id: FrameHeader.announcementID)
      // Who cannot be reached any more has gone.
      peers = peers.filter { socket.send(frames, to: $0) }
    }
    return taken.stop
  }
}
