/// Declared type of a built-in's argument (language.md §6).
enum ArgumentType: String, Sendable {
  case string
  case strings = "string[]"
  case int, uint, float, bool, any
  case anys = "any[]"
  case dict
  case dicts = "dict[]"
  case query, lazy
  case lambda, path
  case paths = "path[]"
  case time
}

/// One declared argument.
struct ArgumentSpec: Sendable {
  let name: String
  let type: ArgumentType
  let required: Bool

  /// Parses the notation of the reference: `array*: string[], sep: string`.
  static func list(_ text: String) -> [ArgumentSpec] {
    text.split(separator: ",").compactMap { part in
      let halves = part.split(separator: ":")
      guard halves.count == 2, let rawName = halves.first, let rawType = halves.last else { return nil }
      var name = rawName.drop { $0 == " " }
      let required = name.hasSuffix("*")
      if required { name = name.dropLast() }
      let type = ArgumentType(rawValue: rawType.filter { $0 != " " }) ?? .any
      return ArgumentSpec(name: String(name), type: type, required: required)
    }
  }
}

/// What a function or plugin is called, takes and does: the one place for checking, error texts and help.
struct Signature: Sendable {
  let name: String
  let arguments: [ArgumentSpec]
  /// Arguments of any other name are accepted too.
  let anyNames: Bool
  let summary: String

  init(_ name: String, _ arguments: String, _ summary: String, anyNames: Bool = false) {
    self.name = name
    self.arguments = ArgumentSpec.list(arguments)
    self.anyNames = anyNames
    self.summary = summary
  }
}

struct FunctionSpec: Sendable {
  let signature: Signature
  /// False for functions that answer FALSE instead of NULL to bad arguments.
  let failsAsNull: Bool
  let body: @Sendable (Call) throws -> VQLValue

  init(
    _ name: String, _ arguments: String, _ summary: String, anyNames: Bool = false, failsAsNull: Bool = true,
    _ body: @escaping @Sendable (Call) throws -> VQLValue
  ) {
    signature = Signature(name, arguments, summary, anyNames: anyNames)
    self.failsAsNull = failsAsNull
    self.body = body
  }
}

/// Receives the rows of a plugin; false means that no more are wanted.
typealias RowSink = (VQLValue) -> Bool

struct PluginSpec: Sendable {
  let signature: Signature
  let body: @Sendable (Call, RowSink) throws -> Void

  init(
    _ name: String, _ arguments: String, _ summary: String, anyNames: Bool = false,
    _ body: @escaping @Sendable (Call, RowSink) throws -> Void
  ) {
    signature = Signature(name, arguments, summary, anyNames: anyNames)
    self.body = body
  }
}

/// Why a built-in gave up; logged after its name.
struct CallError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// Arguments that do not fit the declaration.
struct ArgumentProblem: Error, CustomStringConvertible {
  let description: String
  let signature: Signature

  /// What the call takes, `*` marking what it needs.
  var hint: String {
    let known = signature.arguments.map { $0.name + ($0.required ? "*" : "") }
    return known.isEmpty ? "takes no arguments" : "known arguments are " + known.joined(separator: ", ")
  }
}

extension Context {
  /// Logs why a built-in gave up; when its arguments were wrong, also which it takes.
  fileprivate func log(_ error: any Error, in signature: Signature) {
    log(.none, "\(signature.name): \(error)")
    if let problem = error as? ArgumentProblem { log(.info, "\(signature.name): \(problem.hint)") }
  }
}

/// A call in the query text, its arguments matched to the declared ones.
final class CallArgumentsBinding {
  let signature: Signature
  let arguments: CallArguments
  /// The expression for each declared argument.
  let expressions: [Expr?]
  /// What is wrong with the arguments as written.
  let problem: ArgumentProblem?
  /// Distinguishes call sites, for aggregate state.
  let id: ObjectIdentifier

  init(_ signature: Signature, _ arguments: CallArguments) {
    self.signature = signature
    self.arguments = arguments
    id = ObjectIdentifier(arguments)
    expressions = signature.arguments.map { spec in
      arguments.list.last { $0.name == spec.name }?.value
    }
    problem =
      arguments.expansion == nil
      ? Self.check(signature, names: arguments.list.map(\.name)) : nil
  }

  static func check(_ signature: Signature, names: [String]) -> ArgumentProblem? {
    for spec in signature.arguments where spec.required && !names.contains(spec.name) {
      return ArgumentProblem(description: "Field \(spec.name) is required", signature: signature)
    }
    if signature.anyNames { return nil }
    for name in names where !signature.arguments.contains(where: { $0.name == name }) {
      return ArgumentProblem(description: "Unexpected arg \(name)", signature: signature)
    }
    return nil
  }

  func call(_ scope: Scope) throws -> Call {
    if let problem { throw problem }
    var expanded: VQLDict?
    if let expansion = arguments.expansion {
      guard case .dict(let dict) = expansion.eval(scope).resolved else {
        throw CallError("Field ** should be a dict")
      }
      if let problem = Self.check(signature, names: dict.keys) { throw problem }
      expanded = dict
    }
    return Call(binding: self, scope: scope, expanded: expanded)
  }
}

/// A call of a function in an expression.
final class FunctionCallSite {
  private let spec: FunctionSpec
  private let binding: CallArgumentsBinding

  init(_ spec: FunctionSpec, _ arguments: CallArguments) {
    self.spec = spec
    binding = CallArgumentsBinding(spec.signature, arguments)
  }

  func call(_ scope: Scope) -> VQLValue {
    let context = scope.context
    context.statistics.functionsCalled &+= 1
    guard context.enter() else { return .null }
    defer { context.leave() }
    do {
      return try spec.body(try binding.call(scope))
    } catch {
      context.log(error, in: spec.signature)
      return spec.failsAsNull ? .null : .bool(false)
    }
  }
}

/// A call of a plugin after FROM.
final class PluginCallSite {
  private let spec: PluginSpec
  private let binding: CallArgumentsBinding

  init(_ spec: PluginSpec, _ arguments: CallArguments) {
    self.spec = spec
    binding = CallArgumentsBinding(spec.signature, arguments)
  }

  func call(_ scope: Scope, _ emit: RowSink) {
    let context = scope.context
    context.statistics.pluginsCalled &+= 1
    guard context.enter() else { return }
    defer { context.leave() }
    let callScope = scope.child()
    defer { callScope.close() }
    do {
      try spec.body(try binding.call(callScope), emit)
    } catch {
      context.log(error, in: spec.signature)
    }
  }
}
