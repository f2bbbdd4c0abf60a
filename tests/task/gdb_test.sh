#!/usr/bin/env bash
# lib/gdb/rondo-gdb.py on a process and on its core file: gdb_test.sh BUILD_DIR. Without gdb it is skipped.
set -uo pipefail
program=$1/samples/await_tree
script=$(cd "$(dirname "$0")/../.." && pwd)/lib/gdb/rondo-gdb.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! command -v gdb >/dev/null; then
    echo "skipped: there is no gdb"
    exit 77
fi

# The sample stops where it takes its own tree: it is the same at any speed.
RONDO_BACKEND=epoll timeout 100 gdb -batch -nx -ex 'set confirm off' -ex 'break rondo::await_tree::await_tree' -ex run \
    -ex "source $script" -ex 'rondo loops' -ex 'rondo tree 8' -ex 'echo ---\n' -ex 'rondo tasks 3' \
    -ex "generate-core-file $work/core" -ex kill --args "$program" >"$work/live" 2>&1
if ! grep -q 'Breakpoint 1, ' "$work/live"; then
    cat "$work/live"
    echo "skipped: gdb may not run programs here"
    exit 77
fi
timeout 100 gdb -batch -nx -ex "source $script" -ex 'rondo tree 8' -ex 'echo ---\n' -ex 'rondo tasks 3' \
    "$program" "$work/core" >"$work/dead" 2>&1

failed=0
shows() {  # shows FILE REGEX
    if grep -Eq -- "$2" "$1"; then
        echo "ok      ${1##*/}: $2"
    else
        failed=1
        echo "FAILED  ${1##*/}: $2"
    fi
}
for file in "$work/live" "$work/dead"; do
    shows "$file" '^loop of thread [0-9]+: 1004 tasks$'
    shows "$file" '^task 1   the main task$'
    shows "$file" '^  await_tree.cpp:[0-9]+.* waits: running$'
    shows "$file" '^  await_tree.cpp:[0-9]+.* task group, 1002 tasks; waits: 1002 tasks$'
    shows "$file" '^    task 3   spawned at await_tree.cpp:[0-9]+$'
    shows "$file" '^      await_tree.cpp:[0-9]+.* waits: accept on fd [0-9]+$'
    shows "$file" '^      await_tree.cpp:[0-9]+.* cancel scope$'
    shows "$file" '^        await_tree.cpp:[0-9]+.* waits: sleep$'
    shows "$file" '^    \.\.\. and 996 more$'
    shows "$file" '^task 3   spawned at await_tree.cpp:[0-9]+   waits: accept on fd [0-9]+ at await_tree.cpp:[0-9]+'
    shows "$file" '^\.\.\. 1004 tasks in all$'
done
((failed)) && sed 's/^/        /' "$work/live" "$work/dead"
exit "$failed"
