"""Compiles small texts side by side; shared by the checks that only ask "does this compile?"."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

FLAGS = ["-std=c++20", "-Wall", "-Wextra", "-Wpedantic"]


def try_compile(compiler, text, flags=()):
    """Returns the compiler's complaints, empty if there are none."""
    return run([*compiler, *FLAGS, *flags, "-x", "c++", "-fsyntax-only", "-"], text)


def precompile(compiler, header, into, flags=()):
    """The same, and leaves a precompiled header."""
    return run([*compiler, *FLAGS, *flags, "-x", "c++-header", str(header), "-o", str(into)])


def run(command, text=""):
    done = subprocess.run(command, input=text, text=True, capture_output=True)
    said = done.stderr.strip()
    return said or (f"exit status {done.returncode}" if done.returncode else "")


def try_each(function, items):
    """Runs function on each item, a few at once; yields (item, result) in order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from zip(items, pool.map(function, items))
