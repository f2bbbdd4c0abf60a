"""A seed must be the same run whatever compiled it: g++ -O0, g++ -O2, clang++ -O2 print the same hashes.

    same_runs.py tests/checks/sim_runs.cpp ROOT [--seeds N] [--built PROGRAM] [COMPILER OPTION]...
    same_runs.py --environments PROGRAM [--seeds N]

Builds what a simulation needs once for each pair; by default those three, as far as they are installed.
PROGRAM is what "g++ -O2" would give, if it exists already. The second form compares one program in several
environments: limits, variables, working directory, signals, and where its memory lies.
"""

import concurrent.futures
import os
import resource
import shutil
import signal
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
    library = [source for source in sorted((root / "lib").rglob("*.cpp")) if source.parent.name != "uring"]
    sources = [program, page_of(root, folder), *library]

    def compile_one(source):
        name = source.relative_to(root / "lib").with_suffix(".o") if source in library else Path(source.stem + ".o")
        object_file = folder / "-".join(name.parts)
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


def limited(kind, most):
    """Lowers a limit of the child; a higher one than there is is left."""

    def lower():
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))

    return lower


def ignoring_signals():
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)


# What must make no difference: a name, a command in front, variables, and options of subprocess.run.
ENVIRONMENTS = [
    ("16 descriptors", [], {}, {"preexec_fn": limited(resource.RLIMIT_NOFILE, 16)}),
    ("all descriptors", [], {}, {"preexec_fn": limited(resource.RLIMIT_NOFILE, 1 << 20)}),
    ("no locked memory", [], {}, {"preexec_fn": limited(resource.RLIMIT_MEMLOCK, 0)}),
    ("fixed addresses", ["setarch", "-R"], {}, {}),
    ("signals ignored", [], {}, {"preexec_fn": ignoring_signals}),
    ("with checks", [], {"RONDO_DEBUG": "1"}, {}),
    ("every frame from malloc", [], {"RONDO_FRAME_POOL": "0"}, {}),
    ("fresh memory filled", [], {"MALLOC_PERTURB_": "165", "MALLOC_ARENA_MAX": "1"}, {}),
    ("another backend", [], {"RONDO_BACKEND": "epoll"}, {}),
    ("many variables", [], {f"V{i}": "x" * 100 for i in range(500)}, {}),
    ("another place and language", [], {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "HOME": "/nowhere"}, {"cwd": "/"}),
    ("no input", [], {}, {"stdin": subprocess.DEVNULL}),
]


def compare_environments(program, seeds):
    program = Path(program).resolve()

    def run(front, variables, options):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RONDO_")}
        done = subprocess.run(
            [*front, program, seeds], capture_output=True, text=True, env=kept | variables, timeout=600, **options
        )
        return done.stdout.splitlines() + [line for line in [done.stderr.strip()] if done.returncode != 0]

    usual = run([], {}, {})
    if len(usual) < 2 * int(seeds) + 1:
        print("\n".join(["the program failed:", *usual]))
        return 1
    problems = 0
    left_out = []
    for name, front, variables, options in ENVIRONMENTS:
        if front and subprocess.run([*front, "true"], capture_output=True, check=False).returncode != 0:
            left_out.append(name)
            continue
        seen = run(front, variables, options)
        if seen == usual:
            continue
        problems += 1
        line = next((i for i, pair in enumerate(zip(usual, seen)) if pair[0] != pair[1]), min(len(usual), len(seen)))
        print(f"{name}: run {line} of {len(usual)} is another one: {seen[line:line + 1]}, usually {usual[line:line + 1]}")
    without = f" (without: {', '.join(left_out)})" if left_out else ""
    print(f"{len(usual)} runs in {len(ENVIRONMENTS) - len(left_out)} environments{without}, {problems} differences")
    return 1 if problems else 0


def main():
    if sys.argv[1] == "--environments":
        return compare_environments(sys.argv[2], sys.argv[4] if sys.argv[3:4] == ["--seeds"] else "5")
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
