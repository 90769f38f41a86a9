import PublicIdentity
import Wire

extension ObfuscatedNames {
  /// The job with plain names where the agent echoed tokens: in the names of rows, logs and statuses, and in log text
  /// (wire.md §6). A name that does not come out well-formed stays as it is, and is refused as such.
  func restored(_ job: Proto_VeloMessage) -> Proto_VeloMessage {
    var job = job
    if job.hasVqlresponse { restore(&job.vqlresponse.query.name) }
    if job.hasLogMessage {
      restore(&job.logMessage.artifact)
      if let text = restoring(job.logMessage.jsonl) { job.logMessage.jsonl = text }
    }
    if job.hasFlowStats {
      for index in job.flowStats.queryStatus.indices {
        for name in job.flowStats.queryStatus[index].namesWithResponse.indices {
          restore(&job.flowStats.queryStatus[index].namesWithResponse[name])
        }
        let text = job.flowStats.queryStatus[index].errorMessage
        if let plain = restoring(text) { job.flowStats.queryStatus[index].errorMessage = plain }
      }
    }
    return job
  }

  private func restore(_ name: inout String) {
    if let plain = self.name(behind: Array(name.utf8)), ArtifactName(plain) != nil { name = plain }
  }
}
