/// The row of an audit event (linux-endpoint.md §2, `audit()`).
enum AuditRow {
  private static let names = [
    "Timestamp", "Sequence", "Category", "Type", "Result", "Session", "Tags", "Summary", "User", "Process", "File",
    "Source", "Dest", "Net", "Data", "Paths",
  ]
  private static let shape = UnsafeShared(Shape(names, frozen: true, caseInsensitive: true))

  static func make(_ event: AuditEvent) -> VQLValue {
    let records = event.records
    let main = records.first { $0.type == "SYSCALL" } ?? records[0]
    let data = VQLDict()
    var tags: [VQLValue] = []
    for record in records where record.type != "PATH" && record.type != "PROCTITLE" {
      for (name, value) in record.fields {
        if name == "key" {
          for tag in value.split(separator: 1) where !tag.elementsEqual("(null)".utf8) { tags.append(.bytes(Array(tag))) }
        } else if !known.contains(name) && data.shape.find(name) == nil {
          data.set(name, .bytes(value))
        }
      }
    }
    let paths = records.filter { $0.type == "PATH" }.map(members)
    let process = process(records, main)
    let file = file(records)
    let (source, destination, net) = network(records)
    let time = VQLTime(
      seconds: main.milliseconds / 1000, nanoseconds: Int32(main.milliseconds % 1000 * 1_000_000))
    let object = file["path"] ?? destination["path"] ?? destination["ip"] ?? process["exe"] ?? .bytes([])
    let summary = VQLDict([
      ("Actor", .dict([("Primary", text(main["auid"])), ("Secondary", text(main["uid"]))])),
      ("Action", text(AuditNames.action(main))),
      ("Object", .dict([("Type", .string(kind(file, destination, process))), ("Primary", object)])),
      ("How", process["exe"] ?? text(main["comm"])),
    ])
    let values: [VQLValue] = [
      .time(time), .int(event.sequence), .string(AuditNames.category(main.type)), .string(main.type.lowercased()),
      .string(result(main)), text(main["ses"]), .array(tags), .dict(summary), .dict(user(main)), .dict(process),
      .dict(file), .dict(source), .dict(destination), .dict(net), .dict(data), .array(paths),
    ]
    return .dict(VQLDict(shape: shape.value, values: values))
  }

  /// Fields that have a place of their own.
  private static let known: Set<String> = [
    "auid", "uid", "gid", "euid", "egid", "suid", "sgid", "fsuid", "fsgid", "pid", "ppid", "comm", "exe", "cwd", "ses",
    "success", "res", "result", "subj", "items", "saddr", "proctitle", "argc",
  ]

  private static func text(_ value: String?) -> VQLValue { .string(value ?? "") }

  private static func members(_ record: AuditRecord) -> VQLValue {
    .dict(record.fields.map { ($0.name, .bytes($0.value)) })
  }

  private static func result(_ record: AuditRecord) -> String {
    switch record["success"] ?? record["res"] ?? record["result"] ?? "" {
    case "yes", "success", "1": "success"
    case "no", "failed", "fail", "0": "fail"
    case let other: other
    }
  }

  private static func user(_ record: AuditRecord) -> VQLDict {
    let names = ["auid", "uid", "gid", "euid", "egid", "suid", "sgid", "fsuid", "fsgid"]
    let ids = VQLDict(names.compactMap { name in record[name].map { (name, .string($0)) } })
    let users = UserNames()
    let known = VQLDict(
      names.filter { $0.hasSuffix("uid") }.compactMap { name in
        record[name].flatMap { UInt32($0) }.flatMap { id in
          let user = users.name(of: id)
          return user.isEmpty ? nil : (name, .string(user))
        }
      })
    return VQLDict([("IDs", .dict(ids)), ("Names", .dict(known)), ("SELinux", text(record["subj"]))])
  }

  private static func process(_ records: [AuditRecord], _ main: AuditRecord) -> VQLDict {
    let title = records.first { $0.type == "PROCTITLE" }?["proctitle"]
    let execve = records.first { $0.type == "EXECVE" }
    let arguments = (0..<100).prefix { execve?["a\($0)"] != nil }.map { VQLValue.string(execve?["a\($0)"] ?? "") }
    return VQLDict([
      ("pid", text(main["pid"])), ("ppid", text(main["ppid"])), ("title", text(title)), ("name", text(main["comm"])),
      ("exe", text(main["exe"])), ("cwd", text(records.first { $0.type == "CWD" }?["cwd"])), ("args", .array(arguments)),
    ])
  }

  private static func file(_ records: [AuditRecord]) -> VQLDict {
    let paths = records.filter { $0.type == "PATH" }
    guard let path = paths.last(where: { $0["nametype"] != "PARENT" }) ?? paths.last else { return VQLDict() }
    return VQLDict([
      ("path", text(path["name"])), ("device", text(path["dev"])), ("inode", text(path["inode"])),
      ("mode", text(path["mode"])), ("uid", text(path["ouid"])), ("gid", text(path["ogid"])),
    ])
  }

  private static func kind(_ file: VQLDict, _ destination: VQLDict, _ process: VQLDict) -> String {
    file.count > 0 ? "file" : destination.count > 0 ? "socket" : "process"
  }

  /// Where a connection comes from and goes to.
  private static func network(_ records: [AuditRecord]) -> (VQLDict, VQLDict, VQLDict) {
    let source = VQLDict()
    if let address = records[0]["addr"], address != "?" { source.set("ip", .string(address)) }
    if let host = records[0]["hostname"], host != "?" { source.set("hostname", .string(host)) }
    guard let text = records.first(where: { $0.type == "SOCKADDR" })?["saddr"],
      let address = AuditNames.address(Array(text.utf8))
    else { return (source, VQLDict(), VQLDict()) }
    let net = VQLDict([("direction", .string("outgoing"))])
    return (source, address, net)
  }
}

/// Names and codes of the audit system.
enum AuditNames {
  static func category(_ type: String) -> String {
    switch type {
    case _ where type.hasPrefix("USER_") || type.hasPrefix("CRED_") || type == "LOGIN": "user-login"
    case "SYSCALL", "PATH", "EXECVE", "SOCKADDR", "CWD", "PROCTITLE", "SECCOMP": "audit-rule"
    case "AVC", "SELINUX_ERR", "MAC_STATUS", "MAC_POLICY_LOAD": "mac-decision"
    case _ where type.hasPrefix("ADD_") || type.hasPrefix("DEL_") || type.hasPrefix("GRP_"): "group-change"
    case _ where type.hasPrefix("DAEMON_") || type == "CONFIG_CHANGE": "audit-daemon"
    case _ where type.hasPrefix("SERVICE_") || type.hasPrefix("SYSTEM_"): "system-services"
    case _ where type.hasPrefix("ANOM_"): "anomaly"
    case _ where type.hasPrefix("CRYPTO_"): "crypto"
    default: "unknown"
    }
  }

  private static let calls: [String: String] = [
    "0": "read", "1": "write", "2": "opened-file", "41": "created-socket", "42": "connected-to", "43": "accepted-from",
    "49": "bound-socket", "50": "listened-on", "56": "cloned", "57": "forked", "59": "executed", "62": "killed-pid",
    "82": "renamed", "84": "deleted", "86": "linked", "87": "deleted", "90": "changed-permissions",
    "92": "changed-owner", "101": "traced", "165": "mounted", "175": "loaded-module", "257": "opened-file",
    "263": "deleted", "288": "accepted-from", "313": "loaded-module", "322": "executed",
  ]

  /// What was done, in a word: of a system call its name on amd64, else the record's type.
  static func action(_ record: AuditRecord) -> String {
    if record.type == "SYSCALL", let number = record["syscall"] { return calls[number] ?? "syscall-\(number)" }
    return record["op"] ?? record.type.lowercased().replacing("_", with: "-")
  }

  /// A socket address in hexadecimal.
  static func address(_ digits: [UInt8]) -> VQLDict? {
    var bytes: [UInt8] = []
    for place in stride(from: 0, to: digits.count - 1, by: 2) {
      guard let high = Hex.digit(digits[place]), let low = Hex.digit(digits[place + 1]) else { return nil }
      bytes.append(high << 4 | low)
    }
    guard bytes.count >= 2 else { return nil }
    switch Int(bytes[0]) | Int(bytes[1]) << 8 {
    case 1:
      return VQLDict([("family", .string("unix")), ("path", .bytes(Array(bytes.dropFirst(2).prefix { $0 != 0 })))])
    case 2 where bytes.count >= 8:
      return VQLDict([
        ("family", .string("ipv4")), ("ip", .string(IPAddress(Array(bytes[4..<8])).text)),
        ("port", .int(Int64(bytes[2]) << 8 | Int64(bytes[3]))),
      ])
    case 10 where bytes.count >= 24:
      return VQLDict([
        ("family", .string("ipv6")), ("ip", .string(IPAddress(Array(bytes[8..<24])).text)),
        ("port", .int(Int64(bytes[2]) << 8 | Int64(bytes[3]))),
      ])
    case 16: return VQLDict([("family", .string("netlink"))])
    default: return nil
    }
  }

  /// Types of records by the number the kernel uses.
  static let types: [UInt16: String] = [
    1100: "USER_AUTH", 1101: "USER_ACCT", 1102: "USER_MGMT", 1103: "CRED_ACQ", 1104: "CRED_DISP", 1105: "USER_START",
    1106: "USER_END", 1107: "USER_AVC", 1108: "USER_CHAUTHTOK", 1109: "USER_ERR", 1110: "CRED_REFR", 1111: "USYS_CONFIG",
    1112: "USER_LOGIN", 1113: "USER_LOGOUT", 1114: "ADD_USER", 1115: "DEL_USER", 1116: "ADD_GROUP", 1117: "DEL_GROUP",
    1118: "DAC_CHECK", 1119: "CHGRP_ID", 1120: "TEST", 1121: "TRUSTED_APP", 1122: "USER_SELINUX_ERR", 1123: "USER_CMD",
    1124: "USER_TTY", 1125: "CHUSER_ID", 1126: "GRP_AUTH", 1127: "SYSTEM_BOOT", 1128: "SYSTEM_SHUTDOWN",
    1129: "SYSTEM_RUNLEVEL", 1130: "SERVICE_START", 1131: "SERVICE_STOP", 1132: "GRP_MGMT", 1133: "GRP_CHAUTHTOK",
    1300: "SYSCALL", 1302: "PATH", 1303: "IPC", 1304: "SOCKETCALL", 1305: "CONFIG_CHANGE", 1306: "SOCKADDR",
    1307: "CWD", 1309: "EXECVE", 1311: "IPC_SET_PERM", 1312: "MQ_OPEN", 1317: "FD_PAIR", 1318: "OBJ_PID", 1319: "TTY",
    1320: "EOE", 1321: "BPRM_FCAPS", 1322: "CAPSET", 1323: "MMAP", 1324: "NETFILTER_PKT", 1325: "NETFILTER_CFG",
    1326: "SECCOMP", 1327: "PROCTITLE", 1328: "FEATURE_CHANGE", 1329: "REPLACE", 1330: "KERN_MODULE", 1331: "FANOTIFY",
    1332: "TIME_INJOFFSET", 1333: "TIME_ADJNTPVAL", 1334: "BPF", 1335: "EVENT_LISTENER", 1400: "AVC",
    1401: "SELINUX_ERR", 1403: "MAC_POLICY_LOAD", 1404: "MAC_STATUS", 1700: "ANOM_PROMISCUOUS", 1701: "ANOM_ABEND",
    1702: "ANOM_LINK",
  ]
}
