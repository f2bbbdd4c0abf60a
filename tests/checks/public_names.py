"""Every public name of include/rondo has a word of documentation: a comment at its declaration, or a mention in a
comment of a public header, or as code in a page of docs or in README.md.

    public_names.py ROOT | --self-test

Public are the types, functions, constants and concepts of namespace rondo, and the public members and enumerators of
these, in headers outside of `detail`. `try_x()` is what `x()` is, as docs/errors.md says. Left out are namespaces `detail`, constructors, destructors and operators; what
overrides a function, which is explained where it is declared first; types of waits, `..._awaiter`, of which the function
that gives one tells; and what follows a comment that says for whom it is: "What with_task_group uses.", "This is for the
rooms above."
"""

import re
import sys
from pathlib import Path

from coroutine_lint import OPEN, TOKEN, Code

# Names that the language or the standard library asks for.
EXCEPTIONS = {"promise_type", "await_ready", "await_suspend", "rep", "period", "is_steady"}
INTERNAL = re.compile(r"//.*\b([Ww]hat [\w:,' ]+ uses?\b|[Ff]or the rooms above|[Ff]or supervisors)")
TYPES = {"struct", "class", "union", "enum"}


def comments_of(text):
    """{line: text} of the comments; and of those, the lines on which nothing else stands."""
    found, alone = {}, set()
    line, position = 1, 0
    for match in TOKEN.finditer(text):
        line += text.count("\n", position, match.start())
        position = match.start()
        if match.group("comment"):
            before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
            for i, part in enumerate(match.group().splitlines()):
                found[line + i] = part
                if i > 0 or not before.strip():
                    alone.add(line + i)
    return found, alone


class Header:
    """The public names that a header declares, and its comments."""

    def __init__(self, text):
        self.comments, self.alone = comments_of(text)
        self.code = Code(text)
        self.names = []  # (name with its class, first line, last line)
        self.scope(0, len(self.code.words), "", [])

    def documented(self, first, last):
        return first - 1 in self.alone or any(line in self.comments for line in range(first, last + 1))
    def scope(self, at, end, owner, access):
        """Declarations between two tokens, of a namespace or of the class `owner`."""
        code = self.code
        public = not owner or access[0] != "class"
        start = at
        i = at
        while i < end:
            word = code.word(i)
            if word in ("public", "private", "protected") and code.word(i + 1) == ":":
                public = word == "public"
                i = start = i + 2
                continue
            if word in "([" and i in code.match:
                i = code.match[i] + 1
                continue
            if word == "<" and code.word(i - 1) == "template":
                i = self.past_angles(i)
                continue
            if word == "{" and i in code.match:
                close = code.match[i]
                head = code.words[start:i]
                if "namespace" in head:
                    if "detail" not in head and head[-1] != "namespace":
                        self.scope(i + 1, close, "", [])
                    i = start = close + 1
                    continue
                bare = without_templates(head)
                if TYPES & set(bare) and "(" not in bare:
                    if public:
                        self.type(start, i, close, bare, owner)
                    i = close + 1
                    if code.word(i) == ";":
                        i += 1
                    start = i
                    continue
                if public:
                    self.declared(start, i, owner)
                i = close + 1
                if "(" in head or code.word(i) != ";":
                    if code.word(i) == ";":
                        i += 1
                    start = i
                    continue
                start = i = i + 1
                continue
            if word == ";":
                if public:
                    self.declared(start, i, owner)
                start = i + 1
            i += 1

    def past_angles(self, i):
        depth = 0
        while i < len(self.code.words):
            depth += {"<": 1, ">": -1}.get(self.code.word(i), 0)
            i += 1
            if depth == 0:
                return i
            if self.code.word(i) in "([" and i in self.code.match:
                i = self.code.match[i]
        return i

    def type(self, start, brace, close, head, owner):
        code = self.code
        kind = next(word for word in head if word in TYPES)
        named = head[head.index(kind) + 1 :]
        while named[:1] and (named[0] in ("class", "RONDO_API", "[", "]") or named[0] == "__attribute__"):
            named = named[1:]
        names = [word for word in named_part(named) if word.isidentifier()]
        if not names:
            return self.scope(brace + 1, close, owner, ["struct"])  # an anonymous union
        name = names[-1]
        if "friend" in head or name.startswith("_"):
            return None
        full = f"{owner}::{name}" if owner else "::".join(names)
        if "detail" not in names:
            self.add(full, start, brace)
        if kind == "enum":
            i = first = brace + 1
            while i < close:
                if code.word(i) in OPEN and i in code.match:
                    i = code.match[i]
                if code.word(i) == "," or i == close - 1:
                    if code.word(first).isidentifier():
                        self.add(f"{full}::{code.word(first)}", first, first)
                    first = i + 1
                i += 1
            return None
        return self.scope(brace + 1, close, full, [kind])

    def declared(self, start, end, owner):
        """A declaration that is no type with a body."""
        head = without_templates(self.code.words[start:end])
        if not head or {"override", "friend", "namespace", "static_assert", "operator", "extern", "asm"} & set(head):
            return
        if head[0] in TYPES or head[0] == "using" and "=" not in head or "deduction" in head:
            return
        if head[0] == "using":
            name = head[1]
        elif "concept" in head:
            name = head[head.index("concept") + 1]
        else:
            name = name_of(head)
        last = owner.split("::")[-1]
        if not name or name == last or "::" in name or not re.fullmatch(r"[a-z]\w*", name):
            return
        self.add(f"{owner}::{name}" if owner else name, start, end)

    def add(self, name, start, end):
        lines = self.code.lines
        self.names.append((name, lines[start], lines[min(end, len(lines) - 1)]))


def without_templates(words):
    """A declaration without its attributes, template<...> and requires clauses in front."""
    i, out = 0, []
    while i < len(words):
        if words[i] == "template" and words[i + 1 : i + 2] == ["<"]:
            depth = 0
            i += 1
            while i < len(words):
                depth += {"<": 1, ">": -1}.get(words[i], 0)
                i += 1
                if depth == 0:
                    break
            continue
        if words[i] == "[" and words[i + 1 : i + 2] == ["["]:
            depth = 0
            while i < len(words):
                depth += {"[": 1, "]": -1}.get(words[i], 0)
                i += 1
                if depth == 0:
                    break
            continue
        out.append(words[i])
        i += 1
    return out


def named_part(words):
    """The name of a type: up to its bases or template arguments."""
    out = []
    for word in words:
        if word in (":", "<", "final"):
            break
        out.append(word)
    return out


def name_of(head):
    """What a declaration of a function or variable declares."""
    depth = 0
    for i, word in enumerate(head):
        depth += {"<": 1, ">": -1}.get(word, 0)
        if word == "(" and i > 0 and head[i - 1] in ("__attribute__", "requires", "noexcept", "explicit", "decltype"):
            continue
        if depth <= 0 and word in ("(", "=", "[") and i > 0 and head[i - 1].isidentifier():
            return "" if i > 1 and head[i - 2] in ("~", "::") else head[i - 1]
    return head[-1] if head[-1].isidentifier() else ""


def words_in(text):
    return set(re.findall(r"[A-Za-z_]\w*", text))


def code_words(page):
    """The words of a page that stand in backticks or in a block."""
    found, inside = set(), False
    for line in page.splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
        elif inside:
            found |= words_in(line)
        else:
            for piece in re.findall(r"`([^`]*)`", line):
                found |= words_in(piece)
    return found


def undocumented(headers, pages):
    """headers: {path: text}. Yields (path, line, name)."""
    read = {path: Header(text) for path, text in headers.items()}
    mentioned = set()
    for header in read.values():
        for line, text in header.comments.items():
            mentioned |= words_in(text)
    for page in pages:
        mentioned |= code_words(page)
    documented = {
        name
        for header in read.values()
        for name, first, last in header.names
        if header.documented(first, last)
    }
    everything = {name for header in read.values() for name, _, _ in header.names}
    for path, header in read.items():
        internal = [line for line, text in header.comments.items() if line in header.alone and INTERNAL.search(text)]
        seen = set()
        for name, first, last in header.names:
            short = name.split("::")[-1]
            if name in documented or name in seen or short in mentioned or short in EXCEPTIONS:
                continue
            if short.startswith("try_") and name.replace("::try_", "::") in everything - {name}:
                continue
            if short.endswith("awaiter") or any(line < first < header_end(header, line) for line in internal):
                continue
            seen.add(name)
            yield path, first, name


def header_end(header, line):
    """Where the section that begins with the comment on this line ends: at the next access specifier."""
    code = header.code
    for i, word in enumerate(code.words):
        if code.lines[i] > line and word in ("public", "private", "protected") and code.word(i + 1) == ":":
            return code.lines[i]
    return 1 << 30


def self_test():
    def found(text, *pages):
        return [name for _, _, name in undocumented({"a.hpp": text}, pages)]

    assert found("namespace rondo { struct a { int b; void c(); }; }") == ["a", "a::b", "a::c"]
    assert found("namespace rondo {\n/// It.\nstruct a {\n    int b;  // that\n    void c();\n};\n}") == ["a::c"]
    assert found("namespace rondo {\nvoid f(int x, g y);\n}", "text f") == ["f"]
    assert found("namespace rondo {\nvoid f(int x);\n}", "text `f()`") == []
    assert found("namespace rondo {\nvoid f(int x);\n}", "```cpp\nf(1);\n```") == []
    assert found("namespace rondo { namespace detail { void f(); } enum class e { x, y = 2 }; }") == ["e", "e::x", "e::y"]
    assert found("namespace rondo {\nclass a {\n    int b;\n public:\n    a();\n    ~a();\n    int c = 0;\n private:\n void d();\n};}") \
        == ["a", "a::c"]
    assert found("namespace rondo {\ntemplate <class T>\n    requires x<T>\nauto f(T&& t) -> int;\nusing u = int;\n"
                 "template <class T>\nconcept k = true;\ninline constexpr int n = 1;\n}") == ["f", "u", "k", "n"]
    assert found("namespace rondo {\nclass a {\n public:\n    // What b uses.\n    void c();\n private:\n    int d;\n};\n}") == ["a"]
    assert found("namespace rondo {\n/// One.\nvoid f();\nvoid f(int);\n}") == []
    assert found("namespace rondo {\n/// It.\nstruct a {\n    /// Does.\n    void f();\n    int try_f();\n    int try_g();\n};\n}") \
        == ["a::try_g"]
    print("the names of small headers are found")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = Path(sys.argv[1])
    include = root / "include" / "rondo"
    headers = {
        path.relative_to(root): path.read_text()
        for path in sorted(include.rglob("*.hpp"))
        if "detail" not in path.relative_to(include).parts
    }
    pages = [page.read_text() for page in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]]
    count = 0
    for path, line, name in undocumented(headers, pages):
        print(f"{path}:{line}: nothing says what {name} is")
        count += 1
    names = sum(len(Header(text).names) for text in headers.values())
    print(f"{names} public names, {count} without a word")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
