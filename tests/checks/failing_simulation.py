"""A simulated test that fails says how to have the failing run again, and that works.

    failing_simulation.py PROGRAM
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path


# What doctest, GoogleTest and Catch2 say.
FAILED_CHECKS = ["CHECK( drawn != 5 ) is NOT correct!", "Value of: drawn != 5", "FAILED:\n  CHECK( drawn != 5 )"]


def run(program, folder, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RONDO_SIM_")}
    done = subprocess.run(
        [program], cwd=folder, env=environment | variables, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stderr + done.stdout


def checks_failed(text):
    return sum(text.count(said) for said in FAILED_CHECKS)


def message_of(text):
    """What the simulation says: from its name to the commands."""
    said = re.search(r"(one in eight[^\n]* fails|OneInEight\.Fails): seed .*?again: [^\n]*", text, re.S)
    return said[0] if said else ""


def main():
    program = os.path.abspath(sys.argv[1])
    problems = []

    def expect(what, condition, text):
        if not condition:
            problems.append(f"{what}:\n{text}")

    with tempfile.TemporaryDirectory() as folder:
        code, text = run(program, folder, RONDO_SIM_TRACE_DIR=folder)
        expect("it fails", code != 0, text)
        expect("it ends with the first failing run", checks_failed(text) == 1, text)
        seed = re.search(r"RONDO_SIM_SEED=(0x[0-9a-f]+) (.*)", text)
        file = re.search(r"RONDO_SIM_REPLAY=(\S+)", text)
        expect("it names seed, file and program", seed and file and program in seed[2], text)
        if problems:
            print("\n".join(problems))
            return 1
        expect("the file is there", Path(file[1]).exists(), text)
        look = re.search(r"look:\s+(\S+) in a browser, or (\S+) in ui.perfetto.dev", text)
        expect("it names a timeline and a Chrome trace, which are there",
               look and Path(look[1]).read_text().endswith("</html>\n") and json.loads(Path(look[2]).read_text()), text)

        code, text = run(program, folder, RONDO_SIM_SEED=seed[1])
        expect("the seed fails again, alone", code != 0 and checks_failed(text) == 1, text)
        code, text = run(program, folder, RONDO_SIM_REPLAY=file[1])
        expect("the file fails again", code != 0 and checks_failed(text) == 1, text)
        code, text = run(program, folder, RONDO_SIM_REPLAY=file[1], RONDO_SIM_SHRINK="1")
        expect("it takes one decision", "shrunk to 1 of" in text and "scenario 5 of 8" in text, text)
        expect("a check that fails in many runs is printed once", checks_failed(text) == 1, text)

        code, found = run(program, folder, RONDO_SIM_SHRINK="1", RONDO_SIM_TRACE_DIR=folder)
        expect("a shrunk run names its file, and the seed it was found with",
               f"again: RONDO_SIM_REPLAY={file[1]}" in found and f"as found: RONDO_SIM_SEED={seed[1]}" in found, found)
        code, text = run(program, folder, RONDO_SIM_REPLAY=file[1], RONDO_SIM_TRACE_DIR=folder)
        expect("its replay says the same", message_of(text) == message_of(found) != "", found + text)
        expect("its replay fails one check", checks_failed(text) == 1, text)

        code, text = run(program, folder, RONDO_SIM_SEEDS="0")
        expect("no run, no failure", code == 0, text)
    print("\n".join(problems) or "a failing simulated test can be had again")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
