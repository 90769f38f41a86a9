import Foundation
import Synchronization
import XCTest

@testable import VQL

/// Runs a body on a thread with the stack that the agent gives to sessions.
func onLargeStack<Result: Sendable>(size: Int = 8 << 20, _ body: @escaping @Sendable () throws -> Result) throws
  -> Result
{
  let outcome = Mutex<Swift.Result<Result, any Error>?>(nil)
  let done = DispatchSemaphore(value: 0)
  let thread = Thread {
    let result = Swift.Result { try body() }
    outcome.withLock { $0 = result }
    done.signal()
  }
  thread.stackSize = size
  thread.start()
  done.wait()
  return try XCTUnwrap(outcome.withLock { $0 }).get()
}

/// Collects what a session logs.
final class LogBook: Sendable {
  private let lines = Mutex<[String]>([])
  func add(_ line: String) { lines.withLock { $0.append(line) } }
  var all: [String] { lines.withLock { $0 } }
}

/// Runs a query and returns its rows as JSON.
func rows(_ query: String, log: LogBook = LogBook(), limit: Int = 256 << 20) throws -> [String] {
  try onLargeStack {
    var options = VQLSessionOptions()
    options.log = { log.add($0) }
    options.memoryLimit = limit
    let session = VQLSession(options: options)
    defer { session.close() }
    var found: [String] = []
    try session.run(query) { row in
      var text: [UInt8] = []
      row.appendJSON(to: &text)
      found.append(String(decoding: text, as: UTF8.self))
      return .more
    }
    return found
  }
}
