"""Compares every C++ file with what clang-format makes of it; the layout is its decision, not a reader's. Comments it
leaves alone, but no line exceeds its width either.

    layout.py ROOT [CLANG_FORMAT [--write]]

With --write it formats the files instead. Another version of clang-format decides differently, hence it is named.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

FOLDERS = ["include", "lib", "tests", "samples", "bench"]


def main(root, formatter="clang-format-19", *mode):
    root = Path(root)
    files = sorted(file for folder in FOLDERS for kind in ("*.hpp", "*.cpp") for file in (root / folder).rglob(kind))
    if shutil.which(formatter) is None:
        print(f"there is no {formatter}")
        return 77
    act = ["-i"] if mode == ("--write",) else ["--dry-run", "--Werror"]
    failed = subprocess.run([formatter, "--style=file", *act, *files]).returncode != 0
    width = int(re.search(r"ColumnLimit: (\d+)", (root / ".clang-format").read_text()).group(1))
    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if len(line) > width:
                print(f"{file.relative_to(root)}:{number}: {len(line)} columns")
                failed = True
    print(f"{len(files)} files of {width} columns")
    return failed or not files


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
