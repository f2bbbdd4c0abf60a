"""The ```cpp blocks of Markdown files; shared by the checks that read documentation."""

import re
from pathlib import Path


def documents(root):
    found = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]
    return [path for path in found if path.exists()]


def blocks(path):
    """Yields (first line number, text) of each block, but not of those marked `cpp ignore`."""
    inside, wanted, start, lines = False, False, 0, []
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        fence = re.match(r"\s*```\s*(.*?)\s*$", line)
        if not fence:
            lines.append(line)
        elif inside:
            if wanted:
                yield start, "\n".join(lines) + "\n"
            inside = False
        else:
            words = fence.group(1).split()
            inside, start, lines = True, number + 1, []
            wanted = words[:1] == ["cpp"] and "ignore" not in words


COMPILED = "rondo, compiled"


def cells(path):
    """Yields (line number of the last block, its text, [(line number, code)]) of each table whose last column
    is headed COMPILED: the code in that column."""
    block, inside, table = (0, ""), None, None
    for number, line in enumerate([*Path(path).read_text().splitlines(), ""], 1):
        if line.strip().startswith("```"):
            if inside is None:
                inside = (number + 1, [])
            else:
                block, inside = (inside[0], "\n".join(inside[1]) + "\n"), None
        elif inside is not None:
            inside[1].append(line)
        elif not line.startswith("|"):
            if table:
                yield *block, table
            table = None
        else:
            last = line.strip().strip("|").split("|")[-1].strip()
            if last == COMPILED:
                table = []
            elif table is not None and last.startswith("`"):
                table.append((number, last.strip("`")))
