#!/usr/bin/env bash
# The main job: replay every bundled ordering scenario on each backend, then serve and load a real TCP
# echo on epoll and io_uring. The argument is the build directory.
set -euo pipefail
build=$1
samples=$build/samples
failed=0

echo
echo "1. Event-loop ordering: every bundled scenario, in the order real Node 20 printed"
for backend in sim epoll uring; do
    "$samples/replay/replay" --score --backend "$backend" samples/scenarios/*.jsonl || failed=1
done

page=$build/timeline.html
"$samples/replay/replay" --timeline "$page" samples/scenarios/*.jsonl >/dev/null || failed=1
echo "   a page to look at, with every scenario step by step: $page"

echo
echo "2. Echo over loopback: 50 connections, 64 bytes, 2 s each, every byte verified"
for backend in epoll uring; do
    log=$build/echo_$backend.log
    "$samples/echo_server" --backend "$backend" --port 0 >"$log" 2>&1 &
    server=$!
    port=''
    for _ in $(seq 100); do
        port=$(sed -nE 's/.*listening on [^ ]*:([0-9]+) .*/\1/p' "$log")
        [[ -n $port ]] && break
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
    if [[ -z $port ]]; then
        wait "$server" || true
        if [[ $backend == uring ]] && grep -q 'is not to be had' "$log"; then
            echo "   $backend: skipped here: $(sed -n 1p "$log")"
            continue
        fi
        echo "   $backend: the server did not start:"
        cat "$log"
        failed=1
        continue
    fi
    "$samples/echo_load" --backend "$backend" --port "$port" --connections 50 --seconds 2 |
        sed 's/^/   /' || failed=1
    kill -TERM "$server"  # a shell has told what runs behind it to ignore SIGINT
    wait "$server" || failed=1
done

echo
if [[ $failed == 0 ]]; then
    echo "All of it worked."
else
    echo "Something failed; see above."
fi
exit "$failed"
