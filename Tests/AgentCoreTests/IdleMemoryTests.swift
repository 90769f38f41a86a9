import XCTest

@testable import AgentCore

final class IdleMemoryTests: XCTestCase {
  private let smaps = """
    55d0a0000000-55d0a0200000 r-xp 00001000 fe:00 131 /usr/bin/agent
    Size:               2048 kB
    Anonymous:             0 kB
    55d0a0200000-55d0a0300000 r--p 00201000 fe:00 131 /usr/bin/agent
    Size:               1024 kB
    Anonymous:           512 kB
    55d0a0300000-55d0a0400000 rw-p 00301000 fe:00 131 /usr/bin/agent
    Anonymous:             0 kB
    55d0a1000000-55d0a1100000 r--p 00000000 00:00 0
    Anonymous:             0 kB
    55d0a1100000-55d0a1200000 r-xp 00001000 fe:00 132 /usr/lib/libc.so.6
    Anonymous:             0 kB
    7f0000000000-7f0000001000 r-xp 00000000 00:00 0 [vdso]
    Anonymous:             0 kB
    7f0000100000-7f0000200000 r--s 00000000 fe:00 77 /usr/share/some file
    Anonymous:             0 kB

    """

  func testOnlyUntouchedPagesOfFilesAreReleased() {
    XCTAssertEqual(IdleMemory.releasable(smaps, of: "/usr/bin/agent"), [0x55d0_a000_0000..<0x55d0_a020_0000])
  }

  func testOtherTextsReleaseNothing() {
    for text in ["", "Anonymous: 0 kB", "zz-1 r-xp 0 0 0 /x\nAnonymous: 0 kB", "2-1 r-xp 0 0 0 /x\nAnonymous: 0 kB"] {
      XCTAssertEqual(IdleMemory.releasable(text, of: "/x"), [])
    }
  }

  func testTheProcessGoesOn() {
    let memory = IdleMemory()
    for _ in 0..<100 { memory.release() }
    XCTAssertEqual((0..<1000).map(String.init).joined().count, 2890)
  }
}
