#!/usr/bin/env bash
# A schema registry for tests, without Docker: Apicurio Registry, which keeps schemas in memory and has Confluent's REST interface
# under /apis/ccompat/v7. It comes from Maven Central (140 MB), once a version, into ~/.cache/tidegate/schema-registry, and needs Java 17
# and Maven.
#
#   schema-registry.sh fetch         fetches it, if it is not there
#   schema-registry.sh up            starts it, prints its address when it answers, after about ten seconds
#   schema-registry.sh pause, cont   stops it as it is, and lets it go on
#   schema-registry.sh down          ends it; its schemas are gone
#
# Environment: REGISTRY_DIR (its log, ~/.cache/tidegate/schema-registry/data by default), REGISTRY_PORT (18081), REGISTRY_OWNER (a process:
# when it ends, the registry ends, too).
set -euo pipefail
version=2.6.13.Final
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/tidegate/schema-registry
data=${REGISTRY_DIR:-$cache/data}
port=${REGISTRY_PORT:-18081}
address=http://127.0.0.1:$port/apis/ccompat/v7
# Seconds until it has to answer.
patience=90

fail() {
    echo "schema registry: $*" >&2
    exit 1
}

fetch() {
    local log to=$cache/$version
    [ ! -e "$to/.complete" ] || return 0
    command -v mvn >/dev/null || fail "Maven is missing: run  scripts/setup.sh kafka"
    log=$(mktemp)
    echo "schema registry: fetching Apicurio Registry $version once, 140 MB; it stays in $to" >&2
    mkdir -p "$to"
    # Maven writes where it is started.
    (cd "$to" && exec mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack \
        -Dartifact="io.apicurio:apicurio-registry-app:$version:tar.gz:all" -DoutputDirectory="$to") >"$log" 2>&1 ||
        { tail -n 5 "$log" >&2 && fail "Maven failed (its output is in $log)"; }
    rm -f "$log"
    touch "$to/.complete"
}

up() {
    command -v java >/dev/null || fail "Java is missing: run  scripts/setup.sh kafka"
    fetch
    mkdir -p "$data"
    # The compiler of the first stage only: it starts in half the time.
    java -Xmx256m -XX:TieredStopAtLevel=1 -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$port" \
        -jar "$cache/$version/apicurio-registry-app-$version-runner.jar" >"$data/log" 2>&1 </dev/null &
    echo $! >"$data/pid"
    end_with_owner
    for _ in $(seq $((10 * patience))); do
        kill -0 "$(cat "$data/pid")" 2>/dev/null || fail "it has ended; see $data/log"
        # Its port is open before it answers.
        if answers; then
            echo "$address"
            return
        fi
        sleep 0.1
    done
    fail "no answer in $patience seconds; see $data/log"
}

answers() {
    local line
    { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || return 1
    printf 'GET /apis/ccompat/v7/subjects HTTP/1.0\r\n\r\n' >&3
    IFS= read -r -t 10 line <&3 || line=
    exec 3>&-
    [[ $line == *" 200 "* ]]
}

end_with_owner() {
    [ -n "${REGISTRY_OWNER:-}" ] || return 0
    (
        while kill -0 "$REGISTRY_OWNER" 2>/dev/null; do sleep 1; done
        down
    ) >/dev/null 2>&1 </dev/null &
}

down() {
    [ -e "$data/pid" ] || return 0
    kill -KILL "$(cat "$data/pid")" 2>/dev/null || true
    rm -f "$data/pid"
}

case ${1:-} in
fetch) fetch ;;
up) up ;;
pause) kill -STOP "$(cat "$data/pid")" ;;
cont) kill -CONT "$(cat "$data/pid")" ;;
down) down ;;
*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" && exit 2 ;;
esac
