import Glibc
import Synchronization

/// Severity of a log line; default lines carry no prefix.
enum LogLevel: String {
  case none = ""
  case error = "ERROR"
  case warn = "WARN"
  case info = "INFO"
  case debug = "DEBUG"
  case alert = "ALERT"
}

/// The switch that ends a session from another thread.
final class Cancellation: Sendable {
  private let flag = Atomic<Bool>(false)
  private let reason = Mutex<VQLError?>(nil)

  var isCancelled: Bool { flag.load(ordering: .relaxed) }
  var error: VQLError { reason.withLock { $0 } ?? VQLError(code: .cancelled, message: "Cancelled") }

  /// The first reason given is the one that is reported.
  func cancel(_ error: VQLError) {
    reason.withLock { if $0 == nil { $0 = error } }
    flag.store(true, ordering: .releasing)
  }
}

/// Counters of a session.
package struct VQLStatistics: Sendable, Equatable {
  package var rowsScanned: Int64 = 0
  package var pluginsCalled: Int64 = 0
  package var functionsCalled: Int64 = 0
}

/// What all scopes of one session share. Used by one thread at a time: the session's, or the one whose turn it is.
final class Context {
  /// Scopes, stored expressions and calls may be nested this deep (language.md §4.1).
  static let maximumDepth = 1000
  /// Evaluation stops when less than this is left of the thread's stack.
  static let stackReserve: UInt = 192 * 1024
  /// A statement that overflows more often than this evaluates nothing more: recursion that branches never ends.
  static let maximumOverflows = 1000
  /// Largest string or array that an operator may build.
  static let maximumLength = 100_000_000

  let options: VQLSessionOptions
  let cancellation: Cancellation
  var statistics = VQLStatistics()
  var failure: (any Error)?
  var threadState = ThreadState()
  /// Set once queries run beside each other.
  var turns: Turns?
  private var overflowReported = false
  private var overflows = 0
  var statementText = ""
  private var patterns: [[UInt8]: Regex?] = [:]
  private var lambdas: [[UInt8]: Result<Lambda, VQLError>] = [:]
  var uploads: [String: VQLValue] = [:]
  var logTimes: [[UInt8]: Int64] = [:]
  var caches: [String: VQLValue] = [:]
  var memoryUsed = 0
  var regexCache = RegexCache()

  init(options: VQLSessionOptions, cancellation: Cancellation) {
    self.options = options
    self.cancellation = cancellation
  }

  // MARK: logging

  func log(_ level: LogLevel, _ text: String) {
    options.log(level == .none ? text : "\(level.rawValue):\(text)")
  }

  /// Logs the use of an old name, once per session.
  func logDeprecation(of name: String, use other: String) {
    guard logTimes.updateValue(0, forKey: Array("deprecated \(name)".utf8)) == nil else { return }
    log(.none, "\(name) is deprecated, use \(other) instead")
  }

  // MARK: stopping

  /// True once the query must end: cancelled, or the caller's sink or throttle failed.
  var isStopped: Bool {
    if let stopper = threadState.stopper, stopper.isStopped { return true }
    return !threadState.isDetached && (failure != nil || cancellation.isCancelled)
  }

  /// Counts one operation; false when the query must end.
  func operation() -> Bool {
    statistics.rowsScanned &+= 1
    if let turns, turns.others > 0, statistics.rowsScanned & 0xFF == 0 { yieldTurn() }
    return step()
  }

  /// A piece of work that makes no row, such as reading one directory: held back and ended as operations are.
  func step() -> Bool {
    if let throttle = options.throttle {
      do { try throttle() } catch {
        if failure == nil { failure = error }
      }
    }
    return !isStopped
  }

  /// Sleeps in short pieces; false when the query must end.
  func sleep(nanoseconds: Int64) -> Bool {
    var left = nanoseconds
    while left > 0 && !isStopped {
      let piece = min(left, 20_000_000)
      outside {
        var time = timespec(tv_sec: 0, tv_nsec: Int(piece))
        nanosleep(&time, nil)
      }
      left -= piece
    }
    return !isStopped
  }

  // MARK: depth

  /// Notes where the stack of the calling thread ends.
  func startThread() {
    var attributes = pthread_attr_t()
    var address: UnsafeMutableRawPointer?
    var size = 0
    threadState.stackLimit = 0
    // A GNU extension that the headers hide without _GNU_SOURCE.
    typealias GetAttributes = @convention(c) (pthread_t, UnsafeMutablePointer<pthread_attr_t>) -> Int32
    guard let symbol = dlsym(nil, "pthread_getattr_np") else { return }
    guard unsafeBitCast(symbol, to: GetAttributes.self)(pthread_self(), &attributes) == 0 else { return }
    if pthread_attr_getstack(&attributes, &address, &size) == 0, let address {
      threadState.stackLimit = UInt(bitPattern: address) + min(Self.stackReserve, UInt(size) / 2)
    }
    pthread_attr_destroy(&attributes)
  }

  /// Enters one level of evaluation; false when there is no room left, which is logged once per statement.
  func enter() -> Bool {
    var marker: UInt8 = 0
    let here = withUnsafeMutablePointer(to: &marker) { UInt(bitPattern: $0) }
    // Nothing new starts once the query must end: an expression alone may branch for longer than anybody waits.
    if isStopped || overflows > Self.maximumOverflows { return false }
    if threadState.depth >= Self.maximumDepth || here < threadState.stackLimit {
      overflows += 1
      if !overflowReported { log(.none, "Stack Overflow: \(statementText)") }
      overflowReported = true
      return false
    }
    threadState.depth += 1
    return true
  }

  func leave() { threadState.depth -= 1 }

  func startStatement(_ text: @autoclosure () -> String) {
    overflowReported = false
    overflows = 0
    statementText = text()
  }

  // MARK: caches

  /// A compiled pattern; an invalid one is logged once and gives nil.
  func regex(_ pattern: [UInt8], ignoreCase: Bool, prefix: String = "Compile regexp") -> Regex? {
    let key = [ignoreCase ? 1 : 0] + pattern
    if let known = patterns[key] { return known }
    if patterns.count > 1000 { patterns.removeAll() }
    do {
      let compiled = try Regex(pattern, ignoreCase: ignoreCase)
      patterns[key] = compiled
      return compiled
    } catch {
      log(.none, "\(prefix): \(error)")
      patterns[key] = .some(nil)
      return nil
    }
  }

  func lambda(_ text: [UInt8]) throws(VQLError) -> Lambda {
    if let known = lambdas[text] { return try known.get() }
    let parsed: Result<Lambda, VQLError>
    do throws(VQLError) { parsed = .success(try Parser.lambda(String(decoding: text, as: UTF8.self))) } catch {
      parsed = .failure(error)
    }
    lambdas[text] = parsed
    return try parsed.get()
  }

  // MARK: memory

  /// Reserves memory for kept rows; false when the session's limit is reached.
  func reserve(_ bytes: Int) -> Bool {
    guard memoryUsed + bytes <= options.memoryLimit else { return false }
    memoryUsed += bytes
    return true
  }

  func release(_ bytes: Int) { memoryUsed = max(0, memoryUsed - bytes) }
}

extension VQLValue {
  /// Rough size in memory, for limits.
  func footprint(depth: Int = 0) -> Int {
    switch self {
    case .bytes(let bytes): return 48 + bytes.count
    case .array(let elements) where depth < 6:
      return elements.reduce(48) { $0 &+ $1.footprint(depth: depth + 1) }
    case .dict(let dict) where depth < 6:
      return dict.values.reduce(80) { $0 &+ $1.footprint(depth: depth + 1) }
    case .path(let path): return path.components.reduce(80) { $0 &+ 32 &+ $1.count }
    default: return 16
    }
  }
}
