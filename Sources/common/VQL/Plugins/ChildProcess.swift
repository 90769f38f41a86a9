import Glibc

/// A program that is run without a shell, in a process group of its own.
final class ChildProcess {
  let pid: pid_t
  private var output: Int32
  private var errors: Int32
  private var status: Int32?

  init(_ arguments: [[UInt8]], environment: [[UInt8]]?, directory: String?) throws {
    var out: [Int32] = [-1, -1]
    var err: [Int32] = [-1, -1]
    guard pipe(&out) == 0, pipe(&err) == 0 else { throw CallError("pipe: \(Posix.message())") }
    for descriptor in out + err { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
    defer {
      close(out[1])
      close(err[1])
    }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_adddup2(&actions, out[1], 1)
    posix_spawn_file_actions_adddup2(&actions, err[1], 2)
    if let directory, !directory.isEmpty { Self.changeDirectory(&actions, directory) }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    var all = sigset_t()
    sigemptyset(&none)
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    posix_spawnattr_setpgroup(&attributes, 0)
    let flags = POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF
    posix_spawnattr_setflags(&attributes, Int16(flags))
    var child: pid_t = 0
    let code = Self.withPointers(arguments) { argv -> Int32 in
      guard let program = argv[0] else { return ENOENT }
      guard let environment else { return posix_spawnp(&child, program, &actions, &attributes, argv, environ) }
      return Self.withPointers(environment) { posix_spawnp(&child, program, &actions, &attributes, argv, $0) }
    }
    output = out[0]
    errors = err[0]
    pid = child
    if code != 0 {
      close(output)
      close(errors)
      status = 0
      let name = String(decoding: arguments.first ?? [], as: UTF8.self)
      throw CallError("fork/exec \(name): \(Posix.message(code))")
    }
  }

  private static func changeDirectory(_ actions: inout posix_spawn_file_actions_t, _ directory: String) {
    // A GNU extension that the headers hide without _GNU_SOURCE.
    typealias Call = @convention(c) (UnsafeMutablePointer<posix_spawn_file_actions_t>, UnsafePointer<CChar>) -> Int32
    guard let symbol = dlsym(nil, "posix_spawn_file_actions_addchdir_np") else { return }
    _ = unsafeBitCast(symbol, to: Call.self)(&actions, directory)
  }

  private static func withPointers<Result>(
    _ texts: [[UInt8]], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Result
  ) -> Result {
    var pointers: [UnsafeMutablePointer<CChar>?] = texts.map { text in
      strdup(String(decoding: text.prefix { $0 != 0 }, as: UTF8.self))
    }
    pointers.append(nil)
    defer { for pointer in pointers { free(pointer) } }
    return pointers.withUnsafeMutableBufferPointer { buffer in
      guard let start = buffer.baseAddress else {
        var none: UnsafeMutablePointer<CChar>?
        return body(&none)
      }
      return body(start)
    }
  }

  enum Event {
    case output([UInt8])
    case errors([UInt8])
    case waiting
    case ended
  }

  /// Waits at most so long for something to be written.
  func next(milliseconds: Int32) -> Event {
    if output < 0 && errors < 0 { return .ended }
    var descriptors = [
      pollfd(fd: output, events: Int16(POLLIN), revents: 0), pollfd(fd: errors, events: Int16(POLLIN), revents: 0),
    ]
    guard poll(&descriptors, 2, milliseconds) > 0 else {
      // Grandchildren may keep the pipes open after the program has ended.
      if hasExited { return descriptors.allSatisfy { $0.revents == 0 } ? .ended : .waiting }
      return .waiting
    }
    if descriptors[0].revents != 0, let event = take(&output, isError: false) { return event }
    if descriptors[1].revents != 0, let event = take(&errors, isError: true) { return event }
    return output < 0 && errors < 0 ? .ended : .waiting
  }

  private func take(_ descriptor: inout Int32, isError: Bool) -> Event? {
    let source = descriptor
    let bytes = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
      count = max(0, read(source, buffer.baseAddress, 65_536))
    }
    if bytes.isEmpty {
      close(descriptor)
      descriptor = -1
      return nil
    }
    return isError ? .errors(bytes) : .output(bytes)
  }

  private var hasExited: Bool {
    if status != nil { return true }
    var code: Int32 = 0
    guard waitpid(pid, &code, WNOHANG) == pid else { return false }
    status = code
    return true
  }

  /// The exit code, -1 after a signal; waits for the end, killing the group when the test says so.
  func exitCode(stopping: () -> Bool) -> Int64 {
    while !hasExited {
      if stopping() { kill(-pid, SIGKILL) }
      usleep(2000)
    }
    let code = status ?? 0
    return code & 0x7F == 0 ? Int64(code >> 8 & 0xFF) : -1
  }

  func terminate() {
    if !hasExited {
      kill(-pid, SIGKILL)
      var code: Int32 = 0
      if waitpid(pid, &code, 0) == pid { status = code }
    }
    for descriptor in [output, errors] where descriptor >= 0 { close(descriptor) }
    output = -1
    errors = -1
  }
}

extension Plugins {
  static let execution: [PluginSpec] = [
    PluginSpec(
      "execve", "argv*: string[], sep: string, length: int, env: dict, cwd: string, secret: string",
      "Runs a program without a shell."
    ) { call, emit in
      try execute(call, emit)
    }
  ]

  private static let resultShape = UnsafeShared(Shape(["Stdin", "Stdout", "Stderr", "ReturnCode", "Complete"]))

  private static func result(_ output: [UInt8], _ errors: [UInt8], _ code: Int64, _ complete: Bool) -> VQLValue {
    .dict(
      VQLDict(
        shape: resultShape.value,
        values: [.bytes([]), .bytes(output), .bytes(errors), .int(code), .bool(complete)]))
  }

  private static func exitCode(of child: ChildProcess, _ context: Context) -> Int64 {
    let cancellation = context.cancellation
    let stopper = context.threadState.stopper
    return context.outside { child.exitCode { cancellation.isCancelled || stopper?.isStopped == true } }
  }

  private static func execute(_ call: Call, _ emit: RowSink) throws {
    let arguments = call.strings("argv")
    guard let program = arguments.first, !program.isEmpty,
      String(decoding: program, as: UTF8.self).lowercased() != "null"
    else { throw CallError("no program to run in argv") }
    guard call.context.options.allowsExecution else { throw CallError("Not allowed to execve by configuration.") }
    let words = arguments.map { String(decoding: $0, as: UTF8.self) }.joined(separator: " ")
    call.log("Running external command [\(words)]")
    var environment: [[UInt8]]?
    if let dict = try call.dict("env"), dict.count > 0 {
      environment = dict.keys.map { Array($0.utf8) + [UInt8(ascii: "=")] + Call.string(dict[$0] ?? .null) }
    }
    let child: ChildProcess
    do {
      child = try ChildProcess(arguments, environment: environment, directory: call.text("cwd"))
    } catch {
      _ = emit(result([], Array("\(error)".utf8), 1, true))
      return
    }
    defer { child.terminate() }
    let separator = call.string("sep") ?? []
    if separator.isEmpty {
      let length = Int(max(1, min(try call.int("length") ?? 10_240, 64 << 20)))
      inBlocks(child, length, call.context, emit)
    } else {
      inPieces(child, separator, call.context, emit)
    }
  }

  /// A row whenever so many bytes of one stream are there; the last row has the rest and the exit code.
  private static func inBlocks(_ child: ChildProcess, _ length: Int, _ context: Context, _ emit: RowSink) {
    var output: [UInt8] = []
    var errors: [UInt8] = []
    reading: while !context.isStopped {
      switch context.outside({ child.next(milliseconds: 50) }) {
      case .ended: break reading
      case .waiting: continue
      case .output(let bytes): output += bytes
      case .errors(let bytes): errors += bytes
      }
      while output.count >= length {
        guard emit(result(Array(output.prefix(length)), [], 0, false)) else { return }
        output.removeFirst(length)
      }
      while errors.count >= length {
        guard emit(result([], Array(errors.prefix(length)), 0, false)) else { return }
        errors.removeFirst(length)
      }
    }
    if !context.isStopped { _ = emit(result(output, errors, exitCode(of: child, context), true)) }
  }

  /// A row for each piece of either stream; the last row has the exit code only.
  private static func inPieces(_ child: ChildProcess, _ separator: [UInt8], _ context: Context, _ emit: RowSink) {
    var output = PieceBuffer(separator)
    var errors = PieceBuffer(separator)
    reading: while !context.isStopped {
      switch context.outside({ child.next(milliseconds: 50) }) {
      case .ended: break reading
      case .waiting: continue
      case .output(let bytes):
        for piece in output.add(bytes) where !emit(result(piece, [], 0, false)) { return }
      case .errors(let bytes):
        for piece in errors.add(bytes) where !emit(result(piece, [], 0, false)) { return }
      }
    }
    if context.isStopped { return }
    for piece in [output.rest, errors.rest] where !piece.isEmpty && !emit(result(piece, [], 0, false)) { return }
    _ = emit(result([], [], exitCode(of: child, context), true))
  }

  /// Cuts one stream at a separator; a piece may grow to a limit.
  private struct PieceBuffer {
    private static let limit = 16 << 20
    private let separator: [UInt8]
    private(set) var rest: [UInt8] = []

    init(_ separator: [UInt8]) { self.separator = separator }

    /// The pieces that are complete now, empty ones left out.
    mutating func add(_ bytes: [UInt8]) -> [[UInt8]] {
      let scanned = max(0, rest.count - separator.count + 1)
      rest += bytes
      var pieces: [[UInt8]] = []
      var start = 0
      var from = scanned
      while let end = Bytes.find(separator, in: rest, from: from) {
        if end > start { pieces.append(Array(rest[start..<end])) }
        start = end + separator.count
        from = start
      }
      rest.removeFirst(start)
      if rest.count > Self.limit {
        pieces.append(rest)
        rest = []
      }
      return pieces
    }
  }
}
