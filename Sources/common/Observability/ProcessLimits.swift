import Glibc

/// Keeps the memory of a process that holds secrets out of core files.
package enum CoreDumps {
  /// Sets the core file limit to zero and marks the process as not dumpable, which also keeps other processes of the
  /// same user from attaching to it.
  ///
  /// - Returns: false when the system refused one of the two.
  @discardableResult
  package static func disable() -> Bool {
    var none = rlimit(rlim_cur: 0, rlim_max: 0)
    let limited = setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &none) == 0
    return setDumpable(false) && limited
  }

  /// `prctl(PR_SET_DUMPABLE, …)`. The function is variadic in C and thus not imported; it is called by its address.
  static func setDumpable(_ dumpable: Bool) -> Bool {
    typealias ProcessControl = @convention(c) (CInt, CUnsignedLong, CUnsignedLong, CUnsignedLong, CUnsignedLong) -> CInt
    guard let program = dlopen(nil, RTLD_NOW), let address = dlsym(program, "prctl") else { return false }
    let control = unsafeBitCast(address, to: ProcessControl.self)
    let optionSetDumpable: CInt = 4
    return control(optionSetDumpable, dumpable ? 1 : 0, 0, 0, 0) == 0
  }
}

/// The number of files and sockets a process may have open.
package enum OpenFiles {
  /// Raises the soft limit to the hard one.
  ///
  /// - Returns: the limit that now holds.
  @discardableResult
  package static func raiseLimit() -> UInt {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 0 }
    var wanted = rlimit(rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max)
    if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &wanted) == 0 {
      return UInt(wanted.rlim_cur)
    }
    return UInt(limit.rlim_cur)
  }
}
