import Glibc

/// The system's clock.
enum Clock {
  static var nanoseconds: Int64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return Int64(now.tv_sec) &* 1_000_000_000 &+ Int64(now.tv_nsec)
  }
  static var seconds: Int64 { nanoseconds / 1_000_000_000 }
}

extension Functions {
  static let aggregates: [FunctionSpec] = [
    FunctionSpec("count", "items: any", "How often this call was made.") { call in
      let next = VQLValue.integer(VQLInteger(bits: (call.cell?.integer ?? 0) &+ 1, kind: .uint64))
      call.cell = next
      return next
    },
    FunctionSpec("sum", "item*: int", "The sum of all values so far, as an integer.") { call in
      let value = try call.int("item") ?? 0
      let next = VQLValue.int((call.cell?.integer ?? 0) &+ value)
      call.cell = next
      return next
    },
    FunctionSpec("min", "item*: lazy", "The least value so far.") { call in extreme(call) { Operators.less($0, $1) } },
    FunctionSpec("max", "item*: lazy", "The greatest value so far.") { call in
      extreme(call) { Operators.less($1, $0) }
    },
    FunctionSpec("enumerate", "items: any", "An array of all values so far.") { call in
      let value = call.materialized("items") ?? .null
      guard call.context.reserve(value.footprint()) else {
        // One line, not one for each further value.
        if call.shouldLog(Array("memory".utf8), seconds: 3600) {
          call.log("the values exceed the memory limit of \(call.context.options.memoryLimit) bytes")
        }
        return call.cell ?? .null
      }
      var list: [VQLValue] = []
      if case .array(let known)? = call.cell { list = known }
      // Taken out of the cell while it grows, so that the array is not copied.
      call.cell = nil
      list.append(value)
      let result = VQLValue.array(list)
      call.cell = result
      return result
    },
    FunctionSpec("rate", "x*: float, y*: float", "Change of x per change of y since the last call.") { call in
      guard let x = try call.float("x"), let y = try call.float("y") else { return .null }
      let last = call.cell
      call.cell = .array([.double(x), .double(y)])
      guard case .array(let pair)? = last, pair.count == 2, let oldX = pair[0].number, let oldY = pair[1].number,
        y != oldY
      else { return .null }
      return .double((x - oldX) / (y - oldY))
    },
  ]

  private static func extreme(_ call: Call, _ better: (VQLValue, VQLValue) -> Bool) -> VQLValue {
    let value = call.materialized("item") ?? .null
    if let known = call.cell, !better(value, known), !known.isNull { return known }
    call.cell = value
    return value
  }
}
