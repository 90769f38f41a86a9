/// The agent as a systemd service.
package enum ServiceUnit {
  package static let name = "microraptor-agent.service"
  package static let path = "/etc/systemd/system/" + name
  package static let stateDirectory = "/var/lib/microraptor"

  /// The unit's text.
  ///
  /// The agent reads all of the host and runs what the server's artifacts ask for, so it is root; what it never needs
  /// is taken away.
  ///
  /// - Parameter config: the client file; nil: the executable carries it.
  /// - Throws: when a path cannot be written into a unit.
  package static func text(program: String, config: String?) throws(AgentError) -> String {
    var command = try quoted(program) + " run"
    if let config { command += " --config " + (try quoted(config)) }
    let writeback = stateDirectory + "/agent.writeback.yaml"
    let buffer = stateDirectory + "/agent.buffer.bin"
    return """
      [Unit]
      Description=Microraptor agent
      After=network-online.target
      Wants=network-online.target
      StartLimitIntervalSec=0

      [Service]
      ExecStart=\(command) --writeback \(writeback) --buffer \(buffer)
      Restart=always
      RestartSec=10
      TimeoutStopSec=30
      StateDirectory=microraptor
      StateDirectoryMode=0700
      UMask=0077
      LimitCORE=0
      NoNewPrivileges=yes
      ProtectSystem=full
      ProtectClock=yes
      ProtectKernelModules=yes
      ProtectKernelTunables=yes
      ProtectControlGroups=yes
      ProtectHostname=yes
      RestrictRealtime=yes
      RestrictSUIDSGID=yes
      RestrictNamespaces=yes
      LockPersonality=yes
      MemoryDenyWriteExecute=yes
      PrivateMounts=yes
      KeyringMode=private
      CapabilityBoundingSet=~CAP_BPF CAP_SYS_RAWIO CAP_MKNOD CAP_SYS_TTY_CONFIG CAP_BLOCK_SUSPEND CAP_WAKE_ALARM CAP_LEASE
      CapabilityBoundingSet=~CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_SYS_PACCT CAP_IPC_LOCK CAP_LINUX_IMMUTABLE CAP_SYS_CHROOT
      SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap
      SystemCallErrorNumber=EPERM
      SystemCallArchitectures=native
      RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET

      [Install]
      WantedBy=multi-user.target

      """
  }

  /// A word of `ExecStart`; percent signs and dollars are systemd's.
  private static func quoted(_ path: String) throws(AgentError) -> String {
    guard path.hasPrefix("/"), !path.contains(where: { $0.isNewline || $0 == "\"" || $0 == "\\" }) else {
      throw AgentError(.configuration, "the path \"\(path)\" cannot stand in a service unit; use a plain absolute one")
    }
    let escaped = path.map { $0 == "%" ? "%%" : $0 == "$" ? "$$" : String($0) }.joined()
    return "\"\(escaped)\""
  }
}
