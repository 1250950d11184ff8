# SPDX-License-Identifier: Apache-2.0
#
# What tools/pg, tools/redis and tools/kafka share: the life of one private server in one directory.
#
# Owns the directory (kind, pid, port, log, data), the choice of a free loopback port and of an unprivileged user, and the
# verbs start, stop, kill, restart and remove. Each script says only how its own server is prepared, launched, seen to
# be ready and stopped:
#
#   prepare               makes what the server needs before its first start
#   launch                starts it in the background; $! is the server
#   ready                 true once it answers
#   stop_signal           the signal of a clean stop
#   remove_signal         the signal of the quickest stop that leaves nothing in the kernel
# shellcheck shell=bash disable=SC2034,SC2154

set -euo pipefail

tools=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
me=${0##*/}

fail() { echo "$me: $*" >&2; exit 1; }

# As root, servers run as somebody else. (PostgreSQL insists; the others might as well.)
as_user=()
if [ "$(id -u)" = 0 ]; then
    server_user=nobody
    if id postgres >/dev/null 2>&1; then server_user=postgres; fi
    as_user=(setpriv "--reuid=$server_user" "--regid=$(id -g "$server_user")" --init-groups)
fi

# Below the range of ephemeral ports, and nobody answers there.
free_port() {
    local port
    while :; do
        port=$((10240 + RANDOM % 22000))
        (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

# The process named by a file, not a stranger who got its number: it works in our directory.
named_by() {
    pid=$(cat "$dir/$1" 2>/dev/null) && [ -n "$pid" ] && [[ $(readlink "/proc/$pid/cwd") == "$dir"* ]]
}

alive() { named_by pid; }

children_of() {
    grep -ls "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status | cut -d/ -f3 || true
}

descendants_of() {
    local child
    for child in $(children_of "$1"); do
        descendants_of "$child"
        echo "$child"
    done
}

until_gone() {
    local i
    for ((i = 0; i < 600; i++)); do
        alive || return 0
        sleep 0.05
    done
    fail "process $pid in $dir does not end"
}

start_once() {
    [ -s "$dir/port" ] || free_port >"$dir/port"
    port=$(cat "$dir/port")
    : >"$dir/log.start"
    launch </dev/null >>"$dir/log.start" 2>&1
    echo $! >"$dir/pid"
    for ((i = 0; i < 1200; i++)); do
        alive || return 1
        if ready; then
            return 0
        fi
        sleep 0.05
    done
    kill -KILL "$pid"
    return 1
}

start() {
    if ! alive; then
        mkdir -p "$dir"
        echo "$me" >"$dir/kind"
        if [ ${#as_user[@]} -gt 0 ]; then
            chown "$server_user" "$dir"
            "${as_user[@]}" test -x "$dir" || fail "the user $server_user cannot reach $dir"
        fi
        cd "$dir"
        echo $$ >"$dir/starter"
        local known_port='' attempt
        if [ -s "$dir/port" ]; then known_port=yes; fi
        prepare "$@"
        for attempt in 1 2 3; do
            start_once && break
            # Somebody was quicker to take the port. A port that clients already know is not given up.
            [ "$attempt" -lt 3 ] || { tail -n 20 "$dir/log.start" >&2; fail "did not start; see $dir"; }
            [ -n "$known_port" ] || rm -f "$dir/port"
        done
        rm -f "$dir/starter"
    fi
    echo "$(cat "$dir/port") $(cat "$dir/pid")"
}

signal_and_wait() {
    alive || return 0
    kill "-$1" "$pid" 2>/dev/null || true
    until_gone
}

# As a power cut would: the server and its children at once, and nothing is written any more.
crash() {
    alive || return 0
    kill -STOP "$pid"
    local all
    mapfile -t all < <(children_of "$pid")
    all+=("$pid")
    kill -KILL "${all[@]}" 2>/dev/null || true
    for pid in "${all[@]}"; do
        while readlink "/proc/$pid/cwd" >/dev/null; do sleep 0.02; done
    done
    forget
}

# A start that is still going on would bring it back.
stop_starter() {
    named_by starter || return 0
    # shellcheck disable=SC2046
    kill -KILL "$pid" $(descendants_of "$pid") 2>/dev/null || true
    while readlink "/proc/$pid/cwd" >/dev/null; do sleep 0.02; done
}

server() {
    [ $# -ge 2 ] || fail "usage: $me start|stop|kill|restart|remove DIR [name=value ...]"
    local verb=$1
    dir=$(realpath -m "$2")
    shift 2
    case $verb in
        start) start "$@" ;;
        stop) signal_and_wait "$stop_signal" ;;
        kill) crash ;;
        restart) signal_and_wait "$stop_signal"; start "$@" ;;
        remove) stop_starter; signal_and_wait "$remove_signal"; forget; rm -rf "$dir" ;;
        *) fail "unknown verb $verb" ;;
    esac
}

# Overridden where a killed server leaves behind what would be in the way of the next one.
forget() { :; }
