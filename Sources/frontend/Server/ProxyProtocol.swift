import NIOCore

/// The header by which a TCP proxy tells whose connection it passes on: versions 1 (a line of text) and 2 (binary) of
/// the PROXY protocol, strictly. A proxy sends it whole and before anything else.
enum ProxyProtocol {
  enum Result: Equatable {
    /// More bytes are needed to tell.
    case incomplete
    /// No PROXY header, or a wrong one.
    case invalid
    /// The header's length in bytes and whom it names; nil when the proxy speaks for itself or names no address.
    case header(length: Int, source: SocketAddress?)
  }

  private static let signature: [UInt8] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]
  /// The longest line of version 1, with its end.
  private static let longestLine = 107
  /// The most that version 2 may carry after its fixed part: addresses and extensions.
  private static let mostData = 2048

  static func parse(_ bytes: [UInt8]) -> Result {
    guard let first = bytes.first else { return .incomplete }
    return first == signature[0] ? parseBinary(bytes) : parseLine(bytes)
  }

  // MARK: version 1

  private static func parseLine(_ bytes: [UInt8]) -> Result {
    let prefix = Array("PROXY ".utf8)
    guard bytes.starts(with: prefix.prefix(bytes.count)) else { return .invalid }
    guard let end = bytes.prefix(longestLine).firstIndex(of: 0x0a) else {
      return bytes.count < longestLine ? .incomplete : .invalid
    }
    guard end > prefix.count, bytes[end - 1] == 0x0d else { return .invalid }
    let length = end + 1
    let words = bytes[prefix.count..<end - 1].split(separator: 0x20, omittingEmptySubsequences: false)
    guard let family = words.first.map({ String(decoding: $0, as: UTF8.self) }) else { return .invalid }
    if family == "UNKNOWN" { return .header(length: length, source: nil) }
    guard words.count == 5, family == "TCP4" || family == "TCP6" else { return .invalid }
    let texts = words.map { String(decoding: $0, as: UTF8.self) }
    guard let source = address(texts[1], port: texts[3], isIPv6: family == "TCP6"),
      address(texts[2], port: texts[4], isIPv6: family == "TCP6") != nil
    else { return .invalid }
    return .header(length: length, source: source)
  }

  private static func address(_ text: String, port: String, isIPv6: Bool) -> SocketAddress? {
    let isCanonical = port == "0" || (port.first != "0" && port.utf8.allSatisfy { (0x30...0x39).contains($0) })
    guard isCanonical, let number = UInt16(port),
      let address = try? SocketAddress(ipAddress: text, port: Int(number))
    else { return nil }
    switch address {
    case .v4: return isIPv6 ? nil : address
    case .v6: return isIPv6 ? address : nil
    case .unixDomainSocket: return nil
    }
  }

  // MARK: version 2

  private static func parseBinary(_ bytes: [UInt8]) -> Result {
    guard bytes.starts(with: signature.prefix(bytes.count)) else { return .invalid }
    guard bytes.count >= 16 else { return .incomplete }
    let (command, family) = (bytes[12], bytes[13])
    let count = Int(bytes[14]) << 8 | Int(bytes[15])
    guard command == 0x20 || command == 0x21, count <= mostData else { return .invalid }
    guard bytes.count >= 16 + count else { return .incomplete }
    let length = 16 + count
    // LOCAL: the proxy's own connection, such as a health check.
    if command == 0x20 { return .header(length: length, source: nil) }
    let size: Int
    switch family {
    case 0x00: return .header(length: length, source: nil)
    case 0x11: size = 4
    case 0x21: size = 16
    default: return .invalid
    }
    guard count >= 2 * size + 4 else { return .invalid }
    let port = Int(bytes[16 + 2 * size]) << 8 | Int(bytes[17 + 2 * size])
    let packed = ByteBuffer(bytes: bytes[16..<16 + size])
    guard let source = try? SocketAddress(packedIPAddress: packed, port: port) else { return .invalid }
    return .header(length: length, source: source)
  }
}

/// Reads the PROXY header of a connection from a trusted proxy, notes whom it names, and leaves. A connection without a
/// correct one is closed: guessing would let agents write their own.
final class ProxyProtocolHandler: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  struct Failure: Error, CustomStringConvertible {
    let description = "no correct PROXY header; is send-proxy set in the proxy?"
  }

  private let connection: Connection
  private let report: @Sendable (any Error) -> Void
  private var buffer = ByteBuffer()
  private var isFinished = false
  private var timer: Scheduled<Void>?

  init(connection: Connection, report: @escaping @Sendable (any Error) -> Void) {
    self.connection = connection
    self.report = report
  }

  func handlerAdded(context: ChannelHandlerContext) {
    let channel = context.channel
    timer = context.eventLoop.scheduleTask(in: ConnectionSetup.handshakeTime) { channel.close(promise: nil) }
  }

  func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

  func channelInactive(context: ChannelHandlerContext) {
    timer?.cancel()
    context.fireChannelInactive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if isFinished { return context.fireChannelRead(data) }
    var part = unwrapInboundIn(data)
    buffer.writeBuffer(&part)
    switch ProxyProtocol.parse(Array(buffer.readableBytesView.prefix(4096))) {
    case .incomplete: break
    case .invalid:
      isFinished = true
      report(Failure())
      context.close(promise: nil)
    case .header(let length, let source):
      isFinished = true
      if let source { connection.setSource(source) }
      buffer.moveReaderIndex(forwardBy: length)
      let rest = buffer
      buffer = ByteBuffer()
      if rest.readableBytes > 0 { context.fireChannelRead(wrapInboundOut(rest)) }
      context.pipeline.syncOperations.removeHandler(self, promise: nil)
    }
  }
}
