import Configuration
import Foundation

/// `config generate -i`: asks for the choices that matter; an empty answer, or the end of the input, takes the default.
struct ConfigWizard {
  /// Prints a question; returns the answer without its line end, or nil at the end of the input.
  let ask: (String) -> String?

  /// A wizard on standard input; questions go to standard error, so that it works in a pipe too.
  static var standard: ConfigWizard {
    ConfigWizard { question in
      FileHandle.standardError.write(Data(question.utf8))
      return readLine()
    }
  }

  /// - Parameter start: choices from flags; they are the defaults of the questions.
  /// - Returns: nil when the operator declined.
  func run(_ start: DeploymentPlan.Choices) throws(DeploymentPlan.Problem) -> DeploymentPlan? {
    var choices = start
    choices.directory = line("Directory for the files", start.directory.isEmpty ? "./microraptor" : start.directory)
    let hosts = start.hostNames.isEmpty ? [ProcessInfo.processInfo.hostName] : start.hostNames
    choices.hostNames = line("Public host names or addresses of the frontends", hosts.joined(separator: " "))
      .split { $0 == " " || $0 == "," }.map(String.init)
    let frontends = start.frontends ?? max(1, start.ports.count, choices.hostNames.count)
    choices.frontends = try number("Number of frontends", frontends, in: 1...DeploymentPlan.processLimit)
    let port = start.ports.first ?? DeploymentPlan.defaultPort
    let first = try number("Port of the first frontend", port, in: 1...65_535)
    choices.ports = first == port && !start.ports.isEmpty ? start.ports : [first]
    choices.workers = try number("Number of crypto-workers", start.workers, in: 1...DeploymentPlan.processLimit)
    choices.datastore = line("Datastore: sqlite, a directory, or a postgresql:// URL", start.datastore ?? "sqlite")
    let years = try number("Years that the certificates are valid", max(1, start.validityDays / 365), in: 1...30)
    choices.validityDays = years == max(1, start.validityDays / 365) ? start.validityDays : years * 365
    let plan = try DeploymentPlan(choices)
    let urls = plan.urls.joined(separator: " ")
    let answer = line("Agents will connect to \(urls). Write the files to \(plan.directory)?", "yes")
    return answer.lowercased().hasPrefix("y") ? plan : nil
  }

  private func line(_ question: String, _ standard: String) -> String {
    let answer = ask("\(question) [\(standard)]: ")?.trimmingCharacters(in: .whitespaces) ?? ""
    return answer.isEmpty ? standard : answer
  }

  /// Asks again after an answer that is no number of the range, three times at most.
  private func number(
    _ question: String, _ standard: Int, in range: ClosedRange<Int>
  ) throws(DeploymentPlan.Problem) -> Int {
    let hint = "\(question) (\(range.lowerBound) to \(range.upperBound))"
    var prompt = question
    for _ in 1...3 {
      if let value = Int(line(prompt, String(standard))), range.contains(value) { return value }
      prompt = hint
    }
    throw DeploymentPlan.Problem(description: "\(hint): no usable answer")
  }
}
