import Wire

/// The server's wish to continue uploads of a flow that ended too early (client.md §6.4), as a flow with one query whose
/// rows are what became of each file.
struct ResumedUploads: Sendable {
  static let name = "Server.Internal.ResumedUploads"

  private let message: Proto_ResumeTransactions

  init(_ message: Proto_ResumeTransactions) {
    self.message = message
  }

  /// The request that runs them.
  var request: Proto_FlowRequest {
    .with {
      $0.compression = message.compression
      $0.maxUploadBytes = message.maxUploadBytes
      $0.vqlclientActions = [
        .with {
          $0.query = [.with { $0.name = Self.name }]
          $0.timeout = message.timeout
        }
      ]
    }
  }

  /// How the flow's queries ended. One that the server last heard of as running did not come to its end; what was open
  /// is the business of this request now.
  var previous: [Proto_VeloStatus] {
    message.queryStats.map { status in
      var status = status
      status.transactionsOutstanding = 0
      if status.status == .progress {
        status.status = .genericError
        status.errorMessage = "The query was interrupted"
      }
      return status
    }
  }

  var engine: any CollectorEngine { Engine(transactions: message.transactions) }

  private struct Engine: CollectorEngine {
    let transactions: [Proto_UploadTransaction]

    func makeSession(_ request: EngineRequest) throws -> any EngineSession {
      Session(transactions, request)
    }
  }

  private final class Session: EngineSession {
    private let transactions: [Proto_UploadTransaction]
    private let request: EngineRequest

    init(_ transactions: [Proto_UploadTransaction], _ request: EngineRequest) {
      self.transactions = transactions
      self.request = request
    }

    func run(_ text: String, sink: (EngineRow) throws -> Bool) throws {
      guard let uploads = request.uploads else { return }
      for transaction in transactions {
        request.operation()
        let file = UploadFile(transaction)
        let row: String
        do {
          row = try uploads.resume(transaction).json(file, transaction.uploadID)
        } catch {
          request.log("ERROR:upload: \(file.path): \(error)")
          row = UploadOutcome.failure(file, transaction.uploadID, "\(error)")
        }
        let columns = [
          "Path", "Size", "UploadId", "StoredSize", "sha256", "md5", "StoredName", "Components", "Accessor",
        ]
        guard try sink(EngineRow(columns: columns) { $0 += Array(row.utf8) }) else { return }
      }
    }

    /// The uploads ask whether their collector must stop.
    func cancel(reason: String) {}
    func close() {}
  }
}
