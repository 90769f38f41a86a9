/// Names that exist on other systems only: they give nothing and say why.
enum ForeignNames {
  static let plugins: Set<String> = [
    "appcompatcache", "certificates", "handles", "modules", "proc_dump", "threads", "users", "vad", "watch_etw",
    "winobj", "wmi", "wmi_events",
  ]
  static let functions: Set<String> = [
    "authenticode", "getsid", "lookupSID", "proc_dump", "reg_rm_key", "reg_rm_value", "reg_set_value", "token",
    "winpmem", "wmi",
  ]

  static func report(plugin name: String, _ context: Context) {
    context.log(.none, "VQL Plugin \(name)() is not implemented for this architecture (linux)")
  }

  static func report(function name: String, _ context: Context) {
    context.log(.none, "VQL Function \(name)() is not implemented for this architecture (linux)")
  }
}
