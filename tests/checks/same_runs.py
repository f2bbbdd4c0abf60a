"""A seed must be the same run whatever compiled it: g++ -O0, g++ -O2, clang++ -O2 print the same hashes.

    same_runs.py tests/checks/sim_runs.cpp ROOT [--seeds N] [--built PROGRAM] [COMPILER OPTION]...

Builds what a simulation needs once for each pair; by default those three, as far as they are installed.
PROGRAM is what "g++ -O2" would give, if it exists already.
"""

import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DEFAULT = [("g++", "-O0"), ("g++", "-O2"), ("clang++-19", "-O2")]


def page_of(root, folder):
    """The source that lib/meson.build makes of the timeline's page."""
    page = root / "lib" / "observe" / "page"
    parts = ["timeline.html", "base.css", "timeline.css", "base.js", "timeline.js"]
    made = folder / "timeline_page.cpp"
    subprocess.run(
        [sys.executable, page / "embed.py", made, "rondo::observed", "observe/page.hpp", *(page / part for part in parts)],
        check=True,
    )
    return made


def build(program, root, compiler, option, folder):
    sources = [program, *sorted((root / "lib").glob("*.cpp")), page_of(root, folder)]
    for part in "sim", "epoll", "observe":
        sources += sorted((root / "lib" / part).glob("*.cpp"))

    def compile_one(source):
        object_file = folder / (source.stem + ".o")
        command = [compiler, "-std=c++20", option, "-pthread", f"-I{root}/include", f"-I{root}/lib", "-c", str(source)]
        if shutil.which("ccache"):
            command.insert(0, "ccache")
        subprocess.run([*command, "-o", str(object_file)], check=True)
        return object_file

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    program = folder / "sim_runs"
    subprocess.run([compiler, "-pthread", *map(str, objects), "-o", str(program)], check=True)
    return program


def main():
    source = Path(sys.argv[1]).resolve()
    root = Path(sys.argv[2]).resolve()
    rest = sys.argv[3:]
    seeds = "100"
    if rest[:1] == ["--seeds"]:
        seeds, rest = rest[1], rest[2:]
    built = {}
    if rest[:1] == ["--built"]:
        built, rest = {("g++", "-O2"): Path(rest[1])}, rest[2:]
    pairs = list(zip(rest[::2], rest[1::2])) or [p for p in DEFAULT if shutil.which(p[0])]
    if len(pairs) < 2:
        print("there is only one build to compare")
        return 77
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RONDO_")}
    printed = {}
    for compiler, option in pairs:
        with tempfile.TemporaryDirectory() as folder:
            program = built.get((compiler, option)) or build(source, root, compiler, option, Path(folder))
            printed[compiler, option] = subprocess.run(
                [program, seeds], capture_output=True, text=True, check=True, env=environment, timeout=600
            ).stdout.splitlines()
    first = pairs[0]
    problems = 0
    for pair in pairs[1:]:
        for mine, other in zip(printed[first], printed[pair]):
            if mine != other and (problems := problems + 1) < 10:
                print(f"{' '.join(first)}: {mine}\n{' '.join(pair)}: {other}")
        problems += len(printed[first]) != len(printed[pair])
    different = len({line.split()[2] for line in printed[first]})
    if different < len(printed[first]) // 2:  # chaos need not show in every run
        print(f"only {different} of {len(printed[first])} runs differ from each other")
        problems += 1
    print(f"{len(printed[first])} runs by {len(pairs)} builds, {problems} differences")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
