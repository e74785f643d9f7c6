#!/usr/bin/env bash
# Makes a project for a new job from template/: scripts/new-job.sh JOB [DIR]. It is set up so that it reuses what is built for
# this checkout: the same versions (Cargo.lock), profile, toolchain and target directory.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
job=${1:-}
dir=${2:-}

fail() {
    echo "make new: $*" >&2
    exit 1
}

check_name() {
    [ -n "$job" ] || fail "say what the job is called: make new JOB=my-job [DIR=../my-job]"
    [[ $job =~ ^[a-z][a-z0-9_-]*$ ]] ||
        fail "JOB=$job cannot be the name of a crate: use lower-case letters, digits, - and _, with a letter first"
    local taken
    # Rust's keywords and crates, cargo's own directories beside the programs, and what the project depends on.
    for taken in abstract as async await become box break const continue crate do dyn else enum extern false final fn for \
        gen if impl in let loop macro match mod move mut override priv pub ref return self static struct super trait true \
        try type typeof unsafe unsized use virtual where while yield alloc core proc-macro std test build deps examples \
        incremental clap serde tidegate tidegate-connectors; do
        [ "${job//_/-}" != "$taken" ] || fail "JOB=$job is taken, by Rust, cargo or a dependency: choose another name"
    done
    # Its program lies beside those of this checkout, and would take the place of one with the same name.
    local program
    for program in "$root"/*/src/bin/* "$root"/*/*/src/bin/*; do
        program=$(basename "$program" .rs)
        [ "$job" != "$program" ] || fail "JOB=$job is taken by a program of Tidegate: choose another name"
    done
}

check_dir() {
    [ ! -e "$dir" ] || [ -d "$dir" ] || fail "DIR=$dir is a file: say where the project goes: make new JOB=$job DIR=path/to/it"
    [ ! -d "$dir" ] || [ -z "$(ls -A "$dir")" ] ||
        fail "DIR=$dir exists and is not empty; nothing was changed. Choose another: make new JOB=$job DIR=path/to/it"
}

copy_template() {
    local target_dir text file
    target_dir=$(make -s --no-print-directory -C "$root" print-target-dir)
    mkdir -p "$dir"
    cp -R "$root/template/." "$root/Cargo.lock" "$root/rust-toolchain.toml" "$dir"
    # The profile for all packages, and for dependencies; not those of single packages of this workspace.
    awk '/^#/ { comment = comment $0 "\n"; next }
        /^\[/ { copied = $0 ~ /^\[profile\.release(\.package\."\*")?\]$/ }
        { if (copied) printf "%s%s\n", comment, $0; comment = "" }' "$root/Cargo.toml" >>"$dir/Cargo.toml"
    for file in Cargo.toml README.md src/main.rs .cargo/config.toml; do
        text=$(<"$dir/$file")
        text=${text//'{{job}}'/"$job"}
        text=${text//'{{tidegate}}'/"$root"}
        printf '%s\n' "${text//'{{target-dir}}'/"$target_dir"}" >"$dir/$file"
    done
}

# Puts the project into Cargo.lock, and leaves the version of everything else as it is.
lock_versions() {
    local said
    said=$(cd "$dir" && { cargo update --workspace --offline || cargo update --workspace; } 2>&1) || {
        # check_dir has found it missing or empty.
        rm -rf "$dir"
        fail "cargo cannot make Cargo.lock: $said"
    }
}

check_name
[ -n "$dir" ] || dir=$root/../$job
check_dir
copy_template
lock_versions
cat <<END
$job is in $(cd "$dir" && pwd -P). Next:

  cd $dir
  cargo run --release -- --input example --output out
  cargo test --release

README.md there has the rest. Always say --release: without it, cargo compiles RocksDB once more.
END
