#!/usr/bin/env bash
# Regenerates Generated/ from Protos/. Needs Debian's protobuf-compiler and the protoc-gen-swift of the
# swift-protobuf version that Package.swift names; the result is committed so that builds need neither.
set -euo pipefail
cd "$(dirname "$0")"
root=$(git rev-parse --show-toplevel)
command -v protoc >/dev/null || { echo "install protobuf-compiler first: apt-get install protobuf-compiler" >&2; exit 1; }
checkout="$root/.build/checkouts/swift-protobuf"
[ -d "$checkout" ] || swift package --package-path "$root" resolve
swift build --package-path "$checkout" --scratch-path "$root/.build-protoc" --product protoc-gen-swift
protoc --plugin="$root/.build-protoc/debug/protoc-gen-swift" --proto_path=Protos \
  --swift_out=Generated --swift_opt=Visibility=Package Protos/velociraptor.proto
