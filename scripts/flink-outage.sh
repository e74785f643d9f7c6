#!/usr/bin/env bash
# What Flink does where `make demo-kafka` has its outage. A job of Flink (scripts/flink/Outage.java) copies a topic to another one by a KafkaSink
# with EXACTLY_ONCE and transaction.timeout.ms=30000, far above the interval and the time of checkpoints. While a checkpoint with 10,000 rows
# is under way, and the sink has flushed them, the broker is killed. The checkpoint becomes complete, and the job is killed. 40 s later the
# broker is started again, and the job from that checkpoint. Then a reader of committed messages counts. Needs a JDK, 17 or newer, and
# Maven; two to three minutes a round.
#
#   flink-outage.sh [ROUNDS]     one by default
#
# Environment: FLINK_VERSION (2.0.0) with CONNECTOR_VERSION (4.0.0-2.0); for Flink 1.20 they are 1.20.1 and 3.4.0-1.20.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
flink=${FLINK_VERSION:-2.0.0}
connector=${CONNECTOR_VERSION:-4.0.0-2.0}
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/tidegate/flink
jars=$cache/$flink
work=$(mktemp -d)
export KAFKA_DIR=$work/kafka KAFKA_PORT=${KAFKA_PORT:-19392} KAFKA_OWNER=$$
brokers=127.0.0.1:$KAFKA_PORT
# Rows of each of three parts: published before the outage, in the checkpoint of the outage, and after it.
part=10000
# Longer than transaction.timeout.ms, and the second in which brokers see to that.
away=40

fetch_jars() {
    [ ! -e "$jars/.complete" ] || return 0
    echo "fetching Apache Flink $flink once; it stays in $jars" >&2
    mkdir -p "$jars"
    # From a copy: Maven writes beside the file.
    cp "$here/flink/pom.xml" "$jars/pom.xml"
    mvn -q -B -f "$jars/pom.xml" -Dflink.version="$flink" -Dconnector.version="$connector" dependency:copy-dependencies -Djars="$jars" >&2
    touch "$jars/.complete"
}

kafka() {
    "$here/kafka.sh" "$@"
}

# Starts the job, from the checkpoint $2 if there is one, with the log $1.
start_job() {
    java -Xmx512m --add-opens java.base/java.util=ALL-UNNAMED --add-opens java.base/java.lang=ALL-UNNAMED \
        -Dlog4j2.configurationFile="$here/flink/log4j2.properties" -cp "$jars/*:$work" Outage "$brokers" "$work/checkpoints" "${@:2}" \
        >"$work/$1.log" 2>&1 &
    job=$!
}

# A producer that writes what comes through a pipe: the start of Java would take longer than checkpoints are apart.
start_producer() {
    rm -f "$work/rows"
    mkfifo "$work/rows"
    kafka tool ConsoleProducer --topic in <"$work/rows" >/dev/null 2>&1 &
    exec 3>"$work/rows"
}

produce() {
    seq "$1" "$2" >&3
}

# The newest complete checkpoint.
newest() {
    # Every start of the job has a directory of its own, and numbers go on.
    find "$work/checkpoints" -name _metadata -size +0 -printf '%h %h\n' 2>/dev/null | sed 's/^[^ ]*chk-//' | sort -n | tail -n 1 | cut -d ' ' -f 2
}

# Its number.
number() {
    local path
    path=$(newest)
    echo "${path##*chk-}" | grep . || echo 0
}

# Waits until so many checkpoints more are complete.
await_checkpoints() {
    local until=$(($(number) + $1))
    until [ "$(number)" -ge "$until" ]; do
        kill -0 "$job" 2>/dev/null || { tail -n 5 "$work"/*.log >&2 && exit 1; }
        sleep 0.1
    done
}

round() {
    local checkpoint committed parts state
    rm -rf "$work/checkpoints"
    mkdir "$work/checkpoints"
    kafka wipe
    kafka up 1 >/dev/null
    for topic in in out; do kafka tool TopicCommand --create --topic "$topic" --partitions 1 >/dev/null; done
    start_producer
    start_job before
    await_checkpoints 1
    produce 1 $part
    await_checkpoints 2
    produce $((part + 1)) $((2 * part))
    # The sink has flushed its transaction when the other step is still storing its state. Then the broker dies, and the checkpoint
    # becomes complete without it.
    checkpoint=$(newest)
    checkpoint=${checkpoint%-*}-$((${checkpoint##*-} + 1))
    until grep -q "storing state for checkpoint ${checkpoint##*-}$" "$work/before.log"; do sleep 0.1; done
    sleep 2
    kafka kill 1
    until [ -s "$checkpoint/_metadata" ]; do sleep 0.1; done
    kill -KILL "$job"
    wait "$job" 2>/dev/null || true
    sleep "$away"
    kafka up 1 >/dev/null

    start_job after "$checkpoint"
    await_checkpoints 1
    produce $((2 * part + 1)) $((3 * part))
    await_checkpoints 2
    # The last part is there when its checkpoint is complete, and a moment more.
    for _ in 1 2 3 4 5; do
        kafka tool consumer.ConsoleConsumer --topic out --from-beginning --isolation-level read_committed --timeout-ms 20000 \
            >"$work/out" 2>"$work/reader.log" || true
        committed=$(grep '^[0-9]*$' "$work/out" | sort -un | wc -l)
        parts=$(awk -v part=$part '/^[0-9]+$/ { n[int(($1 - 1) / part)]++ } END { print n[0] + 0, n[1] + 0, n[2] + 0 }' "$work/out")
        [ "${parts##* }" -lt "$part" ] || break
    done
    kill -0 "$job" 2>/dev/null && state="the job runs on" || state="the job has ended"
    echo "Flink $flink: of $((3 * part)) rows a reader of committed messages sees $committed ($parts), lost $((3 * part - committed)); $state"
    grep -o 'ERROR KafkaCommitter Unable to commit.*' "$work/after.log" | sed 's/ (CommitRequestImpl.*}})//' || true
    exec 3>&-
    kill -KILL "$job" 2>/dev/null || true
    wait "$job" 2>/dev/null || true
}

# shellcheck disable=SC2329 # by the trap
clean_up() {
    [ -z "${job:-}" ] || kill -KILL "$job" 2>/dev/null || true
    kafka down
    rm -rf "$work"
}

for tool in javac mvn; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: a JDK, 17 or newer, and Maven are needed" >&2 && exit 1; }
done
fetch_jars
trap clean_up EXIT
javac -d "$work" -cp "$jars/*" "$here/flink/Outage.java"
for _ in $(seq "${1:-1}"); do round; done
