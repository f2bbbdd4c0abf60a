#!/usr/bin/env python3
"""replay_test.py REPLAY SOURCE_ROOT [--count N]: tests samples/replay.

The bundled scenarios against what Node 20 printed, on all backends; files that are no scenarios; the
command line; and N random scenarios (20,000) against the Node 20 of this machine, if there is one.
"""
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from page import data_of, problems_of, script_of  # noqa: E402

counts = {"passed": 0, "failed": 0, "skipped": 0}


def say(outcome, name, detail=""):
    counts[outcome] += 1
    word = {"passed": "ok     ", "failed": "FAILED ", "skipped": "SKIPPED"}[outcome]
    print(f"{word} {name}" + (f": {detail}" if detail else ""), flush=True)


def check(name, fine, detail=""):
    say("passed" if fine else "failed", name, "" if fine else detail)


def run(*arguments, stdin="", timeout=120, **more):
    return subprocess.run(arguments, input=stdin, capture_output=True, timeout=timeout, encoding="utf-8",
                          errors="replace", **more)


def scenarios_in(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def write_lines(file, scenarios):
    file.write_text("".join(json.dumps(s) + "\n" for s in scenarios), encoding="utf-8")
    return file


def tail(text, lines=12):
    return "\n" + "\n".join(text.splitlines()[-lines:])


# --- bundled scenarios ----------------------------------------------------------------------------


def bundled(replay, folder, scratch):
    files = sorted(folder.glob("*.jsonl"))
    everything = [s for file in files for s in scenarios_in(file)]
    check("at least 100 scenarios are bundled", len(everything) >= 100, str(len(everything)))
    check("every bundled scenario has an expectation and a note",
          all("expect" in s and s.get("note") for s in everything))
    ids = [s["id"] for s in everything]
    check("no id is used twice", len(set(ids)) == len(ids))
    for file in files:
        got = run(replay, "--expect", file)
        check(f"{file.name} on sim", got.returncode == 0, tail(got.stdout + got.stderr))

    real = write_lines(scratch / "real.jsonl", [s for s in everything if s["clock"] == "real"])
    for backend in "epoll", "uring":
        got = run(replay, "--expect", "--backend", backend, real)
        if got.returncode == 2 and "is not to be had" in got.stderr:
            say("skipped", f"real-clock scenarios on {backend}", got.stderr.strip())
        else:
            check(f"real-clock scenarios on {backend}", got.returncode == 0, tail(got.stdout + got.stderr))


# --- the command line -----------------------------------------------------------------------------

TWO = [{"id": "one", "prog": [["log", "a"], ["tick", [["log", "b"]]]], "expect": ["a", "b"]},
       {"id": "two", "prog": [["micro", [["log", "m"]]], ["tick", [["log", "t"]]]], "expect": ["t", "m"]}]


def command_line(replay, scratch, node):
    got = run(replay)
    check("no arguments: usage with an example, exit code 2",
          got.returncode == 2 and "For example" in got.stderr and not got.stdout)
    got = run(replay, "--help")
    check("--help: usage, exit code 0", got.returncode == 0 and "--timeline" in got.stdout)
    got = run(replay, "--frobnicate", "x.jsonl")
    check("an unknown option is refused", got.returncode == 2 and "--frobnicate" in got.stderr)
    got = run(replay, "--backend", "kqueue", "x.jsonl")
    check("an unknown backend is refused", got.returncode == 2 and "kqueue" in got.stderr)
    got = run(replay, "--backend")
    check("an option without its value is refused, in one line",
          got.returncode == 2 and got.stderr == "replay: --backend needs a value; try --help\n", got.stderr)

    lines = write_lines(scratch / "two.jsonl", TWO)
    got = run(replay, lines)
    check("one line per scenario", got.returncode == 0 and got.stdout == "one: a b\ntwo: t m\n",
          repr(got.stdout))
    got = run(replay, "--json", lines)
    want = '{"id": "one", "labels": ["a", "b"]}\n{"id": "two", "labels": ["t", "m"]}\n'
    check("--json prints exactly that", got.stdout == want and not got.stderr, repr(got.stdout))
    got = run(replay, "--json", "-", stdin=lines.read_text())
    check("- reads lines from standard input", got.stdout == want, repr(got.stdout))
    got = run(replay, "--json", "-", stdin=json.dumps(TWO[0], indent=2))
    check("- reads one scenario from standard input", got.stdout == want.splitlines(True)[0],
          repr(got.stdout))
    array = scratch / "array.json"
    array.write_text(json.dumps(TWO, indent=1))
    got = run(replay, "--json", array)
    check(".json may hold an array", got.stdout == want, repr(got.stdout))
    crlf = scratch / "crlf.jsonl"
    crlf.write_bytes(lines.read_bytes().replace(b"\n", b"\r\n\r\n"))
    got = run(replay, "--json", crlf)
    check("blank lines and carriage returns do no harm", got.stdout == want, repr(got.stdout))
    got = run(replay, "--id", "two", lines)
    check("--id chooses one", got.stdout == "two: t m\n", repr(got.stdout))
    got = run(replay, "--id", "three", lines)
    check("--id of none is an error", got.returncode == 2 and "three" in got.stderr and not got.stdout)

    odd = ['a "quoted" id', "", "\u00fc\u4e2d\U0001f600", "</script><b>", "a\nb", "\u0000"]
    file = write_lines(scratch / "odd.jsonl",
                       [{"id": i, "prog": [["log", i], ["log", 5], ["log", None]]} for i in odd])
    got = run(replay, "--json", file)
    parsed = [json.loads(line) for line in got.stdout.splitlines()]
    check("ids and labels may be any text", parsed == [{"id": i, "labels": [i, 5, None]} for i in odd],
          got.stdout)

    control = ["esc\x1b[31m", "nul\x00", "del\x7f", "c1\x9b2J", "line\nfeed", "plain"]
    file_of_controls = write_lines(scratch / "control.jsonl",
                                   [{"id": "c\x1b", "note": "n\x1b\n", "prog": [["log", c] for c in control],
                                     "expect": ["other"]}])
    got = run(replay, file_of_controls)
    check("control characters are written as in JSON",
          got.stdout == 'c\\u001b: "esc\\u001b[31m" "nul\\u0000" "del\\u007f" "c1\\u009b2J" "line\\nfeed" plain\n',
          repr(got.stdout))
    for option in "--expect", "--print":
        got = run(replay, option, file_of_controls)
        check(f"{option} prints no control characters either",
              not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", got.stdout), repr(got.stdout))

    wrong = write_lines(scratch / "wrong.jsonl", [dict(TWO[0], expect=["b", "a", "c"]), TWO[1]])
    got = run(replay, "--expect", wrong)
    rows = [line.split() for line in got.stdout.splitlines()]
    check("--expect shows both orders and marks the first difference, exit code 1",
          got.returncode == 1 and ["->", "b", "a"] in rows and ["|", "a", "b"] in rows and
          ["|", "c", "-"] in rows and "2 scenarios: 1 as expected, 1 different" in got.stdout, got.stdout)
    columns = {line.index(word) for line in got.stdout.splitlines()[1:5] for word in line.split()[-1:]}
    check("the two columns are aligned", len(columns) == 1, got.stdout)
    got = run(replay, "--expect", "--json", wrong)
    check("--expect --json keeps standard output for the lines",
          len(got.stdout.splitlines()) == 2 and "->" in got.stderr and got.returncode == 1, got.stdout)
    got = run(replay, "--print", lines)
    check("--print shows JavaScript", "process.nextTick(() => console.log('b'))" in got.stdout, got.stdout)

    spin = write_lines(scratch / "spin.jsonl", [{"id": "spin", "prog": [["spin", 2]]}])
    got = run(replay, "--print", spin)
    check("--print says what the number of computeFor is", "computeFor(2 /* ms */);" in got.stdout, got.stdout)

    page = scratch / "page.html"
    got = run(replay, "--json", "--timeline", page, file, lines)
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    problems = problems_of(text) if text else ["there is none"]
    check("--timeline writes a page, well formed, that needs nothing else", got.returncode == 0 and not problems,
          f"{problems} {got.stderr}")
    runs = data_of(text)
    shown = [{"id": r["id"], "labels": r["labels"]} for r in runs]
    as_text = lambda label: label if isinstance(label, str) else json.dumps(label)
    printed = [json.loads(line) for line in got.stdout.splitlines()]
    check("the page has what each run prints, and nothing else",
          shown == [{"id": p["id"], "labels": [as_text(label) for label in p["labels"]]} for p in printed], shown)
    check("and the program and the events of each", all(r["source"] and r["events"] for r in runs))
    got = run(replay, "--timeline", "/nonexistent/page.html", lines)
    check("--timeline into nowhere is an error", got.returncode == 2 and "/nonexistent" in got.stderr)
    if node:
        script = scratch / "page.js"
        script.write_text(script_of(text), encoding="utf-8")
        got = run(node, "--check", script)
        check("the page's script is JavaScript", got.returncode == 0, got.stderr)
    else:
        say("skipped", "the page's script is JavaScript", "there is no node here")


# --- what is no scenario --------------------------------------------------------------------------


def prog(*statements):
    return json.dumps({"id": "bad", "prog": list(statements)})


def nested(depth):
    return '{"id": "bad", "prog": ' + '[["tick", ' * depth + "[]" + "]]" * depth + "}"


def then_chain(depth):
    return '{"id": "bad", "prog": [["do", ' + '["then", ' * depth + '["res"]' + ", []]" * depth + "]]}"


# name, line of a .jsonl file, what the message must contain
MALFORMED = [
    ("a line that ends early", '{"id": "bad", "prog": [', "no JSON"),
    ("two values in a line", '{"id": "bad", "prog": []} {}', "no JSON"),
    ("a byte that is no UTF-8", b'{"id": "bad", "prog": [["log", "\xff"]]}', "no JSON"),
    ("a number", "42", "JSON object"),
    ("null", "null", "JSON object"),
    ("an array", '[["log", "a"]]', "JSON object"),
    ("no id", '{"prog": []}', '"id"'),
    ("an id that is a number", '{"id": 7, "prog": []}', '"id" is a string'),
    ("no program", '{"id": "bad"}', '"prog"'),
    ("a program that is a string", '{"id": "bad", "prog": "log"}', "array of statements"),
    ("an unknown start", '{"id": "bad", "start": "idle", "prog": []}', '"idle"'),
    ("an unknown clock", '{"id": "bad", "clock": "sand", "prog": []}', '"sand"'),
    ("a start that is an array", '{"id": "bad", "start": [], "prog": []}', '"start" is a string'),
    ("features that are no list", '{"id": "bad", "features": "tick", "prog": []}', '"features"'),
    ("an expectation that is no list", '{"id": "bad", "prog": [], "expect": "a b"}', '"expect"'),
    ("an unknown statement", prog(["log", "a"], ["tik", []]), 'prog[1]: there is no statement "tik"'),
    ("a statement that is a string", prog("log"), "prog[0]"),
    ("an empty statement", prog([]), "prog[0]"),
    ("a statement without a word", prog([1, 2]), "prog[0]"),
    ("an object as a statement", prog({"log": "a"}), "prog[0]"),
    ("log without a label", prog(["log"]), '["log", LABEL]'),
    ("tick without a block", prog(["tick"]), '["tick", BLOCK]'),
    ("tick with a word for a block", prog(["tick", "log"]), "prog[0][1]"),
    ("too many operands", prog(["tick", [], "h", "x"]), '["tick", BLOCK]'),
    ("deep inside", prog(["tick", [["imm", [["log", "a"], ["nope"]]]]]), "prog[0][1][0][1][1]"),
    ("a delay that is a string", prog(["timer", "5", []]), "ms is a number"),
    ("a delay out of range", '{"id": "bad", "prog": [["timer", 1e999, []]]}', "1e999"),
    ("a timer without a block", prog(["timer", 5]), '["timer", ms, BLOCK, handle?]'),
    ("a handle that is no name", prog(["imm", [], "1st"]), "a name is"),
    ("a handle that is a number", prog(["clear", 3]), "name of a handle"),
    ("an interval without a handle", prog(["every", 5, 2, []]), '["every", ms, times, BLOCK, handle]'),
    ("spinning backwards", prog(["spin", -1]), "spin"),
    ("await in a callback", prog(["tick", [["await", ["res"]]]]), '"await"'),
    ("throw in the program", prog(["throw", "e"]), '"throw"'),
    ("ret in a then handler", prog(["do", ["call", [["await", ["then", ["res"], [["ret"]]]]]]]), '"ret"'),
    ("try alone", prog(["do", ["call", [["try", []]]]]), '"try"'),
    ("try with neither", prog(["do", ["call", [["try", [], None, None]]]]), '"try"'),
    ("an unknown expression", prog(["do", ["promise"]]), 'there is no expression "promise"'),
    ("an expression that is a string", prog(["do", "res"]), "prog[0][1]"),
    ("via nothing", prog(["do", ["via"]]), '["via"'),
    ("via an unknown queue", prog(["do", ["via", "idle"]]), '"idle"'),
    ("via timer without a delay", prog(["do", ["via", "timer"]]), '["via", "timer", ms]'),
    ("via tick with a delay", prog(["do", ["via", "tick", 5]]), "third element"),
    ("then of a plain value", prog(["do", ["then", ["val"], []]]), "plain value"),
    ("then without a handler", prog(["do", ["then", ["res"]]]), '["then", P, BLOCK]'),
    ("all of one promise", prog(["do", ["all", ["res"]]]), "expression is an array"),
    ("all of no list", prog(["do", ["all", "res"]]), "array of expressions"),
    ("resolving what nothing makes", prog(["resolve", "d"]), '"d"'),
    ("rejecting what only let makes", prog(["let", "d", ["res"]], ["reject", "d", "e"]), '"d"'),
    ("a promise that nothing makes", prog(["do", ["p", "q"]]), '"q"'),
    ("nesting without end", nested(50_000), "nested"),
    ("a chain without end", then_chain(50_000), "nested"),
    # These are found when they run.
    ("resolving too early", prog(["resolve", "d"], ["new", "d"]), "d is not made yet"),
    ("then of what is no promise yet", prog(["do", ["then", ["p", "d"], []]], ["new", "d"]),
     "nothing catches"),
    ("an interval that is never cleared", prog(["every", 1, 1e12, [], "h"]), "not come to an end"),
    ("two intervals that keep each other going",
     prog(["every", 1, 2, [["log", "v"]], "h"], ["every", 1, 1e300, [], "h"]), "not come to an end"),
]


def malformed(replay, scratch):
    good = json.dumps({"id": "good", "prog": [["log", "a"]]}).encode()
    for number, (name, line, needle) in enumerate(MALFORMED):
        file = scratch / f"bad{number}.jsonl"
        line = line if isinstance(line, bytes) else line.encode()
        file.write_bytes(good + b"\n" + line + b"\n" + good + b"\n")
        try:
            got = run(replay, "--json", file, timeout=30)
        except subprocess.TimeoutExpired:
            check(f"malformed: {name}", False, "it hangs")
            continue
        first = got.stderr.splitlines()[0] if got.stderr else ""
        fine = (got.returncode == 2 and f"{file}:2" in first and needle in first and len(first) < 1000 and
                got.stdout == '{"id": "good", "labels": ["a"]}\n' * 2)
        check(f"malformed: {name}", fine, f"exit code {got.returncode}, {got.stderr[:600]!r}, {got.stdout!r}")

    def alone(name, file, needle, content=None):
        if content is not None:
            file.write_bytes(content)
        got = run(replay, "--json", file, timeout=30)
        check(f"malformed: {name}", got.returncode == 2 and not got.stdout and str(file) in got.stderr and
              needle in got.stderr, f"exit code {got.returncode}, {got.stderr[:600]!r}")

    alone("a file that is not there", scratch / "none.jsonl", "No such file")
    alone("a directory", scratch, "directory")
    alone("an empty .jsonl", scratch / "empty.jsonl", "no scenario", b"")
    alone("an empty .json", scratch / "empty.json", "no scenario", b" \n")
    alone("an empty array", scratch / "array0.json", "no scenario", b"[]")
    alone("an error in a .json, with its line", scratch / "line.json", "line.json:3:",
          b'{\n "id": "a",\n "prog" [],\n}')
    alone("zeros", scratch / "zeros.json", "no JSON", b"\0" * 4096)
    alone("one bad scenario of an array", scratch / "array1.json", '[1]: "b"',
          b'[5, {"id": "b", "prog": [["x"]]}]')


# --- against Node ---------------------------------------------------------------------------------


def node_20():
    node = shutil.which("node")
    if not node:
        return None, "there is no node here"
    version = run(node, "--version").stdout.strip()
    if not version.startswith("v20."):
        return None, f"this is Node {version}; expectations are Node 20's"
    return node, version


def labels_of(output):
    return {r["id"]: r["labels"] for r in map(json.loads, output.splitlines())}


class Node:
    def __init__(self, node, folder, scratch):
        self.node, self.folder, self.scratch = node, folder, scratch
        self.clock = scratch / "vclock.so"
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang-19")
        built = compiler and run(compiler, "-O2", "-shared", "-fPIC", "-o", self.clock,
                                 folder / "vclock.c", "-ldl")
        self.ready = bool(built) and built.returncode == 0

    def generate(self, *arguments):
        file = self.scratch / "random.jsonl"
        file.write_text(run(self.node, self.folder / "generate.js", *arguments).stdout)
        return file

    def play(self, file, *arguments):
        env = dict(os.environ, LD_PRELOAD=str(self.clock))
        got = run(self.node, "--no-deprecation", "--no-warnings", self.folder / "scenario-node.js", file,
                  *arguments, env=env, timeout=600)
        return labels_of(got.stdout)

    def model(self, which, file):
        got = run(self.node, "--expose-internals", "--no-deprecation", "--no-warnings",
                  self.folder / "model.js", which, file, timeout=600)
        return labels_of(got.stdout)


def differential(replay, node, count):
    """Random scenarios: rondo does what Node does, but for how Node keeps its timers.

    Node has one list per duration and one libuv timer for all of them, which shows when a loop was
    blocked. Such a difference counts as explained only if a model with Node's lists gives Node's order
    and the same model with the documented rule gives rondo's.
    """
    parts = 10
    profiles = [(), (), (), (), ("core",), ("loop",), ("async",), ("full",), ("ladder",), ("handles",)]
    for seed, profile in enumerate(profiles, 101):
        each = str(max(1, count // parts))
        more = ("--profile", *profile) if profile else ()
        name = f"{each} random scenarios, seed {seed}, profile {profile[0] if profile else 'mixed'}"
        file = node.generate("--seed", str(seed), "--count", each, "--clock", "virtual", *more)
        theirs = node.play(file, "--batch")
        got = run(replay, "--json", file, timeout=600)
        ours = labels_of(got.stdout)
        differing = [s for s in scenarios_in(file) if ours.get(s["id"]) != theirs.get(s["id"])]
        unexplained = []
        if differing:
            subset = write_lines(node.scratch / "differing.jsonl", differing)
            as_node, by_rule = node.model("node", subset), node.model("rules", subset)
            for s in differing:
                i = s["id"]
                alone = lambda: node.play(write_lines(node.scratch / "one.jsonl", [s]), "--batch").get(i)
                if ours.get(i) != by_rule[i] or (theirs.get(i) != as_node[i] and
                                                 alone() not in (as_node[i], ours[i])):
                    unexplained.append(f"{i}\n  node  {theirs.get(i)}\n  rondo {ours.get(i)}\n"
                                       f"  {json.dumps(s)}")
        fine = got.returncode == 0 and not unexplained and len(ours) == int(each) == len(theirs)
        name += f" ({len(differing)} show Node's timer lists)" if differing else ""
        check(name, fine, got.stderr[:500] + "\n".join(unexplained[:5]))


def real_random(replay, node):
    """A few on the real clock; the timers of those are at least 12 ms apart."""
    file = node.generate("--seed", "7", "--count", "60", "--clock", "real")
    theirs = node.play(file, "--batch", "--vclock")
    for backend in "epoll", "uring":
        name = f"60 random scenarios on {backend}, in real time"
        got = run(replay, "--json", "--backend", backend, file)
        if got.returncode == 2 and "is not to be had" in got.stderr:
            say("skipped", name, got.stderr.strip().splitlines()[0])
            continue
        ours = labels_of(got.stdout)
        bad = [i for i in theirs if ours.get(i) != theirs[i]]
        if bad:  # a busy machine can be late: what differs gets a second chance, alone
            again = write_lines(node.scratch / "again.jsonl",
                                [s for s in scenarios_in(file) if s["id"] in bad])
            ours.update(labels_of(run(replay, "--json", "--backend", backend, again).stdout))
            bad = [i for i in bad if ours.get(i) != theirs[i]]
        check(name, not bad, "".join(f"\n  {i}\n  node  {theirs[i]}\n  rondo {ours.get(i)}" for i in bad[:5]))


def descriptors(replay, scratch):
    """2,000 descriptors in one process that may have 64 at a time."""
    chain = [["log", "x"]]
    for _ in range(10):
        chain = [["io", chain], ["io", []]]
    file = write_lines(scratch / "many.jsonl",
                       [{"id": str(n), "start": "check", "prog": chain} for n in range(100)])
    for backend in "sim", "epoll", "uring":
        limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        got = run(replay, "--json", "--backend", backend, file, preexec_fn=limit)
        if got.returncode == 2 and "is not to be had" in got.stderr:
            say("skipped", f"descriptors stay bounded on {backend}", got.stderr.strip().splitlines()[0])
        else:
            check(f"descriptors stay bounded on {backend}",
                  got.returncode == 0 and got.stdout.count('"labels": ["x"]') == 100, got.stderr[:500])


def main():
    positional = [a for a in sys.argv[1:] if not a.startswith("--")]
    count = 20_000
    if "--count" in sys.argv:
        count = int(positional.pop())
    replay, root = Path(positional[0]).resolve(), Path(positional[1]).resolve()
    folder = root / "samples" / "scenarios"
    node, version = node_20()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        bundled(replay, folder, scratch)
        command_line(replay, scratch, node)
        malformed(replay, scratch)
        descriptors(replay, scratch)
        runner = Node(node, folder / "node", scratch) if node else None
        if runner and runner.ready:
            differential(replay, runner, count)
            real_random(replay, runner)
        else:
            say("skipped", "random scenarios against Node 20",
                version if not node else "there is no C compiler here")
    line = f"{counts['passed']} passed, {counts['failed']} failed"
    if counts["skipped"]:
        line += f", {counts['skipped']} skipped"
    print(line)
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
