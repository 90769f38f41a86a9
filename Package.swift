// swift-tools-version: 6.1
import PackageDescription

// Dependencies point down only; Tests/PackageGraphTests asserts that `frontend` cannot reach `Envelope`.
let strict: [SwiftSetting] = [.swiftLanguageMode(.v6)]

func library(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(
    name: name, dependencies: dependencies, path: "Sources/common/\(name)", exclude: excluded(from: name),
    swiftSettings: strict)
}

/// Sources of generated code lie beside it.
func excluded(from name: String) -> [String] {
  name == "Wire" ? ["Protos", "generate.sh"] : []
}

/// No pkg-config: libzmq's file carries flags that SwiftPM refuses, and Debian's headers lie in the default path.
func system(_ name: String, _ package: String) -> Target {
  .systemLibrary(name: name, path: "Sources/common/\(name)", providers: [.apt([package])])
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(
    name: name, dependencies: dependencies, path: "Tests/\(name)", exclude: fixtures(of: name),
    swiftSettings: strict)
}

/// Fixtures are read by path relative to the test's source file, so they are no resources of the bundle.
func fixtures(of name: String) -> [String] {
  ["EnvelopeTests", "VQLTests"].contains(name) ? ["Fixtures"] : []
}

let nio: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioHTTP: Target.Dependency = .product(name: "NIOHTTP1", package: "swift-nio")
let nioTLS: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")
let nioHTTP2: Target.Dependency = .product(name: "NIOHTTP2", package: "swift-nio-http2")
let nioWebSocket: Target.Dependency = .product(name: "NIOWebSocket", package: "swift-nio")
let nioALPN: Target.Dependency = .product(name: "NIOTLS", package: "swift-nio")
let nioEmbedded: Target.Dependency = .product(name: "NIOEmbedded", package: "swift-nio")
let protobuf: Target.Dependency = .product(name: "SwiftProtobuf", package: "swift-protobuf")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
  name: "microraptor",
  products: [
    .executable(name: "frontend", targets: ["frontend"]),
    .executable(name: "crypto-worker", targets: ["crypto-worker"]),
    .executable(name: "agent", targets: ["agent"]),
    .executable(name: "microraptor", targets: ["microraptor"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
    .package(url: "https://github.com/apple/swift-nio-http2", from: "1.46.0"),
    // Without its traits it does not need the whole of Foundation, which would double the agent.
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0", traits: []),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
  ],
  targets: [
    system("CZeroMQ", "libzmq3-dev"),
    system("CLibCrypto", "libssl-dev"),
    system("CLibSSL", "libssl-dev"),
    system("CLibPQ", "libpq-dev"),
    system("CZlib", "zlib1g-dev"),
    system("CYAML", "libyaml-dev"),

    library("Wire", [protobuf, "CZlib"]),
    library("PublicIdentity", ["CLibCrypto"]),
    library("PKI", ["PublicIdentity", "CLibCrypto"]),
    library("Envelope", ["Wire", "PublicIdentity", "PKI", "CLibCrypto"]),
    library("Observability", [logging, nio, nioPosix, nioHTTP]),
    library("YAML", ["CYAML"]),
    library("Configuration", ["YAML"]),
    library("WorkerLink", ["CZeroMQ", "Wire"]),
    library("Store", ["Wire", "PublicIdentity", "CLibPQ", .product(name: "GRDB", package: "GRDB.swift")]),
    library("VQL", ["YAML", "CZlib", "CLibCrypto", "CLibSSL"]),
    library("Artifacts", ["Wire", "VQL"]),
    library(
      "AgentCore",
      [
        "Wire", "PublicIdentity", "Envelope", "PKI", "VQL", "Configuration", "Observability", logging, nio, nioPosix,
        nioHTTP, nioTLS, nioHTTP2, nioWebSocket, nioALPN,
      ]),

    .executableTarget(
      name: "frontend",
      dependencies: [
        "Wire", "PublicIdentity", "WorkerLink", "Store", "Configuration", "Observability", arguments, logging, nio,
        nioPosix, nioHTTP, nioTLS, nioHTTP2, nioWebSocket, nioALPN,
      ],
      path: "Sources/frontend", swiftSettings: strict),
    .executableTarget(
      name: "crypto-worker",
      dependencies: [
        "Wire", "PublicIdentity", "Envelope", "PKI", "WorkerLink", "Configuration", "Observability", arguments, logging,
      ],
      path: "Sources/crypto-worker", swiftSettings: strict),
    .executableTarget(
      name: "agent", dependencies: ["AgentCore", "Configuration", "Observability", arguments, logging],
      path: "Sources/agent", swiftSettings: strict),
    .executableTarget(
      name: "microraptor",
      dependencies: [
        "Wire", "PublicIdentity", "Envelope", "PKI", "WorkerLink", "Store", "Configuration", "Observability", "VQL",
        "AgentCore",
        "Artifacts", arguments, logging, protobuf,
      ],
      path: "Sources/admin", swiftSettings: strict),

    .executableTarget(
      name: "benchmarks",
      dependencies: [
        "Wire", "PublicIdentity", "PKI", "Envelope", "WorkerLink", "Store", "VQL", "Configuration", "ProcessSupport",
        "CLibCrypto",
        protobuf, arguments,
        nio, nioPosix, nioHTTP, nioTLS, .product(name: "GRDBSQLite", package: "GRDB.swift"),
      ],
      path: "Benchmarks", swiftSettings: strict),

    // A private PostgreSQL server, for the tests of two targets.
    .target(name: "ProcessSupport", path: "Tests/ProcessSupport", swiftSettings: strict),
    .target(name: "TestDatabase", dependencies: ["CLibPQ"], path: "Tests/TestDatabase", swiftSettings: strict),
    .executableTarget(
      name: "fuzz",
      dependencies: ["Wire", "PublicIdentity", "PKI", "Envelope", "WorkerLink", "CLibCrypto", arguments],
      path: "Fuzzing", exclude: ["Crashers"], swiftSettings: strict),

    tests("WireTests", ["Wire"]),
    tests("FuzzTests", ["Wire", "Envelope", "fuzz"]),
    tests("EnvelopeTests", ["Wire", "PublicIdentity", "PKI", "Envelope"]),
    tests("PKITests", ["PublicIdentity", "PKI"]),
    tests("YAMLTests", ["YAML"]),
    tests("ConfigurationTests", ["Configuration"]),
    tests("ObservabilityTests", ["Observability", logging, nio, nioPosix, nioHTTP]),
    tests("WorkerLinkTests", ["WorkerLink"]),
    tests(
      "StoreTests",
      ["Wire", "PublicIdentity", "CLibPQ", "Store", "TestDatabase", .product(name: "GRDB", package: "GRDB.swift")]),
    tests("VQLTests", ["VQL"]),
    tests("ArtifactsTests", ["Wire", "VQL", "Store", "Artifacts"]),
    tests(
      "AgentCoreTests",
      [
        "Wire", "PublicIdentity", "PKI", "Envelope", "VQL", "Configuration", "AgentCore", logging, nio, nioPosix,
        nioHTTP, nioTLS, nioHTTP2, nioWebSocket, nioALPN,
      ]),
    tests(
      "CryptoWorkerTests",
      [
        "Wire", "PublicIdentity", "PKI", "Envelope", "WorkerLink", "Observability", "crypto-worker", logging,
      ]),
    tests(
      "FrontendTests",
      [
        "Wire", "PublicIdentity", "Store", "Configuration", "Observability", "frontend", logging, nio, nioPosix,
        nioHTTP,
        nioTLS, nioHTTP2, nioWebSocket, nioALPN, nioEmbedded,
      ]),
    tests(
      "AdminTests",
      [
        "Wire", "PublicIdentity", "PKI", "WorkerLink", "Store", "Configuration", "Observability", "microraptor",
      ]),
    tests("PackageGraphTests", []),
    // The executables are started as processes, so they have to be built before.
    tests(
      "IntegrationTests",
      [
        "Wire", "PublicIdentity", "PKI", "Envelope", "TestDatabase", "ProcessSupport", nio, nioPosix, nioHTTP, nioTLS,
        "frontend",
        "crypto-worker", "agent", "microraptor",
      ]),
  ]
)
