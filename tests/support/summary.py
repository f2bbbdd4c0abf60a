"""Counts what the tests of a Meson build directory did.

    summary.py TESTLOG.json

Prints "PASSED FAILED SKIPPED", then a line for each that failed. A program that ends with doctest's summary, or with a line "N passed,
N failed", counts as many as it ran; any other test counts as one. A program that failed without a
failed case (it crashed, hung, or a sanitizer spoke) counts as one failure more.
"""

import json
import re
import sys
from pathlib import Path

SCRIPT = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.MULTILINE)
CASES = re.compile(r"\[doctest\] test cases:\s*\d+\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed")
LISTED = re.compile(r"^Failed:\n((?:\S+:\d+: .*\n)+)", re.MULTILINE)  # as tests/support/main.cpp says them
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def count(entry):
    """(passed, failed, skipped) of one line of the log."""
    if entry["result"] == "SKIP":
        return 0, 0, 1
    output = COLOUR.sub("", (entry.get("stdout") or "") + (entry.get("stderr") or ""))
    cases = [(int(passed), int(failed), 0) for passed, failed in CASES.findall(output)]
    cases += [tuple(int(n or 0) for n in one) for one in SCRIPT.findall(output)]
    passed, failed, skipped = (sum(column) for column in zip((0, 0, 0), *cases))
    if entry["result"] in ("OK", "EXPECTEDFAIL"):
        return (passed if cases else 1), failed, skipped
    return passed, max(failed, 1), skipped


def failures(entry):
    """The names of what failed in one line of the log: of its cases where it says them, or its own."""
    if entry["result"] in ("OK", "EXPECTEDFAIL", "SKIP"):
        return []
    cases = LISTED.search(entry.get("stderr") or "")
    return [f"{entry['name']}: {case}" for case in (cases[1].splitlines() if cases else [entry["result"].lower()])]


def main():
    path = Path(sys.argv[1])
    entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    totals = [sum(column) for column in zip((0, 0, 0), *map(count, entries))]
    print(*totals)
    for entry in entries:
        for failure in failures(entry):
            print(failure)


if __name__ == "__main__":
    main()
