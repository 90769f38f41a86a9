/// Names that this engine knows but cannot serve: they give nothing and say why.
enum ForeignNames {
  private static let otherSystems: Set<String> = [
    "appcompatcache", "certificates", "handles", "modules", "proc_dump", "threads", "users", "vad", "watch_etw",
    "winobj", "wmi", "wmi_events", "authenticode", "getsid", "lookupSID", "reg_rm_key", "reg_rm_value",
    "reg_set_value", "token", "winpmem",
  ]
  private static let reasons: [String: String] = [
    "watch_ebpf": "it needs kernel probes, which this agent does not load",
    "profile": "it describes the insides of another implementation",
    "profile_goroutines": "it describes the insides of another implementation",
    "profile_memory": "it describes the insides of another implementation",
    "trace": "it describes the insides of another implementation",
    "logging": "it describes the insides of another implementation",
    "write_crypto_file": "encrypted local files are not supported",
    "rekey": "the agent's key is changed by its operator, not by a query",
    "shell_session": "interactive shells are not offered; use execve()",
    "shell_session_control": "interactive shells are not offered; use execve()",
    "starl": "programs in other languages are not run",
    "parallelize": "it runs on a server",
  ]

  /// Logs why a plugin or function of this name gives nothing; false when the name means nothing here.
  static func report(_ kind: String, _ name: String, _ context: Context) -> Bool {
    if otherSystems.contains(name) {
      context.log(.none, "VQL \(kind) \(name)() is not implemented for this architecture (linux)")
      return true
    }
    guard let reason = reasons[name] else { return false }
    context.log(.error, "VQL \(kind) \(name)() is not supported by this agent: \(reason)")
    return true
  }
}
