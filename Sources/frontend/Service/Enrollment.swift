import Logging
import PublicIdentity
import Store
import Wire

/// Storing the key of a new client (crypto.md §9).
struct Enrollment: Sendable {
  enum Result: Sendable, Equatable {
    /// Answer 406: the keys in it are stored, or there was none.
    case done
    /// Answer 503: the last certificate request was refused or could not be stored.
    case failed
  }

  let store: any Store
  let metrics: FrontendMetrics
  let logger: Logger

  /// Only certificate requests count in an unauthenticated body; the result of the last one is the body's.
  func process(_ jobs: [Proto_VeloMessage], org: String, address: String) async -> Result {
    var result = Result.done
    for job in jobs where job.hasCsr && job.csr.type == .csr && !job.csr.pem.isEmpty {
      result = await store(job.csr, org, address)
    }
    return result
  }

  private func store(_ certificate: Proto_Certificate, _ org: String, _ address: String) async -> Result {
    let request: CertificateRequest
    do throws(CertificateRequest.Failure) {
      request = try CertificateRequest(pem: Array(certificate.pem))
    } catch {
      metrics.enrollmentsRefused.increment()
      logger.warning("a certificate request was refused: \(error)", metadata: ["address": "\(address)"])
      return .failed
    }
    let name = ClientName(id: request.clientID, org: org)
    do {
      try await store.enroll(name, publicKeyPEM: request.publicKey.pkcs1PEM, at: .now(), address: address)
    } catch {
      logger.error("an enrollment could not be stored: \(error)", metadata: ["client": "\(name)"])
      return .failed
    }
    metrics.enrolled.increment()
    logger.info("enrolled", metadata: ["client": "\(name)", "address": "\(address)"])
    return .done
  }
}
