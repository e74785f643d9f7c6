#!/usr/bin/env bash
# Checks the absences that ARCHITECTURE.md promises and that neither cargo nor clippy can see.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

broken=0

# absent WHAT PATTERN DIR [ALLOWED]: no line of code under DIR matches PATTERN, but in files whose path begins with
# ALLOWED. Comments are not checked.
absent() {
    local what=$1 pattern=$2 dir=$3 allowed=${4:-nowhere} found
    found=$(grep -rnE "$pattern" --include='*.rs' "$dir" | grep -vE '^[^:]+:[0-9]+: *//' | grep -vE "^$allowed" || true)
    if [ -n "$found" ]; then
        printf 'invariant broken: %s\n%s\n' "$what" "$found" >&2
        broken=1
    fi
}

absent "only runtime/src/dataflow imports timely" '\btimely::' . ./runtime/src/dataflow/
absent "only the state store and the ledger import RocksDB" '\brocksdb::' . '\./(runtime/src/state/|jobmanager/src/ledger.rs)'
absent "the control brain does no I/O and reads no clock" \
    '\bstd::(fs|io|env|net|thread|process|time::(Instant|SystemTime))\b' jobmanager/control/src
# The error type may refer to I/O errors: that is not I/O.
absent "protocol does no I/O" '\bstd::(fs|io|env|net|thread|process|time)\b' protocol/src protocol/src/error.rs
absent "every route of the jobmanager is in its OpenAPI document" '\.(route|route_service|nest_service)\(' jobmanager/src/server
absent "the engine asks for the time of day in one place" '\bSystemTime::now\b' runtime/src runtime/src/clock.rs
exit $broken
