import Glibc

/// A client file at the end of an agent's executable, so that one file is all that has to be rolled out.
///
/// Layout after the executable's own bytes: the text, its length as 8 bytes little-endian, ``marker``. The kernel and the
/// dynamic loader ignore what follows an ELF file's sections.
package enum EmbeddedConfig {
  static let marker = Array("MICRORAPTOR-CLIENT-CONFIG-1\n".utf8)
  private static var trailerSize: Int { marker.count + 8 }
  /// The largest executable that is read, in bytes.
  private static let executableLimit = 512 * 1024 * 1024

  /// The name under which messages speak of the embedded file.
  package static let name = "(embedded in the executable)"

  /// The text that an executable carries; nil when it carries none.
  ///
  /// - Parameter path: the executable; the running one by default.
  /// - Throws: ``ConfigurationError`` when it cannot be read or its end is damaged.
  package static func read(from path: String = "/proc/self/exe") throws(ConfigurationError) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw unreadable(path) }
    defer { close(descriptor) }
    let size = Int(lseek(descriptor, 0, SEEK_END))
    guard size >= trailerSize else { return nil }
    guard let trailer = bytes(descriptor, at: size - trailerSize, count: trailerSize) else { throw unreadable(path) }
    guard trailer[8...].elementsEqual(marker) else { return nil }
    guard let length = length(trailer), length <= size - trailerSize,
      let content = bytes(descriptor, at: size - trailerSize - length, count: length),
      let text = String(validating: content, as: UTF8.self)
    else {
      throw ConfigurationError(
        file: path, expected: "an executable with a whole client file", found: "a damaged one",
        remedy: "make it again: microraptor config repack")
    }
    return text
  }

  /// Writes an executable with a client file; one that is there already is replaced.
  ///
  /// - Parameters:
  ///   - text: the client file. It is not checked here.
  ///   - executable: the agent.
  ///   - output: where the result goes; written in one step, with the mode of the agent.
  /// - Throws: ``ConfigurationError``.
  package static func write(
    _ text: String, into executable: String, output: String
  ) throws(ConfigurationError) {
    var program = try ConfigFile.bytes(executable, limit: executableLimit)
    guard program.starts(with: [0x7F, 0x45, 0x4C, 0x46]) else {
      throw ConfigurationError(
        file: executable, expected: "an agent's executable (ELF)", found: "another kind of file")
    }
    if program.count >= trailerSize, program.suffix(marker.count).elementsEqual(marker),
      let length = length(Array(program.suffix(trailerSize))), length <= program.count - trailerSize
    {
      program.removeLast(trailerSize + length)
    }
    let content = Array(text.utf8)
    program += content
    program += (0..<8).map { UInt8(truncatingIfNeeded: content.count >> ($0 * 8)) }
    program += marker
    var status = stat()
    let mode = stat(executable, &status) == 0 ? status.st_mode & 0o777 : 0o755
    try ConfigFile.write(program, to: output, mode: mode)
  }

  private static func length(_ trailer: [UInt8]) -> Int? {
    let value = trailer.prefix(8).enumerated().reduce(UInt64(0)) { $0 | UInt64($1.element) << ($1.offset * 8) }
    return value <= ConfigFile.sizeLimit ? Int(value) : nil
  }

  private static func bytes(_ descriptor: Int32, at offset: Int, count: Int) -> [UInt8]? {
    let content = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while filled < count {
        let got = pread(descriptor, buffer.baseAddress.map { $0 + filled }, count - filled, off_t(offset + filled))
        if got < 0, errno == EINTR { continue }
        guard got > 0 else { return }
        filled += got
      }
    }
    return content.count == count ? content : nil
  }

  private static func unreadable(_ path: String) -> ConfigurationError {
    ConfigurationError(
      file: path, expected: "a readable executable", found: String(cString: strerror(errno)))
  }
}
