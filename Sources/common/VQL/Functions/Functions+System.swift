import Glibc

extension Functions {
  static let system: [FunctionSpec] = [
    FunctionSpec("info", "", "Facts about this host.") { call in Plugins.info(call.context) },
    FunctionSpec("environ", "var*: string", "An environment variable.", failsAsNull: false) { call in
      .string(HostEnvironment.value(String(decoding: try call.required("var"), as: UTF8.self)) ?? "")
    },
    FunctionSpec("expand", "path*: string", "Expands $NAME, ${NAME} and %NAME%.") { call in
      .bytes(expand(try call.required("path")))
    },
    FunctionSpec("getpid", "", "The agent's process id.") { _ in .int(Int64(Glibc.getpid())) },
    FunctionSpec("pskill", "pid*: int", "Kills a process.") { call in
      guard let pid = try call.int("pid"), pid > 1, pid <= Int64(Int32.max) else {
        throw CallError("pid must be above 1")
      }
      guard kill(Int32(pid), SIGKILL) == 0 else { throw CallError(Posix.message()) }
      return .int(pid)
    },
    FunctionSpec("whoami", "", "The user of the query.") { _ in .string(UserNames().name(of: geteuid())) },
    FunctionSpec("sysinfo", "", "Memory of this host.") { _ in
      var sizes: [Substring: Int64] = [:]
      for line in (Posix.readText("/proc/meminfo") ?? "").split(separator: "\n") {
        let fields = line.split { $0 == " " || $0 == ":" }
        if fields.count >= 2, let size = Int64(fields[1]) { sizes[fields[0]] = size &* 1024 }
      }
      func bytes(_ name: Substring) -> VQLValue { .int(sizes[name] ?? 0) }
      return .dict([
        ("TotalPhysicalMemory", bytes("MemTotal")), ("TotalFreeMemory", bytes("MemFree")),
        ("TotalSharedMemory", bytes("Shmem")), ("TotalSwap", bytes("SwapTotal")), ("FreeSwap", bytes("SwapFree")),
      ])
    },
  ]

  private static func expand(_ text: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    var place = 0
    func isName(_ byte: UInt8) -> Bool { CharacterRanges.word.contains(UInt32(byte)) }
    while place < text.count {
      let byte = text[place]
      let rest = text[(place + 1)...]
      var name: ArraySlice<UInt8> = []
      var length = 0
      if byte == UInt8(ascii: "$"), rest.first == UInt8(ascii: "{"), let close = rest.firstIndex(of: UInt8(ascii: "}"))
      {
        name = text[(place + 2)..<close]
        length = close - place + 1
      } else if byte == UInt8(ascii: "$") {
        name = rest.prefix(while: isName)
        length = name.count + 1
      } else if byte == UInt8(ascii: "%"), let close = rest.firstIndex(of: byte), close > place + 1,
        rest[..<close].allSatisfy(isName)
      {
        name = rest[..<close]
        length = close - place + 1
      }
      if name.isEmpty {
        out.append(byte)
        place += 1
      } else {
        out.append(contentsOf: (HostEnvironment.value(String(decoding: name, as: UTF8.self)) ?? "").utf8)
        place += length
      }
    }
    return out
  }
}
