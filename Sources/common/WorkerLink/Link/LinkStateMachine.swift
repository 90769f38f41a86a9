/// Which worker gets which request, and what happens when a worker dies, stalls, drains or answers late: all of it
/// without sockets, clocks or threads. Times are milliseconds of any monotonic clock.
///
/// Promises: each submitted request is finished exactly once; a request is at one worker at a time; it visits a worker
/// at most once; a late answer of a worker that was given up is ignored.
package struct LinkStateMachine {
  package struct Limits: Sendable {
    /// Requests in flight at one worker beyond which new ones are refused at once. ZeroMQ's own high-water mark is no
    /// back-pressure.
    package var inFlightPerWorker = 2048
    /// Requests that may wait while no worker is up.
    package var waiting = 4096
    /// Milliseconds between two questions after a worker's health.
    package var healthInterval: UInt64 = 1000
    /// Milliseconds without any answer after which a worker counts as stalled.
    package var stallTimeout: UInt64 = 3000

    package init() {}
  }

  /// How a request ended.
  package enum Outcome: Sendable, Equatable {
    case reply(WorkerReply)
    /// No worker answered before the deadline, or every worker failed it.
    case unavailable
    /// The worker that it belongs to has too many requests in flight.
    case overloaded
  }

  package enum Action: Sendable, Equatable {
    case send(worker: String, id: UInt64, request: WorkerRequest, milliseconds: UInt32)
    case finish(id: UInt64, Outcome)
    /// For logs and metrics.
    case note(Note)
  }

  package enum Note: Sendable, Equatable {
    case workerUp(String)
    case workerDown(String)
    case workerStalled(String)
    case workerDraining(String)
    case resent(id: UInt64, from: String)
    case lateReply(worker: String)
  }

  private struct Worker {
    var connected = false
    var stalled = false
    var draining = false
    var inFlight: Set<UInt64> = []
    var lastHeard: UInt64 = 0
    var lastAsked: UInt64 = 0
    var askedSinceHeard = false
    var health = WorkerHealth()

    var usable: Bool { connected && !stalled && !draining }
  }

  private struct Request {
    var request: WorkerRequest
    var key: [UInt8]
    var deadline: UInt64
    var tried: Set<String> = []
    var worker: String?
  }

  /// Ids of the link's own health questions; those of requests are below.
  private static let healthIDs: UInt64 = 1 << 63

  private let limits: Limits
  private let rendezvous: Rendezvous
  private var workers: [String: Worker] = [:]
  private var requests: [UInt64: Request] = [:]
  private var waiting: [UInt64] = []
  private var nextID: UInt64 = 1
  private var nextHealthID: UInt64 = Self.healthIDs
  /// Deadlines are looked at this often, so that a loop with thousands of requests does not scan them each time.
  private static let sweepInterval: UInt64 = 50
  private var nextSweep: UInt64 = 0

  package init(routingSecret: [UInt8], workers: [String], limits: Limits = Limits()) {
    self.limits = limits
    rendezvous = Rendezvous(secret: routingSecret)
    for worker in workers { self.workers[worker] = Worker() }
  }

  package var requestsInFlight: Int { requests.count }
  package var usableWorkers: [String] { workers.filter(\.value.usable).map(\.key).sorted() }
  package var health: [String: WorkerHealth] { workers.filter(\.value.connected).mapValues(\.health) }

  /// The next moment at which `tick` has something to do.
  package var nextTick: UInt64? {
    let questions = workers.values.filter(\.connected).map { $0.lastAsked + limits.healthInterval }
    let sweep = requests.isEmpty ? [] : [nextSweep]
    return (questions + sweep).min()
  }

  // MARK: inputs

  /// A new request; answers its id first.
  package mutating func submit(
    _ request: WorkerRequest, deadline: UInt64, now: UInt64
  ) -> (id: UInt64, actions: [Action]) {
    let id = nextID
    nextID += 1
    requests[id] = Request(request: request, key: request.routingKey ?? [], deadline: deadline)
    return (id, place(id, now: now))
  }

  /// One copy of the request for each connected worker; nobody waits for the answers.
  package mutating func broadcast(_ request: WorkerRequest, now: UInt64) -> [Action] {
    workers.filter(\.value.connected).map(\.key).sorted().map { worker in
      nextHealthID += 1
      return .send(worker: worker, id: nextHealthID, request: request, milliseconds: 0)
    }
  }

  package mutating func connected(_ name: String, now: UInt64) -> [Action] {
    guard var worker = workers[name] else { return [] }
    worker.connected = true
    worker.stalled = false
    worker.draining = false
    worker.lastHeard = now
    worker.askedSinceHeard = false
    workers[name] = worker
    return [.note(.workerUp(name))] + askHealth(name, now: now) + placeWaiting(now: now)
  }

  package mutating func disconnected(_ name: String, now: UInt64) -> [Action] {
    guard var worker = workers[name], worker.connected else { return [] }
    worker.connected = false
    workers[name] = worker
    return [.note(.workerDown(name))] + giveUp(name, now: now)
  }

  /// The transport could not take the message: as if the worker had died with it.
  package mutating func sendFailed(_ name: String, id: UInt64, now: UInt64) -> [Action] {
    guard id < Self.healthIDs, requests[id]?.worker == name else { return [] }
    return replace(id, from: name, now: now)
  }

  package mutating func replied(_ name: String, id: UInt64, _ reply: WorkerReply, now: UInt64) -> [Action] {
    guard var worker = workers[name] else { return [] }
    worker.lastHeard = now
    worker.askedSinceHeard = false
    let wasStalled = worker.stalled
    worker.stalled = false
    var actions: [Action] = []
    if case .health(let health) = reply {
      if health.draining, !worker.draining { actions.append(.note(.workerDraining(name))) }
      worker.draining = health.draining
      worker.health = health
    }
    worker.inFlight.remove(id)
    workers[name] = worker
    if wasStalled {
      actions.append(.note(.workerUp(name)))
      actions += placeWaiting(now: now)
    }
    guard id < Self.healthIDs else { return actions }
    guard let request = requests[id], request.worker == name else {
      return actions + [.note(.lateReply(worker: name))]
    }
    requests[id] = nil
    return actions + [.finish(id: id, .reply(reply))]
  }

  package mutating func tick(now: UInt64) -> [Action] {
    var actions: [Action] = []
    for name in workers.keys.sorted() {
      guard let worker = workers[name], worker.connected else { continue }
      if worker.askedSinceHeard, !worker.stalled, now >= worker.lastHeard + limits.stallTimeout {
        workers[name]?.stalled = true
        actions.append(.note(.workerStalled(name)))
        actions += giveUp(name, now: now)
      }
      if now >= worker.lastAsked + limits.healthInterval { actions += askHealth(name, now: now) }
    }
    guard now >= nextSweep else { return actions }
    nextSweep = now + Self.sweepInterval
    let late = requests.filter { $0.value.deadline <= now }.map(\.key).sorted()
    for id in late {
      if let worker = requests[id]?.worker { workers[worker]?.inFlight.remove(id) }
      requests[id] = nil
      actions.append(.finish(id: id, .unavailable))
    }
    if !late.isEmpty { waiting.removeAll { requests[$0] == nil } }
    return actions
  }

  // MARK: placing

  private mutating func askHealth(_ name: String, now: UInt64) -> [Action] {
    nextHealthID += 1
    workers[name]?.lastAsked = now
    workers[name]?.askedSinceHeard = true
    return [.send(worker: name, id: nextHealthID, request: .health, milliseconds: 0)]
  }

  private mutating func place(_ id: UInt64, now: UInt64) -> [Action] {
    guard let request = requests[id] else { return [] }
    let usable = workers.filter { $0.value.usable && !request.tried.contains($0.key) }.map(\.key)
    guard let name = rendezvous.order(request.key, usable).first else {
      // A request that failed somewhere may not come back there; without another worker it can only fail.
      if !request.tried.isEmpty, Set(workers.keys).isSubset(of: request.tried) {
        requests[id] = nil
        return [.finish(id: id, .unavailable)]
      }
      guard waiting.count < limits.waiting else {
        requests[id] = nil
        return [.finish(id: id, .overloaded)]
      }
      waiting.append(id)
      return []
    }
    guard workers[name].map({ $0.inFlight.count < limits.inFlightPerWorker }) == true else {
      requests[id] = nil
      return [.finish(id: id, .overloaded)]
    }
    requests[id]?.worker = name
    requests[id]?.tried.insert(name)
    workers[name]?.inFlight.insert(id)
    let left = UInt32(clamping: request.deadline > now ? request.deadline - now : 0)
    return [.send(worker: name, id: id, request: request.request, milliseconds: left)]
  }

  private mutating func placeWaiting(now: UInt64) -> [Action] {
    let ids = waiting
    waiting = []
    return ids.flatMap { place($0, now: now) }
  }

  private mutating func giveUp(_ name: String, now: UInt64) -> [Action] {
    let ids = (workers[name]?.inFlight ?? []).sorted()
    return ids.flatMap { replace($0, from: name, now: now) }
  }

  private mutating func replace(_ id: UInt64, from name: String, now: UInt64) -> [Action] {
    workers[name]?.inFlight.remove(id)
    guard requests[id] != nil else { return [] }
    requests[id]?.worker = nil
    return [.note(.resent(id: id, from: name))] + place(id, now: now)
  }
}
