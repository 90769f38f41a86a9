import Logging
import Observability
import PublicIdentity
import Store
import Wire
import WorkerLink

/// Turns a POST body into its opened content with the help of a worker and the store's keys (architecture: "One POST").
struct BodyOpener: Sendable {
  /// What a body turned out to be.
  enum Opened: Sendable {
    /// The sender is proved.
    case authenticated(OpenedBody, ClientName)
    /// Nothing in it, an unknown sender, or a signature that is not the sender's: 406.
    case unauthenticated
    /// It does not open: 403.
    case refused
    /// No worker, or no store: 503.
    case unavailable(String)
  }

  /// Milliseconds that a worker may take, its queue included.
  static let timeout: UInt64 = 20_000

  let link: WorkerLink
  let store: any Store
  let limited: RateLimitedLog

  /// - Parameters:
  ///   - address: where it came from, for refusing forgeries before they cost RSA.
  ///   - acknowledge: whether the worker also seals the acknowledgement.
  func open(_ body: [UInt8], from address: String, acknowledge: Bool) async -> Opened {
    guard let scan = try? EnvelopeScan(body) else { return .refused }
    if scan.isEmpty { return .unauthenticated }
    let request = WorkerRequest.open(body: body, acknowledge: acknowledge, address: ReaderFacts.host(of: address))
    switch await link.request(request, timeout: Self.timeout) {
    case .reply(.opened(let opened)): return accept(opened)
    case .reply(.unverified(let source)): return await confirm(body, source, acknowledge)
    case .reply(.rejected): return .refused
    case .reply(.overloaded), .overloaded: return .unavailable("overloaded")
    case .reply, .unavailable: return .unavailable("no crypto-worker")
    }
  }

  private func accept(_ opened: OpenedBody) -> Opened {
    // Clients before API version 4 are not supported (server.md §1).
    guard opened.apiVersion >= 4, let name = ClientName(opened.source) else { return .refused }
    return .authenticated(opened, name)
  }

  /// The worker does not know the sender's key: the store may.
  private func confirm(_ body: [UInt8], _ source: String, _ acknowledge: Bool) async -> Opened {
    guard let name = ClientName(source) else { return .refused }
    let stored: StoredKey?
    do {
      stored = try await store.publicKey(of: name)
    } catch {
      return .unavailable("\(error)")
    }
    guard let stored else { return .unauthenticated }
    guard let key = try? RSAPublicKey(pem: stored.publicKeyPEM), key.clientID == name.id else {
      limited.warning("stored-key", "the stored key of a client is damaged; delete the client so that it enrolls again")
      return .unauthenticated
    }
    let request = WorkerRequest.confirm(body: body, publicKey: key.pkcs1DER, acknowledge: acknowledge)
    switch await link.request(request, timeout: Self.timeout) {
    case .reply(.opened(let opened)): return accept(opened)
    // The session was right, so what is wrong is the signature.
    case .reply(.rejected), .reply(.unverified): return .unauthenticated
    case .reply(.overloaded), .overloaded: return .unavailable("overloaded")
    case .reply, .unavailable: return .unavailable("no crypto-worker")
    }
  }

  /// The content of a body whose sender is not enrolled; nil when it does not open any more.
  func unauthenticatedContent(_ body: [UInt8]) async -> OpenedBody? {
    guard case .reply(.unauthenticated(let opened)) = await link.request(.unenrolled(body: body), timeout: Self.timeout)
    else { return nil }
    return opened
  }
}

extension OpenedBody {
  /// Whether its content may be worked on in the event loop.
  var isSmall: Bool {
    WorkPlace.isSmall(bytes: lists.reduce(0) { $0 + $1.count }, compressed: compressed)
  }
}

/// The jobs of an opened body, with what the worker proved written over what the peer claimed (wire.md §7).
struct DecodedBody: Sendable {
  var lists: [ReceivedList] = []
  /// Lists that do not inflate or parse; the others count.
  var damaged = 0

  /// - Parameter authenticated: whether `name` was proved.
  init(_ opened: OpenedBody, _ name: ClientName, authenticated: Bool) {
    for element in opened.lists {
      guard let plain = try? MessageListCodec.plain(element, compressed: opened.compressed),
        var jobs = try? MessageListCodec.jobs(plain)
      else {
        damaged += 1
        continue
      }
      for index in jobs.indices {
        jobs[index].source = name.description
        jobs[index].orgID = name.org
        jobs[index].authState = authenticated ? .authenticated : .unauthenticated
      }
      lists.append(ReceivedList(bytes: plain, jobs: jobs))
    }
  }

  var jobs: [Proto_VeloMessage] { lists.flatMap(\.jobs) }
}
