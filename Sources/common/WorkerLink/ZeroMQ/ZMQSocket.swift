import CZeroMQ

#if canImport(Glibc)
  import Glibc
#endif

/// A call of libzmq that failed.
package struct ZMQError: Error, Sendable, CustomStringConvertible {
  package let step: String
  package let code: Int32

  init(_ step: String) {
    self.step = step
    code = zmq_errno()
  }

  package var description: String { "\(step): \(String(cString: zmq_strerror(code)))" }
}

/// A ZeroMQ context: one in each process.
///
/// Sendable: libzmq's contexts are thread-safe.
package final class ZMQContext: @unchecked Sendable {
  let handle: UnsafeMutableRawPointer

  package init() throws {
    guard let handle = zmq_ctx_new() else { throw ZMQError("ZeroMQ context") }
    self.handle = handle
  }

  deinit { zmq_ctx_term(handle) }
}

/// A ZeroMQ socket. Not Sendable: it belongs to the thread that made it.
final class ZMQSocket {
  /// More frames than any honest message has: the lists of the largest body, and some.
  static let maximumFrames = 65_536

  let handle: UnsafeMutableRawPointer
  private let context: ZMQContext

  init(_ context: ZMQContext, type: Int32) throws {
    guard let handle = zmq_socket(context.handle, type) else { throw ZMQError("ZeroMQ socket") }
    self.handle = handle
    self.context = context
    try set(ZMQ_LINGER, 0)
  }

  deinit { zmq_close(handle) }

  func set(_ option: Int32, _ value: Int32) throws {
    var value = value
    guard zmq_setsockopt(handle, option, &value, MemoryLayout<Int32>.size) == 0 else {
      throw ZMQError("ZeroMQ option \(option)")
    }
  }

  func setLong(_ option: Int32, _ value: Int64) throws {
    var value = value
    guard zmq_setsockopt(handle, option, &value, MemoryLayout<Int64>.size) == 0 else {
      throw ZMQError("ZeroMQ option \(option)")
    }
  }

  func setBytes(_ option: Int32, _ value: [UInt8]) throws {
    guard zmq_setsockopt(handle, option, value, value.count) == 0 else { throw ZMQError("ZeroMQ option \(option)") }
  }

  /// What both ends of the link need: heartbeats that notice a stopped peer, no endless handshake, bounded messages.
  func setLinkOptions() throws {
    try set(ZMQ_HEARTBEAT_IVL, 1000)
    try set(ZMQ_HEARTBEAT_TIMEOUT, 3000)
    try set(ZMQ_HEARTBEAT_TTL, 5000)
    try set(ZMQ_HANDSHAKE_IVL, 5000)
    try setLong(ZMQ_MAXMSGSIZE, 256 * 1_048_576)
    // The link counts what is in flight itself; a full pipe must fail, not block.
    try set(ZMQ_SNDHWM, 65_536)
    try set(ZMQ_RCVHWM, 65_536)
  }

  func bind(_ endpoint: String) throws {
    if endpoint.hasPrefix("tcp://[") { try set(ZMQ_IPV6, 1) }
    guard zmq_bind(handle, endpoint) == 0 else { throw ZMQError("bind \(endpoint)") }
  }

  func connect(_ endpoint: String) throws {
    if endpoint.hasPrefix("tcp://[") { try set(ZMQ_IPV6, 1) }
    guard zmq_connect(handle, endpoint) == 0 else { throw ZMQError("connect \(endpoint)") }
  }

  /// The endpoint that a wildcard bind was given.
  func lastEndpoint() throws -> String {
    var buffer = [CChar](repeating: 0, count: 1024)
    var length = buffer.count
    guard zmq_getsockopt(handle, ZMQ_LAST_ENDPOINT, &buffer, &length) == 0 else {
      throw ZMQError("ZeroMQ last endpoint")
    }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Sends one message of several frames without waiting.
  /// - Parameter peer: of a ROUTER socket; nil on other sockets.
  /// - Returns: false when the peer is gone or its queue is full.
  func send(_ frames: [[UInt8]], to peer: [UInt8]? = nil) -> Bool {
    if let peer, !send(peer, isLast: frames.isEmpty) { return false }
    for index in frames.indices where !send(frames[index], isLast: index + 1 == frames.count) { return false }
    return true
  }

  private func send(_ frame: [UInt8], isLast: Bool) -> Bool {
    var message = zmq_msg_t()
    guard zmq_msg_init_size(&message, frame.count) == 0 else { return false }
    if !frame.isEmpty, let destination = zmq_msg_data(&message) {
      frame.withUnsafeBytes { source in
        if let base = source.baseAddress { memcpy(destination, base, source.count) }
      }
    }
    let flags = ZMQ_DONTWAIT | (isLast ? 0 : ZMQ_SNDMORE)
    var result: Int32
    repeat { result = zmq_msg_send(&message, handle, flags) } while result < 0 && zmq_errno() == EINTR
    if result < 0 { zmq_msg_close(&message) }
    return result >= 0
  }

  /// Receives one whole message without waiting; nil when there is none. A message of too many frames is read to its
  /// end and comes back empty.
  func receive() -> [[UInt8]]? {
    var frames: [[UInt8]] = []
    frames.reserveCapacity(4)
    var count = 0
    while true {
      var message = zmq_msg_t()
      guard zmq_msg_init(&message) == 0 else { return nil }
      defer { zmq_msg_close(&message) }
      var result: Int32
      repeat { result = zmq_msg_recv(&message, handle, ZMQ_DONTWAIT) } while result < 0 && zmq_errno() == EINTR
      if result < 0 { return nil }
      count += 1
      if count <= Self.maximumFrames {
        let size = zmq_msg_size(&message)
        if let data = zmq_msg_data(&message), size > 0 {
          frames.append(Array(UnsafeRawBufferPointer(start: data, count: size)))
        } else {
          frames.append([])
        }
      }
      if zmq_msg_more(&message) == 0 { return count <= Self.maximumFrames ? frames : [] }
    }
  }
}

/// Connection events of one socket.
final class ZMQMonitor {
  enum Event {
    case up(address: String)
    case down(address: String)
    case handshakeFailed(address: String)
    case other
  }

  let socket: ZMQSocket

  init(_ context: ZMQContext, of watched: ZMQSocket, name: String) throws {
    let endpoint = "inproc://monitor-\(name)"
    let events =
      ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
      | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
    guard zmq_socket_monitor(watched.handle, endpoint, Int32(events)) == 0 else { throw ZMQError("ZeroMQ monitor") }
    socket = try ZMQSocket(context, type: ZMQ_PAIR)
    try socket.connect(endpoint)
  }

  func next() -> Event? {
    guard let frames = socket.receive() else { return nil }
    guard let first = frames.first, first.count >= 2 else { return .other }
    let event = Int32(first[0]) | Int32(first[1]) << 8
    let address = frames.count > 1 ? String(decoding: frames[1], as: UTF8.self) : ""
    switch event {
    case Int32(ZMQ_EVENT_HANDSHAKE_SUCCEEDED): return .up(address: address)
    case Int32(ZMQ_EVENT_DISCONNECTED): return .down(address: address)
    case Int32(ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL), Int32(ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL),
      Int32(ZMQ_EVENT_HANDSHAKE_FAILED_AUTH):
      return .handshakeFailed(address: address)
    default: return .other
    }
  }
}

/// Wakes a thread that polls ZeroMQ sockets.
///
/// Sendable: an eventfd may be written from any thread.
final class Waker: Sendable {
  let descriptor: Int32

  init() throws {
    descriptor = mr_eventfd()
    guard descriptor >= 0 else { throw ZMQError("eventfd") }
  }

  deinit { close(descriptor) }

  func wake() {
    var one: UInt64 = 1
    _ = write(descriptor, &one, 8)
  }

  func drain() {
    var count: UInt64 = 0
    _ = read(descriptor, &count, 8)
  }
}

/// Milliseconds of the monotonic clock.
package func monotonicMilliseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(max(0, time.tv_sec)) * 1000 + UInt64(max(0, time.tv_nsec)) / 1_000_000
}
