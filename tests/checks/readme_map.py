"""Every path that README.md or a page of docs names must exist, and so must the heading behind its `#`; every
folder of include/rondo has a row in README.md and a page in docs that names each of its headers.

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
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)]*))?\)")


def alternatives(path):
    """a/{b,c}.hpp -> a/b.hpp, a/c.hpp"""
    parts = re.split(r"\{([^}]*)\}", path)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def exists(root, path):
    path = path.removeprefix("./").rstrip("/")
    return any(root.glob(path)) if "*" in path else (root / path).exists()


def anchors(page):
    """What a link may say behind its `#`: the headings, as GitHub and its kin spell them."""
    found, fenced = set(), False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and (heading := re.match(r"#+ (.*)", line)):
            text = re.sub(r"[^\w\- ]", "", heading.group(1).lower())
            found.add(text.strip().replace(" ", "-"))
    return found


def rooms(root):
    """What each folder of include/rondo lacks."""
    readme = (root / "README.md").read_text()
    for folder in sorted(path for path in (root / "include" / "rondo").iterdir() if path.is_dir()):
        name = folder.name
        if f"`include/rondo/{name}/`" not in readme:
            yield f"README.md: its map has no row for include/rondo/{name}/"
        page = root / "docs" / f"{name}.md"
        text = page.read_text() if page.exists() else ""
        if not text:
            yield f"docs/{name}.md: include/rondo/{name}/ has no page"
            continue
        for header in sorted(folder.glob("*.hpp")):
            if not re.search(rf"[`/]{header.name}[`>]", text):
                yield f"docs/{name}.md: does not name {header.name}"


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
            links = [link for link in LINK.findall(line) if ":" not in link[0]]
            wanted += [(page.parent, link) for link, _ in links if link]
            for link, anchor in links:
                target = page.parent / link if link else page
                if anchor and target.suffix == ".md" and target.exists() and anchor not in anchors(target):
                    missing += 1
                    print(f"{page.relative_to(root)}:{number}: {link}#{anchor} is no heading")
            for base, path in wanted:
                for one in alternatives(path):
                    count += 1
                    if not exists(base, one):
                        missing += 1
                        print(f"{page.relative_to(root)}:{number}: {one} does not exist")
    if not any(WORD.search(line) for line in readme.read_text().splitlines()):
        print("README.md names no path at all: where is its map?")
        missing += 1
    for problem in rooms(root):
        print(problem)
        missing += 1
    print(f"{count} paths, {missing} missing")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
