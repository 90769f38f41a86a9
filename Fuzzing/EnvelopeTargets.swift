import Envelope
import PKI
import PublicIdentity
import Wire

extension FuzzTarget {
  /// What a worker does with a body whose MAC is right: anybody can make one. The first byte says which part is the
  /// input: the plain lists, the ciphertext, the IV, the plain metadata, or the plain session properties.
  static let opener = FuzzTarget(name: "opener", abstract: "bodies whose MAC is right, with anything inside") {
    let session = try FuzzSession()
    return [
      [0] + session.plainLists([[1, 2, 3]]), [1] + [UInt8](repeating: 7, count: 32),
      [2] + [UInt8](repeating: 1, count: 16),
      [3] + session.plainMetadata(), [4] + session.plainProperties(),
    ]
  } run: { bytes in
    guard let part = bytes.first, let session = try? FuzzSession() else { return }
    let input = Array(bytes.dropFirst())
    switch part % 16 {
    // Unwrapping costs RSA: most of the inputs go to what needs none.
    case 3: unwrap(session.body(metadata: input), session)
    case 4: unwrap(session.body(properties: Array(input.prefix(FuzzSession.mostProperties))), session)
    case 1: open(session.body(cipherText: input), session)
    case 2: open(session.body(iv: input), session)
    default: open(session.body(plain: input), session)
    }
  }

  /// A snapshot of sessions: the first byte says whether the rest is a whole file or only its plain entries.
  static let snapshot = FuzzTarget(name: "snapshot", abstract: "a worker's snapshot of its sessions") {
    let session = try FuzzSession()
    var cache = SessionCache(capacity: 4)
    let body = session.body(lists: [[1]])
    let opened = try body.withUnsafeBytes {
      try InboundSession.unwrap($0, EnvelopeScan($0), with: session.server).session
    }
    let client = session.client.publicKey
    cache.store(inbound: opened, of: ClientName(id: client.clientID), publicKey: client)
    let outbound = try OutboundSession(sender: "VelociraptorServer", key: session.server, receiver: client)
    cache.store(outbound: outbound, of: ClientName(id: client.clientID), publicKey: client)
    let sealed = try SessionSnapshot.seal(cache, key: session.server, now: 1_000)
    return [[0] + sealed, [1] + Self.entry(client.pkcs1DER), [1]]
  } run: { bytes in
    guard let first = bytes.first, let session = try? FuzzSession() else { return }
    let rest = Array(bytes.dropFirst())
    if first & 1 == 0 {
      _ = try? SessionSnapshot.open(rest, key: session.server, capacity: 4, now: 1_000)
    } else if let cache = try? SessionSnapshot.read(rest, capacity: 4) {
      require(cache.count <= 4, "more sessions than the cache may hold")
    }
  }

  /// A plain entry with a name and a key, and sessions that are not in order.
  private static func entry(_ key: [UInt8]) -> [UInt8] {
    var item = WireWriter()
    item.field(1, "C.0123456789abcdef")
    item.field(2, bytes: key)
    item.field(3, bytes: [10, 1, 67])
    item.field(4, bytes: [10, 1, 67])
    var writer = WireWriter()
    writer.field(1, bytes: item.bytes)
    return writer.bytes
  }

  private static func open(_ body: [UInt8], _ session: FuzzSession) {
    body.withUnsafeBytes { buffer in
      guard let scan = try? EnvelopeScan(buffer), let lists = try? session.known.open(buffer, scan) else { return }
      require(lists.lists.reduce(0) { $0 + $1.count } <= body.count, "more content than the body has")
    }
  }

  private static func unwrap(_ body: [UInt8], _ session: FuzzSession) {
    body.withUnsafeBytes { buffer in
      guard let scan = try? EnvelopeScan(buffer),
        let opened = try? InboundSession.unwrap(buffer, scan, with: session.server)
      else { return }
      _ = opened.session.verify(with: session.client.publicKey)
    }
  }
}
