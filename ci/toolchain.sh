# Which compiler builds for which machine. Sourced by the other scripts; defines functions and changes nothing.
#
# The standard library for the other architecture comes from rustup where rustup can be had, else from Debian's rustc-web packages
# (then with Debian's rustc and a target folder of its own, so that two compilers don't undo each other's work).
# shellcheck shell=bash

# has_std RUSTC TARGET: does this compiler have the target's standard library?
has_std() {
  local dir
  dir="$("$1" --print target-libdir --target "$2" 2>/dev/null)" || return 1
  compgen -G "$dir/libstd-*.rlib" >/dev/null
}

# host_arch: x86_64 or aarch64.
host_arch() {
  case "$(uname -m)" in
    x86_64 | amd64) echo x86_64 ;;
    aarch64 | arm64) echo aarch64 ;;
    *) echo "Dunlin needs an x86_64 or aarch64 machine, this is $(uname -m)" >&2; return 1 ;;
  esac
}

# other_arch: the one this machine is not.
other_arch() { [ "$(host_arch)" = x86_64 ] && echo aarch64 || echo x86_64; }

# cargo_static ARCH ARGS...: cargo for a static executable that runs on any Linux of that architecture. STATIC_RUSTFLAGS are more
# flags for rustc, and STATIC_SUBDIR is a target folder of its own below the usual one, so that they don't rebuild the rest.
cargo_static() {
  local arch=$1 target upper
  shift
  target="$arch-unknown-linux-gnu"
  upper=$(echo "$target" | tr 'a-z-' 'A-Z_')
  (
    export "CARGO_TARGET_${upper}_RUSTFLAGS=-C target-feature=+crt-static -C relocation-model=static ${STATIC_RUSTFLAGS-}"
    [ "$arch" = "$(host_arch)" ] || export "CARGO_TARGET_${upper}_LINKER=$arch-linux-gnu-gcc"
    if ! has_std rustc "$target"; then
      has_std /usr/bin/rustc "$target" || { echo "no Rust standard library for $target; run ./ci/setup first" >&2; exit 1; }
      export RUSTC=/usr/bin/rustc
    fi
    cargo "$@" --target "$target" --target-dir "$(static_target_dir "$arch")${STATIC_SUBDIR:+/$STATIC_SUBDIR}"
  )
}

# static_target_dir ARCH: where cargo_static puts things (below it: TARGET/PROFILE/).
static_target_dir() { if has_std rustc "$1-unknown-linux-gnu"; then echo target; else echo target/debian; fi; }
