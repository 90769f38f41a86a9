import CZeroMQ
import Foundation
import Synchronization

/// A frontend's connection to its crypto-workers: one DEALER socket for each, all on one thread of their own. Callers
/// never block; completions run on the link's thread and must be short.
package final class WorkerLink: Sendable {
  package typealias Outcome = LinkStateMachine.Outcome
  package typealias Completion = @Sendable (Outcome) -> Void

  private enum Command: Sendable {
    case submit(WorkerRequest, deadline: UInt64, Completion)
    case broadcast(WorkerRequest)
    case setWorkers([String])
    case stop
  }

  private struct Inbox {
    var commands: [Command] = []
    var stopped = false
  }

  /// What the link last saw, for health pages and metrics.
  package struct Snapshot: Sendable, Equatable {
    package var usableWorkers: [String] = []
    package var requestsInFlight = 0
    package var health: [String: WorkerHealth] = [:]
    /// Requests at each worker that is configured.
    package var inFlight: [String: Int] = [:]
  }

  private let inbox = Mutex(Inbox())
  private let latest = Mutex(Snapshot())
  private let waker: Waker

  /// Connects and starts the thread.
  /// - Parameters:
  ///   - endpoints: `ipc://…` or loopback `tcp://…`; with `curve` any `tcp://…`.
  ///   - routingSecret: common to all frontends.
  ///   - curve: this frontend's keys; then all connections are encrypted, and only a worker of that key is spoken to.
  ///   - notes: told of workers that come and go, on the link's thread.
  package init(
    endpoints: [String], routingSecret: [UInt8], curve: CurveKeys? = nil,
    limits: LinkStateMachine.Limits = .init(), notes: @escaping @Sendable (LinkStateMachine.Note) -> Void
  ) throws {
    waker = try Waker()
    let context = try ZMQContext()
    let machine = LinkStateMachine(routingSecret: routingSecret, workers: [], limits: limits)
    // Sockets must be made on the thread that uses them; the errors of doing so come back here.
    let started = DispatchSemaphore(value: 0)
    let failure = Mutex<(any Error)?>(nil)
    let thread = Thread { [self] in
      do {
        var loop = LinkLoop(context: context, curve: curve, machine: machine, waker: waker, notes: notes)
        for endpoint in endpoints { try loop.add(endpoint) }
        started.signal()
        run(&loop)
      } catch {
        failure.withLock { $0 = error }
        started.signal()
      }
    }
    thread.name = "worker-link"
    thread.start()
    started.wait()
    if let error = failure.withLock({ $0 }) { throw error }
  }

  /// Sends a request to the worker that its session belongs to.
  /// - Parameters:
  ///   - timeout: milliseconds until the request fails as `unavailable`.
  ///   - completion: called exactly once, on the link's thread.
  package func submit(_ request: WorkerRequest, timeout: UInt64, completion: @escaping Completion) {
    let command = Command.submit(request, deadline: monotonicMilliseconds() + timeout, completion)
    if !post(command) { completion(.unavailable) }
  }

  /// - Returns: false when the link was stopped.
  @discardableResult
  private func post(_ command: Command) -> Bool {
    let (accepted, first) = inbox.withLock { inbox in
      if inbox.stopped { return (false, false) }
      inbox.commands.append(command)
      return (true, inbox.commands.count == 1)
    }
    // The thread takes all commands that wait, so one call for all is enough.
    if first { waker.wake() }
    return accepted
  }

  /// From now on these are the workers: new ones are connected to, others get nothing new and are left when they have
  /// answered what they have. An endpoint that cannot be used is noted.
  package func setWorkers(_ endpoints: [String]) { post(.setWorkers(endpoints)) }

  /// As `submit`, for async callers.
  package func request(_ request: WorkerRequest, timeout: UInt64) async -> Outcome {
    await withCheckedContinuation { continuation in
      submit(request, timeout: timeout) { continuation.resume(returning: $0) }
    }
  }

  /// Tells every connected worker; no answer is awaited.
  package func broadcast(_ request: WorkerRequest) {
    post(.broadcast(request))
  }

  package var snapshot: Snapshot { latest.withLock { $0 } }

  /// Ends the thread; requests in flight end as `unavailable`.
  package func stop() {
    post(.stop)
  }

  private func run(_ loop: inout LinkLoop) {
    while true {
      loop.wait()
      let commands = inbox.withLock { inbox in
        let taken = inbox.commands
        inbox.commands = []
        return taken
      }
      for (index, command) in commands.enumerated() {
        switch command {
        case .submit(let request, let deadline, let completion): loop.submit(request, deadline, completion)
        case .broadcast(let request): loop.broadcast(request)
        case .setWorkers(let endpoints): loop.setWorkers(endpoints)
        case .stop:
          let rest = inbox.withLock { inbox in
            inbox.stopped = true
            return inbox.commands
          }
          // What stands behind the stop, in this batch or since, is answered too: nobody may wait for ever.
          for case .submit(_, _, let completion) in commands[(index + 1)...] + rest { completion(.unavailable) }
          loop.failAll()
          return
        }
      }
      loop.receive()
      if let snapshot = loop.freshSnapshot() { latest.withLock { $0 = snapshot } }
    }
  }
}

/// The thread's own state: sockets, the machine and the completions.
private struct LinkLoop {
  private struct Peer {
    let endpoint: String
    let socket: ZMQSocket
    let monitor: ZMQMonitor
  }

  private let context: ZMQContext
  private let curve: CurveKeys?
  private var machine: LinkStateMachine
  private var peers: [Peer] = []
  private var index: [String: Int] = [:]
  private var opened = 0
  private let waker: Waker
  private let notes: @Sendable (LinkStateMachine.Note) -> Void
  private var completions: [UInt64: WorkerLink.Completion] = [:]
  private var changed = true
  private var lastSnapshot: UInt64 = 0

  init(
    context: ZMQContext, curve: CurveKeys?, machine: LinkStateMachine, waker: Waker,
    notes: @escaping @Sendable (LinkStateMachine.Note) -> Void
  ) {
    self.context = context
    self.curve = curve
    self.machine = machine
    self.waker = waker
    self.notes = notes
  }

  /// Connects to a worker; does nothing for a known one.
  mutating func add(_ endpoint: String) throws {
    if index[endpoint] == nil {
      let socket = try ZMQSocket(context, type: ZMQ_DEALER)
      try socket.setLinkOptions()
      if let curve { try socket.setCurveClient(curve) }
      // Without this, messages to an absent worker queue silently.
      try socket.set(ZMQ_IMMEDIATE, 1)
      try socket.set(ZMQ_RECONNECT_IVL, 50)
      try socket.set(ZMQ_RECONNECT_IVL_MAX, 1000)
      let monitor = try ZMQMonitor(context, of: socket, name: "link-\(opened)")
      try socket.connect(endpoint)
      opened += 1
      index[endpoint] = peers.count
      peers.append(Peer(endpoint: endpoint, socket: socket, monitor: monitor))
    }
    machine.add(endpoint)
  }

  mutating func setWorkers(_ endpoints: [String]) {
    for endpoint in endpoints {
      do {
        try add(endpoint)
      } catch {
        notes(.unusable(worker: endpoint, reason: "\(error)"))
      }
    }
    for peer in peers where !endpoints.contains(peer.endpoint) {
      perform(machine.remove(peer.endpoint, now: monotonicMilliseconds()))
    }
    changed = true
  }

  private mutating func close(_ endpoint: String) {
    guard let number = index[endpoint] else { return }
    peers.remove(at: number)
    index = Dictionary(peers.enumerated().map { ($1.endpoint, $0) }, uniquingKeysWith: { first, _ in first })
    changed = true
  }

  /// What is to be shown from now on: at once when a worker came or went, else some times a second.
  mutating func freshSnapshot() -> WorkerLink.Snapshot? {
    let now = monotonicMilliseconds()
    guard changed || now >= lastSnapshot + 100 else { return nil }
    changed = false
    lastSnapshot = now
    return WorkerLink.Snapshot(
      usableWorkers: machine.usableWorkers, requestsInFlight: machine.requestsInFlight, health: machine.health,
      inFlight: machine.inFlight)
  }

  /// Waits for sockets, commands, or the next moment of the machine.
  func wait() {
    var items = [zmq_pollitem_t(socket: nil, fd: waker.descriptor, events: Int16(ZMQ_POLLIN), revents: 0)]
    for peer in peers {
      items.append(zmq_pollitem_t(socket: peer.socket.handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0))
      items.append(zmq_pollitem_t(socket: peer.monitor.socket.handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0))
    }
    let now = monotonicMilliseconds()
    let next = machine.nextTick ?? now + 1000
    zmq_poll(&items, Int32(items.count), Int(min(1000, next > now ? next - now : 0)))
    if items[0].revents != 0 { waker.drain() }
  }

  mutating func submit(_ request: WorkerRequest, _ deadline: UInt64, _ completion: @escaping WorkerLink.Completion) {
    let (id, actions) = machine.submit(request, deadline: deadline, now: monotonicMilliseconds())
    completions[id] = completion
    perform(actions)
  }

  mutating func broadcast(_ request: WorkerRequest) {
    perform(machine.broadcast(request, now: monotonicMilliseconds()))
  }

  mutating func receive() {
    for peer in peers {
      // Answers first: a worker that answered and then went has answered.
      while let frames = peer.socket.receive() {
        guard let (header, reply) = try? WorkerReply.parse(frames) else { continue }
        perform(machine.replied(peer.endpoint, id: header.id, reply, now: monotonicMilliseconds()))
      }
      while let event = peer.monitor.next() {
        switch event {
        case .up: perform(machine.connected(peer.endpoint, now: monotonicMilliseconds()))
        case .down: perform(machine.disconnected(peer.endpoint, now: monotonicMilliseconds()))
        case .handshakeFailed, .other: break
        }
      }
    }
    perform(machine.tick(now: monotonicMilliseconds()))
  }

  mutating func failAll() {
    for completion in completions.values { completion(.unavailable) }
    completions = [:]
  }

  private mutating func perform(_ actions: [LinkStateMachine.Action]) {
    var queue = actions
    var next = 0
    while next < queue.count {
      switch queue[next] {
      case .send(let worker, let id, let request, let milliseconds):
        let sent = index[worker].map { peers[$0].socket.send(request.frames(id: id, milliseconds: milliseconds)) }
        if sent != true { queue += machine.sendFailed(worker, id: id, now: monotonicMilliseconds()) }
      case .finish(let id, let outcome):
        completions.removeValue(forKey: id)?(outcome)
      case .close(let worker): close(worker)
      case .note(let note):
        changed = true
        notes(note)
      }
      next += 1
    }
  }
}
