#!/usr/bin/env bash
# Apache Kafka for tests and demos, without Docker: one node or three (KRaft), from the artifacts that Apache publishes at Maven
# Central, with Java 17 or newer and Maven. They are fetched once a version, into ~/.cache/tidegate/kafka.
#
#   kafka.sh jars              fetches the artifacts, if they are not there
#   kafka.sh up [1|3]          starts so many nodes, prints their addresses when they answer
#   kafka.sh start N           starts node N again
#   kafka.sh kill N            ends node N as by kill -9
#   kafka.sh pause N, cont N   stops node N as it is, and lets it go on
#   kafka.sh down              ends all nodes; what they have stored stays
#   kafka.sh wipe              ends all nodes, and removes what they have stored
#   kafka.sh tool CLASS ARGS   runs a tool of Kafka's on these nodes, as  tool TopicCommand --list
#
# Environment: KAFKA_VERSION (4.1.1), KAFKA_DIR (where the nodes store, ~/.cache/tidegate/kafka/data by default), KAFKA_HOST (127.0.0.1, an
# address of this host at which the nodes listen), KAFKA_PORT (19092; node i listens at KAFKA_PORT + 10 (i - 1), and its controller one
# above), KAFKA_HEAP (512m), KAFKA_PROPERTIES (lines that are added to every node's configuration), KAFKA_OWNER (a process: when it ends, the
# nodes end, too).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=${KAFKA_VERSION:-4.1.1}
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/tidegate/kafka
data=${KAFKA_DIR:-$cache/data}
host=${KAFKA_HOST:-127.0.0.1}
port=${KAFKA_PORT:-19092}
heap=${KAFKA_HEAP:-512m}
jars=$cache/$version
# Seconds until a node has to answer.
patience=60

case $version in
3.*) profile=kafka3 logging=-Dlog4j.configuration=file:$here/kafka/log4j.properties ;;
*) profile=kafka4 logging=-Dlog4j2.configurationFile=$here/kafka/log4j2.properties ;;
esac

fail() {
    echo "kafka: $*" >&2
    exit 1
}

has_jars() {
    [ -e "$jars/.complete" ]
}

fetch_jars() {
    local log
    command -v java >/dev/null || fail "Java is missing: run  scripts/setup.sh kafka"
    ! has_jars || return 0
    command -v mvn >/dev/null || fail "Maven is missing: run  scripts/setup.sh kafka"
    log=$(mktemp)
    echo "kafka: fetching Apache Kafka $version once; it stays in $jars" >&2
    mkdir -p "$jars"
    # From a copy: Maven writes beside the file.
    cp "$here/kafka/pom.xml" "$jars/pom.xml"
    mvn -q -B -f "$jars/pom.xml" -Dkafka.version="$version" -P "$profile" dependency:copy-dependencies \
        -Djars="$jars" >"$log" 2>&1 || { tail -n 5 "$log" >&2 && fail "Maven failed (its output is in $log)"; }
    rm -f "$log"
    touch "$jars/.complete"
}

java_with() {
    java -Xmx128m "$logging" -cp "$jars/*" "$@"
}

address() {
    echo "$host:$((port + 10 * ($1 - 1) + ${2:-0}))"
}

addresses() {
    local i list=
    for i in $(seq "$(cat "$data/nodes")"); do list+=${list:+,}$(address "$i"); done
    echo "$list"
}

# The configuration of node $1 of $2.
configure() {
    local i=$1 nodes=$2 voters= replicas=$2 in_sync=1 j
    [ "$nodes" -lt 3 ] || in_sync=2
    for j in $(seq "$nodes"); do voters+=${voters:+,}$j@$(address "$j" 1); done
    cat >"$data/$i.properties" <<PROPERTIES
process.roles=broker,controller
node.id=$i
controller.quorum.voters=$voters
listeners=CLIENT://$(address "$i"),CONTROL://$(address "$i" 1)
advertised.listeners=CLIENT://$(address "$i")
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROL:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROL
log.dirs=$data/$i
num.partitions=4
default.replication.factor=$replicas
min.insync.replicas=$in_sync
offsets.topic.num.partitions=8
offsets.topic.replication.factor=$replicas
transaction.state.log.num.partitions=8
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$in_sync
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
auto.create.topics.enable=false
PROPERTIES
    [ "$profile" != kafka4 ] || cat >>"$data/$i.properties" <<PROPERTIES
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$in_sync
PROPERTIES
    printf '%s\n' "${KAFKA_PROPERTIES:-}" >>"$data/$i.properties"
}

start() {
    java -Xms"$heap" -Xmx"$heap" -XX:+UseG1GC -Djava.awt.headless=true "$logging" -cp "$jars/*" kafka.Kafka \
        "$data/$1.properties" >>"$data/$1.log" 2>&1 </dev/null &
    echo $! >"$data/$1.pid"
}

signal() {
    kill -"$1" "$(cat "$data/$2.pid")"
}

is_running() {
    [ -e "$data/$1.pid" ] && kill -0 "$(cat "$data/$1.pid")" 2>/dev/null
}

up() {
    local nodes=$1 i
    fetch_jars
    mkdir -p "$data"
    echo "$nodes" >"$data/nodes"
    [ -e "$data/cluster" ] || java_with kafka.tools.StorageTool random-uuid | tail -n 1 >"$data/cluster"
    for i in $(seq "$nodes"); do
        ! is_running "$i" || continue
        configure "$i" "$nodes"
        [ -e "$data/$i/meta.properties" ] || java_with kafka.tools.StorageTool format --cluster-id "$(cat "$data/cluster")" \
            --config "$data/$i.properties" >>"$data/$i.log" 2>&1 || fail "node $i cannot be formatted; see $data/$i.log"
        start "$i"
    done
    end_with_owner
    # The tools take a second to start, so the port is tried first.
    for i in $(seq $((10 * patience))); do
        ! answers || { addresses && return; }
        sleep 0.1
    done
    fail "no answer in $patience seconds; see $data/*.log"
}

# Ends the nodes when the process is gone that has asked for them.
end_with_owner() {
    [ -n "${KAFKA_OWNER:-}" ] || return 0
    (
        while kill -0 "$KAFKA_OWNER" 2>/dev/null; do sleep 1; done
        down
    ) >/dev/null 2>&1 </dev/null &
}

answers() {
    local i host_port
    for i in $(seq "$(cat "$data/nodes")"); do
        is_running "$i" || fail "node $i has ended; see $data/$i.log"
        host_port=$(address "$i")
        (exec 3<>"/dev/tcp/${host_port/:/\/}") 2>/dev/null || return 1
    done
    java_with org.apache.kafka.tools.TopicCommand --bootstrap-server "$(addresses)" --list >/dev/null 2>&1
}

down() {
    local pid
    for pid in "$data"/*.pid; do
        [ -e "$pid" ] || continue
        kill -KILL "$(cat "$pid")" 2>/dev/null || true
        rm -f "$pid"
    done
}

case ${1:-} in
jars) fetch_jars ;;
up) up "${2:-1}" ;;
start) start "$2" ;;
kill) signal KILL "$2" ;;
pause) signal STOP "$2" ;;
cont) signal CONT "$2" ;;
down) down ;;
wipe) down && rm -rf "$data" ;;
tool)
    shift && class=$1 && shift
    # Some are in Kafka's older package, AclCommand until 4.0.
    case $version:$class in
    *.*:*.*) ;;
    *:ConsumerGroupCommand) class=org.apache.kafka.tools.consumer.group.$class ;;
    *:ConfigCommand | 3.*:AclCommand) class=kafka.admin.$class ;;
    *) class=org.apache.kafka.tools.$class ;;
    esac
    java_with "$class" --bootstrap-server "$(addresses)" "$@"
    ;;
*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" && exit 2 ;;
esac
