"""The ```cpp blocks of Markdown files; shared by the checks that read documentation."""

from pathlib import Path

from coroutine_lint import blocks  # noqa: F401  (they are read there, because that file is installed alone)


def documents(root):
    found = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]
    return [path for path in found if path.exists()]


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
