#!/usr/bin/env bash
# Runs cargo-fuzz: fuzz.sh SECONDS TARGET... (all targets if none is named). Needs a nightly toolchain, and the usual build,
# whose RocksDB is linked. Installs cargo-fuzz once, into the target directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo_fuzz_version=0.13.2
: "${CARGO_TARGET_DIR:?run it by make fuzz}"
seconds=$1
shift

fail() {
    echo "fuzz: $*" >&2
    exit 1
}

cargo +nightly --version >/dev/null 2>&1 ||
    fail "a nightly toolchain is missing: run  rustup toolchain install nightly  (make test runs the same targets without one)"
root="$CARGO_TARGET_DIR/tools"
if [ "$("$root/bin/cargo-fuzz" --version 2>/dev/null)" != "cargo-fuzz $cargo_fuzz_version" ]; then
    echo "fuzz: installing cargo-fuzz $cargo_fuzz_version once; it stays in $root"
    cargo install cargo-fuzz --version "$cargo_fuzz_version" --locked --debug --force --quiet --root "$root" ||
        fail "cargo-fuzz cannot be installed; see above"
fi
# The newest one is that of the build before.
library=$(find "$CARGO_TARGET_DIR/release/build" -path '*/librocksdb-sys-*/out/librocksdb.a' -printf '%T@ %h\n' |
    sort -n | tail -n 1 | cut -d ' ' -f 2-)
[ -n "$library" ] || fail "RocksDB is not built: run  make build"
export ROCKSDB_LIB_DIR="$library" ROCKSDB_STATIC=1
export CARGO_TARGET_DIR="$CARGO_TARGET_DIR/fuzz"
targets=("$@")
if [ $# -eq 0 ]; then
    mapfile -t targets < <(basename -s .rs fuzz/fuzz_targets/*.rs)
fi
for target in "${targets[@]}"; do
    echo "==> $target, for $seconds s"
    mkdir -p "fuzz/corpus/$target"
    RUSTUP_TOOLCHAIN=nightly "$root/bin/cargo-fuzz" run --fuzz-dir fuzz "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1
done
