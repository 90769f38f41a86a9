import Synchronization

/// The metrics of one process, rendered in Prometheus' text format.
///
/// Asking for the same name and labels again gives the same metric. Keep the returned object where the event happens;
/// the look-up takes a lock. A family holds at most ``seriesLimit`` label sets: later ones share the values `other`, so
/// that a label made from a peer's data cannot fill the memory.
package final class MetricsRegistry: Sendable {
  /// The most label sets of one metric name.
  package static let seriesLimit = 1000

  private enum Series {
    case counter(Counter)
    case gauge(Gauge)
    case reading(@Sendable () -> Double)
    case histogram(Histogram)
  }

  private struct Family {
    var kind: String
    var help: String
    var series: [[Label]: Series] = [:]
  }

  private struct Label: Hashable, Comparable {
    var name: String
    var value: String

    static func < (left: Label, right: Label) -> Bool {
      (left.name, left.value) < (right.name, right.value)
    }
  }

  private let families = Mutex<[String: Family]>([:])

  package init() {}

  /// - Parameters:
  ///   - name: the metric's name; characters outside `[a-zA-Z0-9_:]` become `_`.
  ///   - help: one line for the reader of the metric.
  ///   - labels: label names and values.
  package func counter(_ name: String, _ help: String, labels: [String: String] = [:]) -> Counter {
    let series = register(name, "counter", help, labels) { .counter(Counter()) }
    guard case .counter(let counter) = series else { return Counter() }
    return counter
  }

  package func gauge(_ name: String, _ help: String, labels: [String: String] = [:]) -> Gauge {
    let series = register(name, "gauge", help, labels) { .gauge(Gauge()) }
    guard case .gauge(let gauge) = series else { return Gauge() }
    return gauge
  }

  /// A gauge whose value is read when the metrics are asked for. The last registration of a name and labels holds.
  package func gauge(
    _ name: String, _ help: String, labels: [String: String] = [:], read: @escaping @Sendable () -> Double
  ) {
    register(name, "gauge", help, labels, replace: true) { .reading(read) }
  }

  package func histogram(
    _ name: String, _ help: String, labels: [String: String] = [:], buckets: [Double] = Histogram.latencyBuckets
  ) -> Histogram {
    let series = register(name, "histogram", help, labels) { .histogram(Histogram(buckets: buckets)) }
    guard case .histogram(let histogram) = series else { return Histogram(buckets: buckets) }
    return histogram
  }

  /// All metrics, sorted by name, in text format 0.0.4.
  package func render() -> String {
    let families = families.withLock { $0 }
    var text = ""
    for (name, family) in families.sorted(by: { $0.key < $1.key }) {
      text += "# HELP \(name) \(escapeHelp(family.help))\n# TYPE \(name) \(family.kind)\n"
      for (labels, series) in family.series.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
        switch series {
        case .counter(let counter): text += "\(name)\(render(labels)) \(counter.value)\n"
        case .gauge(let gauge): text += "\(name)\(render(labels)) \(render(gauge.value))\n"
        case .reading(let read): text += "\(name)\(render(labels)) \(render(read()))\n"
        case .histogram(let histogram): text += render(name, labels, histogram)
        }
      }
    }
    return text
  }

  /// A name that is taken by another kind of metric gives an unregistered one, so that a mistake never stops a process.
  @discardableResult
  private func register(
    _ name: String, _ kind: String, _ help: String, _ labels: [String: String], replace: Bool = false,
    make: () -> Series
  ) -> Series {
    let key = labels.map { Label(name: legal($0.key), value: $0.value) }.sorted()
    let name = legal(name)
    return families.withLock { families in
      var family = families[name] ?? Family(kind: kind, help: help)
      guard family.kind == kind else { return make() }
      var place = key
      if family.series[key] == nil, family.series.count >= Self.seriesLimit {
        place = key.map { Label(name: $0.name, value: "other") }
      }
      if !replace, let known = family.series[place] { return known }
      let made = make()
      family.series[place] = made
      families[name] = family
      return made
    }
  }

  private func render(_ name: String, _ labels: [Label], _ histogram: Histogram) -> String {
    let snapshot = histogram.snapshot
    var text = ""
    var below: UInt64 = 0
    for (bound, count) in zip(histogram.bounds, snapshot.counts) {
      below += count
      text += "\(name)_bucket\(render(labels + [Label(name: "le", value: render(bound))])) \(below)\n"
    }
    text += "\(name)_bucket\(render(labels + [Label(name: "le", value: "+Inf")])) \(snapshot.total)\n"
    text += "\(name)_sum\(render(labels)) \(render(snapshot.sum))\n"
    text += "\(name)_count\(render(labels)) \(snapshot.total)\n"
    return text
  }

  private func render(_ labels: [Label]) -> String {
    guard !labels.isEmpty else { return "" }
    return "{" + labels.map { "\($0.name)=\"\(escapeValue($0.value))\"" }.joined(separator: ",") + "}"
  }

  private func render(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value > 0 ? "+Inf" : "-Inf" }
    if value == value.rounded(), abs(value) < 1e15 { return String(Int64(value)) }
    return String(value)
  }

  private func escapeHelp(_ text: String) -> String {
    text.reduce(into: "") { $0 += $1 == "\\" ? "\\\\" : $1.isNewline ? "\\n" : String($1) }
  }

  private func escapeValue(_ text: String) -> String {
    text.reduce(into: "") { $0 += $1 == "\\" ? "\\\\" : $1 == "\"" ? "\\\"" : $1.isNewline ? "\\n" : String($1) }
  }

  private func legal(_ name: String) -> String {
    String(name.map { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == ":") ? $0 : "_" })
  }
}
