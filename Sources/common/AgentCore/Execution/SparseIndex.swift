import Wire

/// Where the data of a sparse file lies in the dense one (wire.md, Index and Range).
struct SparseIndex: Equatable {
  private struct Range: Equatable {
    var original: Int64
    var stored: Int64
    var length: Int64
    var isHole: Bool
  }

  private var ranges: [Range] = []
  private var original: Int64 = 0
  private var stored: Int64 = 0
  private(set) var hasHoles = false

  mutating func append(data length: Int64) { append(length, isHole: false) }

  mutating func append(hole length: Int64) {
    if length > 0 { hasHoles = true }
    append(length, isHole: true)
  }

  private mutating func append(_ length: Int64, isHole: Bool) {
    guard length > 0 else { return }
    if let last = ranges.last, last.isHole == isHole {
      ranges[ranges.count - 1].length += length
    } else {
      ranges.append(Range(original: original, stored: stored, length: length, isHole: isHole))
    }
    original += length
    if !isHole { stored += length }
  }

  var message: Proto_Index {
    .with { index in
      index.ranges = ranges.map { range in
        .with {
          $0.fileOffset = range.stored
          $0.originalOffset = range.original
          $0.fileLength = range.isHole ? 0 : range.length
          $0.length = range.length
        }
      }
    }
  }
}
