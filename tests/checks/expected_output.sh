#!/usr/bin/env bash
# Runs samples whose output is known, on each backend, and compares: expected_output.sh BUILD_DIR.
# Any samples/expected/NAME.txt is what the sample NAME prints to standard output. One line per check, then the count.
set -uo pipefail
built=$1/samples
expected=$(cd "$(dirname "$0")/../../samples/expected" && pwd)
passed=0
failed=0
for file in "$expected"/*.txt; do
    name=$(basename "$file" .txt)
    program=$built/$name
    [[ -d $program ]] && program=$program/$name  # a sample of several files
    for backend in epoll auto sim; do
        if difference=$(RONDO_BACKEND=$backend timeout 60 "$program" 2>/dev/null | diff "$file" - 2>&1); then
            passed=$((passed + 1))
            echo "ok      $name on $backend"
        else
            failed=$((failed + 1))
            echo "FAILED  $name on $backend"
            printf '%s\n' "$difference" | sed 's/^/        /'
        fi
    done
done
echo "$passed passed, $failed failed"
[[ $failed == 0 && $passed != 0 ]]
