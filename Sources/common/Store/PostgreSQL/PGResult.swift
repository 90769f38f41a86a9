import CLibPQ
import Foundation

/// The rows of one statement, in PostgreSQL's binary format.
///
/// `@unchecked Sendable` is safe: libpq never changes a result after it has handed it out, everything here only reads
/// it, and it is freed once, by `deinit`.
final class PGResult: @unchecked Sendable {
  private let pointer: OpaquePointer
  /// The number of rows.
  let count: Int

  /// - Parameter pointer: a result of `PQgetResult`; it belongs to this object from now on.
  init(owning pointer: OpaquePointer) {
    self.pointer = pointer
    count = Int(PQntuples(pointer))
  }

  deinit {
    PQclear(pointer)
  }

  /// The command tag, such as `COMMIT`.
  var tag: String { PQcmdStatus(pointer).map { String(cString: $0) } ?? "" }

  var status: ExecStatusType { PQresultStatus(pointer) }
  /// The SQLSTATE of a refused statement.
  var errorState: String { errorField("C") }
  var errorText: String { errorField("M") }

  private func errorField(_ code: Unicode.Scalar) -> String {
    PQresultErrorField(pointer, Int32(bitPattern: code.value)).map { String(cString: $0) } ?? ""
  }

  /// How many rows the statement changed.
  var changes: Int { PQcmdTuples(pointer).flatMap { Int(String(cString: $0)) } ?? 0 }

  var first: PGRow? { count > 0 ? PGRow(result: self, index: 0) : nil }
  var rows: [PGRow] { (0..<count).map { PGRow(result: self, index: Int32(clamping: $0)) } }

  fileprivate func field(_ row: Int32, _ column: Int32) -> UnsafeRawBufferPointer? {
    guard column < PQnfields(pointer), PQgetisnull(pointer, row, column) == 0,
      let start = PQgetvalue(pointer, row, column)
    else { return nil }
    return UnsafeRawBufferPointer(start: start, count: Int(PQgetlength(pointer, row, column)))
  }
}

/// One row; columns are asked for in the order of the statement.
struct PGRow: Sendable {
  fileprivate let result: PGResult
  fileprivate let index: Int32

  /// A number of 2, 4 or 8 bytes, or a boolean as 0 or 1; nil for NULL.
  func optionalInt(_ column: Int32) -> Int64? {
    guard let field = result.field(index, column), (1...8).contains(field.count), let first = field.first else {
      return nil
    }
    let start: Int64 = field.count > 1 && first & 0x80 != 0 ? -1 : 0
    return field.reduce(start) { $0 << 8 | Int64($1) }
  }

  func int(_ column: Int32) -> Int64 { optionalInt(column) ?? 0 }
  func bool(_ column: Int32) -> Bool { int(column) != 0 }
  func time(_ column: Int32) -> Timestamp { Timestamp(microseconds: int(column)) }
  func optionalTime(_ column: Int32) -> Timestamp? { optionalInt(column).map(Timestamp.init(microseconds:)) }

  /// Text, or a bytea that holds text an agent chose; broken UTF-8 is shown repaired, what is stored stays.
  func text(_ column: Int32) -> String {
    result.field(index, column).map { String(decoding: $0, as: UTF8.self) } ?? ""
  }

  func optionalData(_ column: Int32) -> Data? { result.field(index, column).map { Data($0) } }
  func bytes(_ column: Int32) -> [UInt8] { result.field(index, column).map(Array.init) ?? [] }
  func isNull(_ column: Int32) -> Bool { result.field(index, column) == nil }

  /// The elements of a `text[]`.
  func texts(_ column: Int32) -> [String] {
    guard let field = result.field(index, column) else { return [] }
    let number = { (offset: Int) -> Int in
      guard offset >= 0, offset + 4 <= field.count else { return 0 }
      return Int(Int32(bitPattern: field[offset..<(offset + 4)].reduce(0) { $0 << 8 | UInt32($1) }))
    }
    // Dimensions, flags, element type; the one dimension's length and lower bound; then the elements.
    guard number(0) == 1 else { return [] }
    var texts: [String] = []
    var offset = 20
    for _ in 0..<max(0, number(12)) {
      let length = number(offset)
      offset += 4
      guard length >= 0, offset + length <= field.count else { break }
      texts.append(String(decoding: field[offset..<(offset + length)], as: UTF8.self))
      offset += length
    }
    return texts
  }
}
