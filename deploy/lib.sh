#!/usr/bin/env bash
# Functions that the scripts of this folder share. Source it; it does nothing by itself.
# shellcheck disable=SC2034  # the lists are used by the scripts that source this file

# The repository.
MR_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# The executables of a deployment.
MR_PRODUCTS=(frontend crypto-worker agent microraptor)

# Debian packages that building and running need, beside a Swift toolchain.
MR_BUILD_PACKAGES=(libssl-dev libzmq3-dev libsqlite3-dev libpq-dev zlib1g-dev libyaml-dev pkg-config ca-certificates curl)

# Debian packages that only the tests need.
MR_TEST_PACKAGES=(openssl postgresql curl nginx-light haproxy tinyproxy iproute2 procps tzdata)

mr_say() { printf '==> %s\n' "$*"; }

mr_warn() { printf 'warning: %s\n' "$*" >&2; }

mr_die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# mr_install_packages PACKAGE…: installs those that are missing; needs root or sudo only then.
mr_install_packages() {
  local missing=() package
  command -v dpkg-query >/dev/null || {
    mr_warn "not a Debian system: make sure that these are installed: $*"
    return 0
  }
  for package in "$@"; do
    if ! dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
      missing+=("$package")
    fi
  done
  ((${#missing[@]})) || return 0
  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null ||
      mr_die "these packages are missing: ${missing[*]}. Run as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  mr_say "Installing ${missing[*]}"
  local options=(-o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  "${as_root[@]}" apt-get "${options[@]}" update ||
    mr_warn "apt-get update failed; trying with the package lists at hand"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install -y --no-install-recommends \
    "${missing[@]}" || mr_die "apt-get could not install: ${missing[*]}"
}

# mr_need_swift: a Swift toolchain must be there.
mr_need_swift() {
  command -v swift >/dev/null ||
    mr_die "no Swift toolchain in PATH. Install Swift 6.3 or newer (https://www.swift.org/install/linux/), try again"
}

# mr_build CONFIGURATION: builds every executable, with the build's own progress.
mr_build() {
  local configuration=$1 product number=0
  mr_need_swift
  for product in "${MR_PRODUCTS[@]}"; do
    number=$((number + 1))
    mr_say "Building $product ($number of ${#MR_PRODUCTS[@]}, $configuration)"
    (cd "$MR_ROOT" && swift build -c "$configuration" --product "$product") || mr_die "the build of $product failed"
  done
}

# mr_has_binaries DIRECTORY: whether all executables are there.
mr_has_binaries() {
  local product
  for product in "${MR_PRODUCTS[@]}"; do
    [[ -x $1/$product ]] || return 1
  done
}

# mr_find_binaries: prints the directory of the executables: $MICRORAPTOR_BIN, else the release build, else the debug.
mr_find_binaries() {
  local directory
  if [[ -n ${MICRORAPTOR_BIN:-} ]]; then
    mr_has_binaries "$MICRORAPTOR_BIN" || mr_die "MICRORAPTOR_BIN=$MICRORAPTOR_BIN does not hold: ${MR_PRODUCTS[*]}"
    (cd "$MICRORAPTOR_BIN" && pwd)
    return
  fi
  for directory in "$MR_ROOT/.build/release" "$MR_ROOT/.build/debug"; do
    if mr_has_binaries "$directory"; then
      printf '%s\n' "$directory"
      return
    fi
  done
  mr_die "the executables are not built. Run: swift build -c release (or deploy/quickstart, which does it)"
}

# mr_absolute PATH: prints the path without . and .. and without asking that it exists.
mr_absolute() { realpath -m -- "$1"; }
