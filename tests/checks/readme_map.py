"""Every path that README.md or a page of docs names must exist.

    readme_map.py ROOT

A path is a word that begins with one of the tree's folders, or the target of a relative link.
`*` and {a,b} stand for what they stand for in a shell; something must match.
"""

import itertools
import re
import sys
from pathlib import Path

import snippets

FOLDERS = ("include", "lib", "tests", "samples", "bench", "docs", "subprojects", r"\.ci")
WORD = re.compile(r"(?<![\w/.<-])((?:\./)?(?:" + "|".join(FOLDERS) + r")/[\w./*{},-]*)")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def alternatives(path):
    """a/{b,c}.hpp -> a/b.hpp, a/c.hpp"""
    parts = re.split(r"\{([^}]*)\}", path)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def exists(root, path):
    path = path.removeprefix("./").rstrip("/")
    return any(root.glob(path)) if "*" in path else (root / path).exists()


def main():
    root = Path(sys.argv[1])
    readme = root / "README.md"
    if not readme.exists():
        print("there is no README.md")
        return 77
    count = missing = 0
    for page in snippets.documents(root):
        for number, line in enumerate(page.read_text().splitlines(), 1):
            wanted = [(root, word.rstrip(".,")) for word in WORD.findall(line)]
            wanted += [(page.parent, link) for link in LINK.findall(line) if ":" not in link]
            for base, path in wanted:
                for one in alternatives(path):
                    count += 1
                    if not exists(base, one):
                        missing += 1
                        print(f"{page.relative_to(root)}:{number}: {one} does not exist")
    if not any(WORD.search(line) for line in readme.read_text().splitlines()):
        print("README.md names no path at all: where is its map?")
        missing += 1
    print(f"{count} paths, {missing} missing")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
