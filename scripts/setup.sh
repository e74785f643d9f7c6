#!/usr/bin/env bash
# Checks what a build needs besides Cargo.lock: Rust, make, CMake, a C++ compiler, libclang, the headers of OpenSSL and zlib. Installs all
# but Rust where it may (Debian and Ubuntu, as root or with sudo that asks for no password), else says in one line what to
# install. Prints nothing if nothing is missing. With the argument `lints`, clippy and rustfmt are asked for too, and
# cargo-machete is built once, into the target directory. With `kafka`, Java and Maven are installed where they may be, and
# Apache Kafka is fetched; what cannot be had is told, and is no failure: tests that need it are reported as ignored.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The cargo-machete that finds unused dependencies.
machete_version=0.9.2
# CPU seconds that a first build of everything takes, more than half of them RocksDB's.
first_build_seconds=3000

fail() {
    echo "setup: $*" >&2
    exit 1
}

exists() {
    command -v "$1" >/dev/null
}

# ------------------------------------------------------------ Rust

check_rust() {
    if ! exists cargo; then
        # shellcheck disable=SC2016 # it is for the user's shell to expand
        [ ! -x "${HOME:-}/.cargo/bin/cargo" ] || fail 'cargo is not on the PATH: run  . "$HOME/.cargo/env"'
        fail "Rust is missing, get it by  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    fi
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    # Where rustup is, rust-toolchain.toml chooses, and rustup may have to fetch it.
    found=$(cargo --version | cut -d ' ' -f 2) || fail "cargo does not start; see above"
    [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ] ||
        fail "Rust $found is too old, $wanted is needed: run  rustup update"
}

check_lints() {
    local tool
    for tool in clippy fmt; do
        cargo "$tool" --version >/dev/null 2>&1 ||
            fail "cargo $tool is missing: run  rustup component add clippy rustfmt"
    done
}

see_to_machete() {
    # Without one, make is about to say where it is.
    [ -n "${CARGO_TARGET_DIR:-}" ] || return 0
    local root="$CARGO_TARGET_DIR/tools" log
    [ "$("$root/bin/cargo-machete" --version 2>/dev/null)" != "$machete_version" ] || return 0
    echo "setup: building cargo-machete $machete_version once, in under a minute; it stays in $root"
    log=$(mktemp)
    # Not optimized: that would take longer than the tool runs.
    cargo install cargo-machete --version "$machete_version" --locked --debug --force --quiet --root "$root" >"$log" 2>&1 ||
        { tail -n 5 "$log" >&2 && fail "cargo-machete cannot be installed (its output is in $log)"; }
    rm -f "$log"
}

# ------------------------------------------------------------ C++ and libclang

has_cxx() {
    [ -n "${CXX:-}" ] || exists c++ || exists g++ || exists clang++
}

# Where bindgen looks for libclang; clang's own headers are a package of their own in some distributions.
has_libclang() {
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    local dir lib
    for dir in "$(llvm-config --libdir 2>/dev/null || true)" /usr/lib/llvm*/lib /usr/lib/*-linux-gnu* /usr/lib64 \
        /usr/lib64/llvm*/lib* /usr/lib /usr/local/lib /usr/local/llvm*/lib* /opt/homebrew/opt/llvm/lib \
        /usr/local/opt/llvm/lib /Library/Developer/CommandLineTools/usr/lib \
        /Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib; do
        for lib in "$dir"/libclang.so* "$dir"/libclang-[0-9]*.so* "$dir"/libclang.dylib; do
            [ ! -e "$lib" ] || { has_clang_headers; return; }
        done
    done
    return 1
}

has_clang_headers() {
    [ "$(uname)" = Linux ] || return 0
    local header
    for header in /usr/lib*/clang/*/include/stddef.h /usr/lib*/llvm*/lib*/clang/*/include/stddef.h \
        /usr/local/lib*/clang/*/include/stddef.h /usr/local/llvm*/lib*/clang/*/include/stddef.h; do
        [ ! -e "$header" ] || return 0
    done
    return 1
}

# Whether the C compiler finds a header. Without one, that is missing first.
has_header() {
    local compiler=${CC:-cc}
    exists "$compiler" || compiler=c++
    ! exists "$compiler" || echo "#include <$1>" | "$compiler" -E -x c - >/dev/null 2>&1
}

missing() {
    exists make || echo make
    has_cxx || echo g++
    has_libclang || echo libclang-dev
    has_header openssl/ssl.h || echo libssl-dev
    has_header zlib.h || echo zlib1g-dev
    exists cmake || echo cmake
}

# ------------------------------------------------------------ installing

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

may_install() {
    exists apt-get && { [ "$(id -u)" -eq 0 ] || { exists sudo && sudo -n true 2>/dev/null; }; }
}

apt_install() {
    local log
    log=$(mktemp)
    echo "setup: installing $* by apt-get ..."
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@")
    # The lists of packages may be missing or too old.
    as_root "${install[@]}" >"$log" 2>&1 </dev/null ||
        { as_root apt-get update >"$log" 2>&1 </dev/null && as_root "${install[@]}" >"$log" 2>&1 </dev/null; } ||
        { tail -n 5 "$log" >&2 && fail "apt-get failed (its output is in $log); install by hand: $*"; }
    rm -f "$log"
}

how_to_install() {
    if exists apt-get; then echo "sudo apt-get install $*"
    elif exists dnf; then echo "sudo dnf install make cmake gcc-c++ clang-devel openssl-devel zlib-devel"
    elif exists pacman; then echo "sudo pacman -S make cmake gcc clang openssl zlib"
    elif exists zypper; then echo "sudo zypper install make cmake gcc-c++ clang-devel libopenssl-devel zlib-devel"
    elif exists apk; then echo "sudo apk add make cmake g++ clang-dev openssl-dev zlib-dev"
    elif exists xcode-select; then echo "xcode-select --install; brew install cmake"
    else echo "make, CMake, a C++ compiler, libclang, OpenSSL and zlib, by whatever installs packages here"
    fi
}

see_to_packages() {
    local packages
    read -ra packages <<<"$(missing | tr '\n' ' ')"
    [ "${#packages[@]}" -gt 0 ] || return 0
    if may_install; then
        apt_install "${packages[@]}"
        read -ra packages <<<"$(missing | tr '\n' ' ')"
        [ "${#packages[@]}" -gt 0 ] || return 0
    fi
    local otherwise="or set LIBCLANG_PATH to the directory of libclang"
    fail "${packages[*]} missing, which RocksDB and librdkafka need: run  $(how_to_install "${packages[@]}")  ($otherwise)"
}

# ------------------------------------------------------------ Kafka, for tests and demos

has_java() {
    local version
    exists java || return 1
    version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${version:-0}" -ge 17 ]
}

missing_for_kafka() {
    has_java || echo default-jre-headless
    exists mvn || echo maven
}

see_to_kafka() {
    local packages
    [ -z "${KAFKA_BOOTSTRAP:-}" ] || return 0
    read -ra packages <<<"$(missing_for_kafka | tr '\n' ' ')"
    # In a shell of its own: a failure is told, and no more.
    [ "${#packages[@]}" -eq 0 ] || ! may_install || (apt_install "${packages[@]}") || true
    read -ra packages <<<"$(missing_for_kafka | tr '\n' ' ')"
    if [ "${#packages[@]}" -gt 0 ]; then
        echo "setup: no Apache Kafka for tests: it needs Java 17 and Maven (${packages[*]}), or KAFKA_BOOTSTRAP=HOST:PORT of brokers" \
            "that may be used; its tests are reported as ignored"
        return 0
    fi
    scripts/kafka.sh jars || echo "setup: no Apache Kafka for tests; they are reported as ignored"
    scripts/schema-registry.sh fetch || echo "setup: no schema registry for tests; those that need it are reported as ignored"
}

# ------------------------------------------------------------ what is going to happen

tell_of_rocksdb() {
    [ -n "${CARGO_TARGET_DIR:-}" ] || return 0
    ! compgen -G "$CARGO_TARGET_DIR/release/build/librocksdb-sys-*/out/librocksdb.a" >/dev/null || return 0
    local cores minutes
    cores=$(getconf _NPROCESSORS_ONLN)
    minutes=$(((first_build_seconds + 60 * cores - 1) / (60 * cores)))
    echo "the first build takes up to $minutes minutes on $cores cores, most of it RocksDB; it stays in $CARGO_TARGET_DIR"
}

check_rust
[ "${1:-}" != lints ] || { check_lints && see_to_machete; }
see_to_packages
[ "${1:-}" != kafka ] || see_to_kafka
tell_of_rocksdb
