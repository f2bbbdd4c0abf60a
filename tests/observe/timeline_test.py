#!/usr/bin/env python3
"""The samples that look at themselves, and what they write; timeline_page_test.py opens their pages in a browser.

    timeline_test.py OBSERVED OBSERVED_LOOP
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from page import data_of, problems_of  # noqa: E402

counts = {"ok": 0, "FAILED": 0}


def say(word, name, detail=""):
    counts[word] += 1
    print(f"{word:8}{name}")
    if detail and word != "ok":
        print("        " + detail.strip().replace("\n", "\n        "))


def check(name, condition, detail=""):
    say("ok" if condition else "FAILED", name, str(detail))


def run(*command, cwd=None, timeout=120):
    return subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, timeout=timeout)


def rows_of(page):
    """The rows of two tables, as far as they matter here."""
    data = data_of(page)
    text = data["texts"]
    cut = lambda table, width: [data[table][i:i + width] for i in range(0, len(data[table]), width)]
    return {"waits": [(text[w[3]], w[4], w[5], text[w[6]]) for w in cut("waits", 9)],
            "lives": [(text[l[3]], text[l[8]], l[4], text[l[6]]) for l in cut("lives", 11)]}


def files(program, scratch):
    """What a sample writes: the text of its page, and the events of its Chrome trace."""
    name = program.name
    got = run(program, cwd=scratch)
    check(f"{name} runs", got.returncode == 0, got.stderr)
    page = (scratch / f"{name}.html").read_text(encoding="utf-8")
    trace = json.loads((scratch / f"{name}.json").read_text(encoding="utf-8"))
    check(f"{name}: the page is well formed, and needs nothing else", not problems_of(page), problems_of(page))
    check(f"{name}: its Chrome trace and its page have the same steps",
          sum(e["ph"] == "X" and e["cat"] == "step" for e in trace["traceEvents"]) == len(data_of(page)["steps"]) / 8)
    return got, page, trace["traceEvents"]


def main():
    world, loop = (Path(p).resolve() for p in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        got, page, events = files(world, scratch)
        names = {e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
        check("observed: each host is a process", names == {"test", "server", "alice", "bob"}, names)
        instants = {e["name"] for e in events if e["ph"] == "i"}
        check("observed: the faults", {"crashed", "links cut", "links healed", "started"} <= instants, instants)
        check("observed: packets arrive, and are lost",
              any(e["ph"] == "s" and e["cat"] == "packet" for e in events) and
              any("(lost)" in e["name"] for e in events))
        rows = rows_of(page)
        check("observed: the page begins by order, as a world does", data_of(page)["world"] is True)
        texts = [text for what, how, _, text in rows["waits"] if how == 1]
        check("observed: what waits ended with: values, errors and cancellation",
              {how for _, how, _, _ in rows["waits"]} >= {0, 1, 2} and any("Connection reset" in t for t in texts), texts)
        check("observed: tasks are called by the functions that they run",
              {"app", "client", "session", "scenario"} <= {row[1] for row in rows["lives"]}, rows["lives"])

        got, page, events = files(loop, scratch)
        check("observed_loop: the stall is named", re.search(r"task 13, spawned at .*observed_loop.cpp:\d+, has held up", got.stderr), got.stderr)
        check("observed_loop: metrics", "\nrondo_loop_step_seconds_count " in got.stdout and "\n# TYPE rondo_loop_tasks gauge\n" in got.stdout, got.stdout)
        longest = max((e for e in events if e["ph"] == "X" and e["cat"] == "step"), key=lambda e: e["dur"])
        check("observed_loop: the longest step is the one that computes", longest["name"] == "task 13", longest)
        check("observed_loop: the page begins by time, as real time goes on", data_of(page)["world"] is False)
        check("observed_loop: names and functions",
              ("a client", "client") in {row[:2] for row in rows_of(page)["lives"]}, rows_of(page)["lives"])
    print(", ".join(f"{n} {word}" for word, n in counts.items()))
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
