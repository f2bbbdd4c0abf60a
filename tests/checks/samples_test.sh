#!/usr/bin/env bash
# The samples as a user runs them: samples_test.sh BUILD_DIR. One line per check, then the count.
set -uo pipefail
samples=$1/samples
source=$(cd "$(dirname "$0")/../.." && pwd)
passed=0
failed=0
check() {  # check NAME COMMAND...
    local name=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        passed=$((passed + 1))
        echo "ok      $name"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
        sed 's/^/        /' "$work/out"
    fi
}
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT

start_server() {  # start_server BACKEND: sets $server and $port
    : >"$work/server"
    "$samples/echo_server" --backend "$1" --port 0 >"$work/server" 2>&1 &
    server=$!
    for _ in $(seq 200); do
        port=$(sed -nE 's/.*listening on [^ ]*:([0-9]+) .*/\1/p' "$work/server")
        [[ -n $port ]] && return 0
        sleep 0.05
    done
    cat "$work/server"
    return 1
}

# A client that knows nothing of rondo: the shell itself.
shell_client() {
    exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
    printf 'hello\nworld\n' >&3
    local a b
    read -r -t 10 a <&3 && read -r -t 10 b <&3
    exec 3>&-
    [[ $a == hello && $b == world ]]
}
ends_on() {  # ends_on SIGNAL: gracefully, with code 0, and it says what it did
    kill "-$1" "$server"
    wait "$server" && grep -q 'bytes echoed' "$work/server"
}
refuses() {  # refuses TEXT COMMAND...: exit code 2 and the text on standard error
    local text=$1 code=0
    shift
    "$@" 2>"$work/err" >/dev/null || code=$?
    cat "$work/err"
    [[ $code == 2 ]] && grep -q -- "$text" "$work/err"
}

# samples/run itself, in a tree where building is a matter of a line.
runs_where_its_caller_is() {
    local tree="$work/a tree"
    mkdir -p "$tree/samples" "$tree/tests/support" "$tree/build/release/samples" "$work/elsewhere"
    cp "$source/samples/run" "$tree/samples"
    echo '// Shows.' >"$tree/samples/show.cpp"
    echo 'build_packages=(); need_packages() { :; }; configure() { :; }; build() { :; }
          say() { echo "$*"; }' >"$tree/tests/support/setup.sh"
    printf '#!/bin/sh\necho "$2"; cat "$1"\n' >"$tree/build/release/samples/show"
    chmod +x "$tree/build/release/samples/show"
    echo 'found' >"$work/elsewhere/file"
    (cd "$work/elsewhere" && [[ $("../a tree/samples/run" show file 'two words') == $'two words\nfound' ]])
}

check "samples/run finds a file named relative to its caller" runs_where_its_caller_is
check "timer runs" "$samples/timer"
prints_as_expected() {  # prints_as_expected NAME: exactly samples/expected/NAME.txt
    "$samples/$1" >"$work/printed" && diff "$source/samples/expected/$1.txt" "$work/printed"
}
for sample in counter_actor bank_account supervision_tree; do
    check "$sample prints what it should" prints_as_expected "$sample"
done
check "timer runs on sim" env RONDO_BACKEND=sim "$samples/timer"
for backend in epoll auto; do
    check "echo_server starts on $backend" start_server "$backend"
    check "a shell client is echoed ($backend)" shell_client
    check "echo_load verifies every byte ($backend)" \
        "$samples/echo_load" --backend "$backend" --port "$port" --connections 20 --size 3000 --seconds 1
    check "SIGTERM ends it gracefully ($backend)" ends_on TERM
done
# Two clients of other people's, through two proxies, to a server: what comes back is what was sent.
start_proxy() {  # start_proxy PORT_OF_TARGET COMMAND [OPTIONS]: sets $proxy and $through
    local target=127.0.0.1:$1 command=$2
    shift 2
    : >"$work/$command"
    "$samples/$command" 0 "$target" "$@" >"$work/$command" &
    proxies+=($!)
    for _ in $(seq 200); do
        through=$(sed -nE 's/^listening on 127.0.0.1:([0-9]+), .*/\1/p' "$work/$command")
        [[ -n $through ]] && return 0
        sleep 0.05
    done
    return 1
}
comes_back_by() {  # comes_back_by COMMAND...: which sends its input, and prints what comes
    timeout 60 "$@" <"$work/sent" >"$work/back" && cmp "$work/sent" "$work/back"
}
proxies=()
head -c 300000 /dev/urandom >"$work/sent"
check "echo_server starts behind proxies" start_server auto
check "chaos_proxy starts in front of it" start_proxy "$port" chaos_proxy --delay 2 --dribble 900
check "tcp_proxy starts in front of that" start_proxy "$through" tcp_proxy
check "socat is echoed through both" comes_back_by socat -t 60 - "TCP:127.0.0.1:$through"
check "nc is echoed through both" comes_back_by nc -N 127.0.0.1 "$through"
kill "${proxies[@]}" "$server"
wait "${proxies[@]}" "$server"
one_line() {  # one_line TEXT COMMAND...: exit code as of a failure, and that text in the only line of the errors
    local text=$1 code=0
    shift
    "$@" 2>"$work/err" >/dev/null || code=$?
    cat "$work/err"
    [[ $code != 0 && $(wc -l <"$work/err") == 1 ]] && grep -q -- "$text" "$work/err"
}
says() {  # says TEXT COMMAND...
    local text=$1
    shift
    "$@" | grep -- "$text"
}
check "without a server echo_load says so once" \
    one_line "Connection refused" "$samples/echo_load" --port 1 --connections 20 --seconds 5
check "timer refuses what it does not know" refuses "no option '--fast'" "$samples/timer" --fast 1
check "an option without a value is refused" one_line "--port needs a value" "$samples/echo_server" --port
check "an option in place of a value is refused" \
    one_line "--port needs a value" "$samples/echo_server" --port --max 5
check "--help tells units and defaults" says "bytes in a request.*(64)" "$samples/echo_load" --help
check "a port out of range is refused" refuses "from 0 to 65535" "$samples/echo_server" --port 70000
check "a port that is no number is refused" refuses "not 'http'" "$samples/echo_server" --port http
check "an unknown option is refused" refuses "no option '--prot'" "$samples/echo_server" --prot 1
check "an unknown backend is refused" \
    refuses "auto, epoll, uring or sim" "$samples/echo_server" --backend kqueue
check "an address that is none is refused" \
    refuses "takes an IP address" "$samples/echo_load" --host localhost --port 1


# A filter as a shell uses it.
filters() {  # filters EXPECTED ARGS...: what becomes of standard input
    local expected=$1
    shift
    [[ $(timeout 20 "$samples/pipeline" "$@"; printf '\ncode %d' $?) == "$expected"$'\ncode 0' ]]
}
ends_with_its_reader() {  # ends_with_its_reader BACKEND: when `head` has had enough
    local first
    first=$(yes | { timeout 20 "$samples/pipeline" --backend "$1" --number; echo "$?" >"$work/code"; } | head -n 1)
    [[ $first == $'1\ty' && $(<"$work/code") == 0 ]]
}
copies_a_file() {  # copies_a_file BACKEND: through pipes that are soon full
    seq 200000 >"$work/numbers"
    cat "$work/numbers" | timeout 20 "$samples/pipeline" --backend "$1" | cmp - "$work/numbers" &&
        timeout 20 "$samples/pipeline" --backend "$1" <"$work/numbers" >"$work/copy" && cmp "$work/copy" "$work/numbers"
}
for backend in epoll auto; do
    check "pipeline numbers, and keeps an end without a newline ($backend)" \
        filters $'1\tONE\n2\tTWO' --backend "$backend" --upper --number --match o < <(printf 'one\nthree\ntwo')
    check "pipeline on /dev/null is at its end at once ($backend)" \
        eval "timeout 20 \"$samples/pipeline\" --backend $backend </dev/null"
    check "pipeline passes pipes and files on unchanged ($backend)" copies_a_file "$backend"
    check "pipeline ends when nobody reads on ($backend)" ends_with_its_reader "$backend"
done
fails_to_write() {  # standard output is closed, or full
    local code=0
    "$samples/pipeline" </dev/null 2>"$work/err" >&- || code=$?
    [[ $code == 1 ]] && grep -q 'open standard output: Bad file descriptor' "$work/err" || return
    code=0
    echo line | "$samples/pipeline" 2>"$work/err" >/dev/full || code=$?
    [[ $code == 1 ]] && grep -q 'write standard output: No space left on device' "$work/err"
}
fails_behind_the_good_lines() {  # a line that is too long is an error, and those before it are there
    local code=0
    { seq 1000; head -c 2000000 /dev/zero; } | "$samples/pipeline" >"$work/out_lines" 2>"$work/err" || code=$?
    [[ $code == 1 ]] && seq 1000 | cmp - "$work/out_lines" && grep -q 'no end within 1048576 bytes' "$work/err"
}
check "pipeline says what is wrong with its output" fails_to_write
check "pipeline says what is wrong with its input, and loses nothing before it" fails_behind_the_good_lines

# What the tree looks like is for tests/task/await_tree_test.cpp; here, that the program shows it.
shows_its_tree() {  # shows_its_tree BACKEND
    RONDO_BACKEND=$1 "$samples/await_tree" >"$work/tree" || return
    cat "$work/tree"
    head -n 1 "$work/tree" | grep -qx "rondo: 1,004 tasks on $1, 7 of them shown, next timer in [0-9]* ms" &&
        grep -q '^task 1  *the main task$' "$work/tree" &&
        grep -q '   ├─ task 3 .*spawned at await_tree.cpp:' "$work/tree" &&
        grep -q 'waits: accept on fd [0-9]*  *1.[0-9] s$' "$work/tree" &&
        grep -q '└─ \.\.\. and 997 more like task 5 ' "$work/tree"
}
shows_its_tree_as_json() {
    RONDO_BACKEND=sim "$samples/await_tree" --json >"$work/tree" || return
    cat "$work/tree"
    python3 - "$work/tree" <<'PYTHON'
import json, sys
tree = json.load(open(sys.argv[1]))
assert tree["tasks"] == 1004 and tree["shown"] == 7, tree
group = tree["tree"][1]["below"][0]
assert group["scope"] == {"kind": "task group", "tasks": 1002}, group["scope"]
assert group["below"][0]["waited_ms"] == 1100, group["below"][0]
PYTHON
}
is_a_deadlock() {  # is_a_deadlock BACKEND: exit code 2, and who waits for whom
    local code=0
    RONDO_BACKEND=$1 "$samples/deadlock" 2>"$work/err" || code=$?
    cat "$work/err"
    [[ $code == 2 ]] && grep -q '^fatal error: deadlock: nothing is left that could wake these tasks$' "$work/err" &&
        grep -q 'waits: task 2$' "$work/err" && grep -q 'waits: task 3$' "$work/err"
}
for backend in epoll sim; do
    check "await_tree shows its tree ($backend)" shows_its_tree "$backend"
done
check "await_tree shows it as JSON" shows_its_tree_as_json
for backend in auto epoll sim; do
    check "all tasks asleep are a deadlock ($backend)" is_a_deadlock "$backend"
done
check "many tasks sleep and wake" says "^20000 have woken" "$samples/million_tasks" --count 20000 --backend epoll
check "many tasks sleep and wake on sim" says "^20000 have woken" "$samples/million_tasks" --count 20000 --backend sim

# The sample of several hosts: its usual output is in samples/expected.
log=$samples/replicated_log/replicated_log
for backend in epoll auto sim; do
    check "replicated_log runs on real sockets ($backend)" says "^30 entries, the same on 3 nodes" "$log" --real --backend "$backend"
done
for bug in vote-twice commit-old-term ack-before-majority no-dedup; do
    check "replicated_log finds $bug" says "told:  .*samples/run replicated_log --bug $bug --mode" \
        env RONDO_SIM_SHRINK=0 "$log" --seeds 3000 --bug "$bug"
done
check "replicated_log shrinks what it finds" says "shrunk to" "$log" --bug no-dedup
check "replicated_log tells a world" says "node . leads term" "$log" --seed 0x7
check "replicated_log refuses a seed that is none" refuses "takes a number, not '0xzz'" "$log" --seed 0xzz
check "replicated_log refuses a bug it does not have" refuses "not 'votes'" "$log" --bug votes
check "replicated_log refuses a mode that is none" refuses "spec, chaos or both" "$log" --mode mad

echo "$passed passed, $failed failed"
[[ $failed == 0 ]]
