"""The lists of docs/walks.md must be what the code does: each line names a file and a function that it defines, whose
body mentions the functions that are indented under it.

    walks.py ROOT | --self-test

A line is "- `file: function`", then perhaps " (via `NAME`)", then what happens there. With `via` it is NAME that the
line above mentions. A line that is not indented begins a list, or goes on with what the lines before it have left in
NAME: one of them mentions it, and so does the function itself.
"""

import re
import sys
from pathlib import Path

PAGE = "docs/walks.md"
LINE = re.compile(r"( *)- `([\w./]+): ([\w:]+)`(?: \(via `([\w:]+)`\))?(?:: .*)?")
NO_CODE = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|(?<!\w)'(?:\\.|[^'\\\n])'", re.S)
# What may stand between the parameters of a function and its body.
BEFORE_BODY = re.compile(r"(?:\s|const|override|final|noexcept|->|[\w:<>&*])*")


def closing(text, at):
    """Behind the bracket that closes the one at `at`."""
    other = {"(": ")", "{": "}"}[text[at]]
    depth = 0
    for match in re.compile(rf"[{text[at]}{other}]").finditer(text, at):
        depth += 1 if match.group() == text[at] else -1
        if depth == 0:
            return match.end()
    return len(text)


def body_behind(text, at):
    """The body of the function whose parameters begin at `at`, or None if none is defined here."""
    at = closing(text, at)
    while True:
        at = BEFORE_BODY.match(text, at).end()
        if text.startswith("{", at):
            return text[at : closing(text, at)]
        if not text.startswith("(", at) or not text[:at].endswith("noexcept"):
            return None
        at = closing(text, at)


def bodies(text, function):
    """Of all functions, and tables of functions, of that name."""
    *owner, name = function.split("::")
    classes = []
    if owner:
        for match in re.finditer(rf"\b(?:class|struct) (?:RONDO_API )?{owner[-1]}\b[^;{{(]*\{{", text):
            classes.append((match.end() - 1, closing(text, match.end() - 1)))
    for match in re.finditer(rf"([\w:]+::)?\b{name}\s*(\(|(?:= )?\{{)", text):
        said = (match.group(1) or "").removesuffix("::").split("::")[-1]
        inside = any(begin < match.start() < end for begin, end in classes)
        if owner and said != owner[-1] and not inside:
            continue
        at = match.end() - 1
        body = body_behind(text, at) if text[at] == "(" else text[at : closing(text, at)]
        if body is not None:
            yield body


def mentions(body, name):
    return re.search(rf"\b{name}\b", body) is not None


def problems_of(page, read):
    """`read` gives the text of a file, or None."""
    above = []  # the lines that may call the next one: [(indentation, its words, its bodies)]
    earlier = []  # all lines of this list
    for number, text in enumerate(page.splitlines(), 1):
        if not re.match(r" *- ", text):
            if text.strip():
                above, earlier = [], []
            continue
        match = LINE.fullmatch(text)
        if not match:
            yield f"{number}: is no line of a walk: {text.strip()}"
            continue
        indent, file, function, via = len(match.group(1)), match.group(2), match.group(3), match.group(4)
        code = read(file)
        if code is None:
            yield f"{number}: {file} does not exist"
            continue
        found = list(bodies(NO_CODE.sub(" ", code), function))
        if not found:
            yield f"{number}: {file} does not define {function}"
            continue
        while above and above[-1][0] >= indent:
            above.pop()
        wanted = via or function.split("::")[-1]
        if above:
            if not any(mentions(body, wanted) for body in above[-1][2]):
                yield f"{number}: {above[-1][1]} does not mention {wanted}"
        elif earlier:
            if via is None:
                yield f"{number}: how does one get to {function}? Indent it, or say `via`"
            elif not any(mentions(body, via) for _, _, some in earlier for body in some):
                yield f"{number}: no line above mentions {via}"
            elif not any(mentions(body, via) for body in found):
                yield f"{number}: {function} does not mention {via}"
        above.append((indent, function, found))
        earlier.append(above[-1])
    if not LINE.search(page):
        yield "0: there is no walk"


def self_test():
    files = {
        "a.cpp": "void one::go(int) noexcept {\n    next(1);  // not far(), go()\n    queue_.push(2);\n}\nvoid far();\n",
        "a.hpp": "class RONDO_API two : base {\n    bool next(int i) const noexcept(noexcept(i)) { return table.call(i); }\n};\n",
        "b.cpp": "const table t = {\n    [](int) { deep(); },\n};\nauto deep() -> int { return queue_.pop(); }\nvoid last() { if (go(1)) { queue_; } }\n",
    }
    good = [
        "Some words.",
        "",
        "- `a.cpp: one::go`: begins",
        "  - `a.hpp: two::next`: is called",
        "    - `b.cpp: t` (via `call`): by a table",
        "      - `b.cpp: deep`",
        "- `b.cpp: last` (via `queue_`): takes it",
    ]

    def problems(lines):
        return list(problems_of("\n".join(lines), files.get))

    assert problems(good) == [], problems(good)
    bad = {
        2: ["- `c.cpp: one::go`", "- `a.cpp: two::go`", "- `a.cpp: far`", "- `b.cpp: go`", "- a.cpp: one::go"],
        3: ["  - `a.hpp: one::next`", "  - `b.cpp: deep`", "  - `a.hpp: two::next` (via `far`)"],
        4: ["    - `b.cpp: t`", "  - `b.cpp: t` (via `call`)"],
        6: ["- `b.cpp: last`", "- `b.cpp: last` (via `push`)", "- `b.cpp: last` (via `go`)"],
    }
    for at, lines in bad.items():
        for line in lines:
            assert problems([*good[:at], line, *good[at + 1 :]]), line
    assert problems(["Nothing."])
    print(f"{sum(map(len, bad.values())) + 2} pages were judged rightly")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = Path(sys.argv[1])
    page = (root / PAGE).read_text()

    def read(file):
        path = root / file
        return path.read_text() if path.is_file() else None

    found = list(problems_of(page, read))
    for problem in found:
        print(f"{PAGE}:{problem}")
    lines = sum(1 for line in page.splitlines() if LINE.fullmatch(line))
    print(f"{lines} steps, {len(found)} wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
