/// Which worker gets which request, and what happens when a worker dies, stalls, drains or answers late: all of it
/// without sockets, clocks or threads. Times are milliseconds of any monotonic clock.
///
/// Promises: each submitted request is finished exactly once; a request is at one worker at a time; it visits a worker
/// at most once; a late answer of a worker that was given up is ignored.
package struct LinkStateMachine {
  package struct Limits: Sendable {
    /// Requests in flight at one worker beyond which new ones are refused at once. ZeroMQ's own high-water mark is no
    /// back-pressure. Well above a worker's cold queue, so that warm requests pass while that one is full.
    package var inFlightPerWorker = 8192
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
    /// The worker was removed and has nothing left to answer.
    case close(worker: String)
    /// For logs and metrics.
    case note(Note)
  }

  package enum Note: Sendable, Equatable {
    case workerUp(String)
    case workerDown(String)
    case workerStalled(String)
    case workerDraining(String)
    /// It is no longer configured, and is closed after its last answer.
    case workerRemoved(String)
    /// Its endpoint cannot be connected to at all.
    case unusable(worker: String, reason: String)
    case resent(id: UInt64, from: String)
    case lateReply(worker: String)
  }

  private struct Worker {
    let name: String
    let place: Rendezvous.Place
    var connected = false
    var stalled = false
    var draining = false
    /// Taken out of the configuration: it gets nothing new, and is closed when it has answered what it has.
    var leaving = false
    var inFlight: Set<UInt64> = []
    var lastHeard: UInt64 = 0
    var lastAsked: UInt64 = 0
    var askedSinceHeard = false
    var health = WorkerHealth()

    var usable: Bool { connected && !stalled && !draining && !leaving }
    /// Sessions that it can keep; until it has said so it counts as a very small one.
    var weight: Double { Double(max(1, health.sessionLimit)) }
  }

  private struct Request {
    let request: WorkerRequest
    let digest: UInt64
    let deadline: UInt64
    /// Numbers of workers.
    var tried: [Int] = []
    var worker: Int?
  }

  /// Ids of the link's own health questions; those of requests are below.
  private static let healthIDs: UInt64 = 1 << 63

  private let limits: Limits
  private let rendezvous: Rendezvous
  /// By number; a number is never used again, so that a request can tell whom it has visited.
  private var workers: [Worker?] = []
  private var numbers: [String: Int] = [:]
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
    for worker in workers { add(worker) }
  }

  package var requestsInFlight: Int { requests.count }
  package var usableWorkers: [String] { workers.compactMap { $0?.usable == true ? $0?.name : nil }.sorted() }

  /// What the connected workers say about themselves.
  package var health: [String: WorkerHealth] {
    Dictionary(
      workers.compactMap { $0?.connected == true ? $0.map { ($0.name, $0.health) } : nil },
      uniquingKeysWith: { first, _ in first })
  }

  /// Requests at each worker.
  package var inFlight: [String: Int] {
    Dictionary(
      workers.compactMap { $0.map { ($0.name, $0.inFlight.count) } }, uniquingKeysWith: { first, _ in first })
  }

  /// The next moment at which `tick` has something to do.
  package var nextTick: UInt64? {
    var next: UInt64? = requests.isEmpty ? nil : nextSweep
    for case let worker? in workers where worker.connected {
      let question = worker.lastAsked + limits.healthInterval
      if next.map({ question < $0 }) ?? true { next = question }
    }
    return next
  }

  // MARK: members

  /// A worker was named in the configuration; the transport connects to it.
  package mutating func add(_ name: String) {
    if let number = numbers[name] {
      workers[number]?.leaving = false
      return
    }
    numbers[name] = workers.count
    workers.append(Worker(name: name, place: rendezvous.place(name)))
  }

  /// A worker is no longer in the configuration: it answers what it has, and is closed then.
  package mutating func remove(_ name: String, now: UInt64) -> [Action] {
    guard let number = numbers[name], let worker = workers[number], !worker.leaving else { return [] }
    workers[number]?.leaving = true
    guard worker.connected else { return drop(number) }
    return [.note(.workerRemoved(name))] + closeIfDone(number)
  }

  private mutating func closeIfDone(_ number: Int) -> [Action] {
    guard let worker = workers[number], worker.leaving, worker.inFlight.isEmpty else { return [] }
    return drop(number)
  }

  private mutating func drop(_ number: Int) -> [Action] {
    guard let name = workers[number]?.name else { return [] }
    workers[number] = nil
    numbers[name] = nil
    // Requests that wait only because they have visited all others cannot be served any more.
    let stuck = waiting.filter { id in requests[id].map { !$0.tried.isEmpty && hasVisitedAll($0) } ?? true }
    waiting.removeAll { stuck.contains($0) }
    return [.close(worker: name)]
      + stuck.compactMap { requests.removeValue(forKey: $0) == nil ? nil : .finish(id: $0, .unavailable) }
  }

  private func hasVisitedAll(_ request: Request) -> Bool {
    !workers.indices.contains { workers[$0].map { !$0.leaving } == true && !request.tried.contains($0) }
  }

  // MARK: inputs

  /// A new request; answers its id first.
  package mutating func submit(
    _ request: WorkerRequest, deadline: UInt64, now: UInt64
  ) -> (id: UInt64, actions: [Action]) {
    let id = nextID
    nextID += 1
    let digest = request.withRoutingKey { rendezvous.digest($0) }
    return (id, place(id, Request(request: request, digest: digest, deadline: deadline), now: now))
  }

  /// One copy of the request for each connected worker; nobody waits for the answers.
  package mutating func broadcast(_ request: WorkerRequest, now: UInt64) -> [Action] {
    health.keys.sorted().map { worker in
      nextHealthID += 1
      return .send(worker: worker, id: nextHealthID, request: request, milliseconds: 0)
    }
  }

  package mutating func connected(_ name: String, now: UInt64) -> [Action] {
    guard let number = numbers[name], var worker = workers[number] else { return [] }
    worker.connected = true
    worker.stalled = false
    worker.draining = false
    worker.lastHeard = now
    worker.askedSinceHeard = false
    workers[number] = worker
    return [.note(.workerUp(name))] + askHealth(number, now: now) + placeWaiting(now: now)
  }

  package mutating func disconnected(_ name: String, now: UInt64) -> [Action] {
    guard let number = numbers[name], let worker = workers[number], worker.connected else { return [] }
    workers[number]?.connected = false
    return [.note(.workerDown(name))] + giveUp(number, now: now)
      + (worker.leaving ? drop(number) : [])
  }

  /// The transport could not take the message: as if the worker had died with it.
  package mutating func sendFailed(_ name: String, id: UInt64, now: UInt64) -> [Action] {
    guard let number = numbers[name], id < Self.healthIDs, requests[id]?.worker == number else { return [] }
    return replace(id, from: number, now: now) + closeIfDone(number)
  }

  package mutating func replied(_ name: String, id: UInt64, _ reply: WorkerReply, now: UInt64) -> [Action] {
    guard let number = numbers[name], workers[number] != nil else { return [] }
    var actions: [Action] = []
    let wasStalled = workers[number]?.stalled == true
    workers[number]?.lastHeard = now
    workers[number]?.askedSinceHeard = false
    workers[number]?.stalled = false
    workers[number]?.inFlight.remove(id)
    if case .health(let health) = reply {
      if health.draining, workers[number]?.draining == false { actions.append(.note(.workerDraining(name))) }
      workers[number]?.draining = health.draining
      workers[number]?.health = health
    }
    if wasStalled {
      actions.append(.note(.workerUp(name)))
      actions += placeWaiting(now: now)
    }
    guard id < Self.healthIDs else { return actions }
    if let request = requests[id], request.worker == number {
      requests[id] = nil
      actions.append(.finish(id: id, .reply(reply)))
    } else {
      actions.append(.note(.lateReply(worker: name)))
    }
    return workers[number]?.leaving == true ? actions + closeIfDone(number) : actions
  }

  package mutating func tick(now: UInt64) -> [Action] {
    var actions: [Action] = []
    for number in workers.indices {
      guard let worker = workers[number], worker.connected else { continue }
      if worker.askedSinceHeard, !worker.stalled, now >= worker.lastHeard + limits.stallTimeout {
        workers[number]?.stalled = true
        actions.append(.note(.workerStalled(worker.name)))
        actions += giveUp(number, now: now)
      }
      if now >= worker.lastAsked + limits.healthInterval { actions += askHealth(number, now: now) }
    }
    guard now >= nextSweep else { return actions }
    nextSweep = now + Self.sweepInterval
    let late = requests.filter { $0.value.deadline <= now }.map(\.key).sorted()
    for id in late {
      if let number = requests[id]?.worker { workers[number]?.inFlight.remove(id) }
      requests[id] = nil
      actions.append(.finish(id: id, .unavailable))
    }
    if !late.isEmpty { waiting.removeAll { requests[$0] == nil } }
    for number in workers.indices { actions += closeIfDone(number) }
    return actions
  }

  // MARK: placing

  private mutating func askHealth(_ number: Int, now: UInt64) -> [Action] {
    guard let name = workers[number]?.name else { return [] }
    nextHealthID += 1
    workers[number]?.lastAsked = now
    workers[number]?.askedSinceHeard = true
    return [.send(worker: name, id: nextHealthID, request: .health, milliseconds: 0)]
  }

  /// The worker that a request belongs to among those that it may still visit.
  private func choose(_ request: Request) -> Int? {
    var best: (number: Int, score: Double)?
    for number in workers.indices {
      guard let worker = workers[number], worker.usable, !request.tried.contains(number) else { continue }
      let score = rendezvous.score(request.digest, worker.place, weight: worker.weight)
      guard let leader = best, let name = workers[leader.number]?.name else {
        best = (number, score)
        continue
      }
      // Equal scores are as good as impossible; the name keeps all frontends in agreement even then.
      if (score, worker.name) > (leader.score, name) { best = (number, score) }
    }
    return best?.number
  }

  private mutating func place(_ id: UInt64, _ new: Request, now: UInt64) -> [Action] {
    var request = new
    guard let number = choose(request), let name = workers[number]?.name else {
      requests[id] = nil
      // A request that failed somewhere may not come back there; without another worker it can only fail.
      if !request.tried.isEmpty, hasVisitedAll(request) { return [.finish(id: id, .unavailable)] }
      guard waiting.count < limits.waiting else { return [.finish(id: id, .overloaded)] }
      requests[id] = request
      waiting.append(id)
      return []
    }
    guard workers[number].map({ $0.inFlight.count < limits.inFlightPerWorker }) == true else {
      requests[id] = nil
      return [.finish(id: id, .overloaded)]
    }
    request.worker = number
    request.tried.append(number)
    requests[id] = request
    workers[number]?.inFlight.insert(id)
    let left = UInt32(clamping: request.deadline > now ? request.deadline - now : 0)
    return [.send(worker: name, id: id, request: request.request, milliseconds: left)]
  }

  private mutating func placeWaiting(now: UInt64) -> [Action] {
    let ids = waiting
    waiting = []
    return ids.flatMap { id in requests[id].map { place(id, $0, now: now) } ?? [] }
  }

  private mutating func giveUp(_ number: Int, now: UInt64) -> [Action] {
    let ids = (workers[number]?.inFlight ?? []).sorted()
    return ids.flatMap { replace($0, from: number, now: now) }
  }

  private mutating func replace(_ id: UInt64, from number: Int, now: UInt64) -> [Action] {
    workers[number]?.inFlight.remove(id)
    guard var request = requests[id], let name = workers[number]?.name else { return [] }
    request.worker = nil
    return [.note(.resent(id: id, from: name))] + place(id, request, now: now)
  }
}
