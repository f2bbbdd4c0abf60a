#!/usr/bin/env python3
"""Finds coroutine spellings that g++ 12 compiles into corrupted memory, without any warning, and types in headers for
which it warns of the coroutine that uses them.

Each PATH is a file of C++ or Markdown, or a folder, of which all such files are read; of Markdown, the ```cpp blocks.
Hidden folders, build folders and those called `subprojects` are left out.

It reads tokens, not meaning, so it refuses some spellings that would be harmless for scalar types. A line with the
comment `lint: allow` (or the line after it) is left alone. docs/compilers.md of rondo explains the rules.

Exit status: 0 if nothing was found, 1 if something was, 2 if a path does not exist or there was nothing to read.
"""

import argparse
import os
import re
import sys
from pathlib import Path

HEADERS = {".h", ".hh", ".hpp", ".hxx", ".h++", ".inl", ".ipp", ".tpp"}
SOURCES = {".cc", ".cpp", ".cxx", ".c++"}
MARKDOWN = {".md", ".markdown"}
LEFT_OUT = {"subprojects", "node_modules", "__pycache__"}

TOKEN = re.compile(
    r"""
    (?P<comment>//[^\n]*|/\*.*?\*/)
  | (?P<raw>(?:u8|[uUL])?R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)")
  | (?P<directive>^[ \t]*\#[ \t]*(?!define\b)(?:[^\n\\]|\\.)*)
  | (?P<string>(?:u8|[uUL])?"(?:[^"\\\n]|\\.)*")
  | (?P<word>[A-Za-z_]\w*)
  | (?P<number>\d(?:'?[\w.])*)
  | (?P<char>(?:u8|[uUL])?'(?:[^'\\\n]|\\.)*')
  | (?P<mark2>::|->|\[\[|\]\])
  | (?P<punct>\S)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
OPEN = {"(": ")", "[": "]", "{": "}"}
STATEMENT_WORDS = {"if", "for", "while", "do", "switch", "try", "case", "default", "namespace"}
HEADS = {"if", "while", "for", "switch"}
# Words that a member of a trivially copyable aggregate is declared with. Of others nobody knows.
PLAIN = set(
    """const volatile mutable constexpr static inline std chrono signed unsigned int long short char
    bool float double byte size_t ssize_t ptrdiff_t nanoseconds microseconds milliseconds seconds
    minutes hours string_view coroutine_handle int8_t int16_t int32_t int64_t uint8_t uint16_t
    uint32_t uint64_t""".split()
)
BASE_WORDS = {"final", "public", "std", "rondo", "detail"}
ASSERTING = re.compile(r"(CHECK|REQUIRE|WARN)(_\w+)?|RONDO_ASSERT\w*|assert")


class Code:
    """Tokens with their brackets matched and the bodies of lambdas and blocks known."""

    def __init__(self, text, first_line=1):
        self.words, self.lines, self.allowed = [], [], set()
        line = first_line
        position = 0
        for match in TOKEN.finditer(text):
            line += text.count("\n", position, match.start())
            position = match.start()
            token = match.group()
            if match.lastgroup == "comment" or match.group("comment"):
                if "lint: allow" in token:
                    self.allowed |= {line, line + 1}
            elif match.group("directive"):
                pass
            elif match.group("mark2") in ("[[", "]]"):
                # An attribute; or a subscript or lambda inside another, which reads the same.
                self.add(token[0], line)
                self.add(token[1], line)
            elif match.group("string") or match.group("raw"):
                self.add('""', line)
            else:
                self.add(token, line)
        self.match = self.brackets()
        self.bodies = self.lambda_bodies()

    def add(self, token, line):
        self.words.append(token)
        self.lines.append(line)

    def brackets(self):
        match, stack = {}, []
        for i, word in enumerate(self.words):
            if word in OPEN:
                stack.append(i)
            elif word in OPEN.values():
                # Unequal pairs come from preprocessor branches; forget what was left open.
                while stack and OPEN[self.words[stack[-1]]] != word:
                    stack.pop()
                if stack:
                    match[stack[-1]] = i
                    match[i] = stack.pop()
        return match

    def word(self, i):
        return self.words[i] if 0 <= i < len(self.words) else ""

    def starts_lambda(self, i):
        if self.word(i) != "[" or i not in self.match:
            return False
        if self.word(i + 1) == "[" or self.word(i - 1) == "[":
            return False
        before = self.word(i - 1)
        if before in ("return", "co_return", "co_await", "co_yield", "case", "else"):
            return True
        return not re.fullmatch(r"[\w\)\]\"]+", before)

    def lambda_body(self, i):
        """The opening brace of the body of the lambda at i, or None."""
        j = self.match[i] + 1
        if self.word(j) == "<":
            depth = 0
            while j < len(self.words):
                depth += {"<": 1, ">": -1}.get(self.word(j), 0)
                j += 1
                if depth == 0:
                    break
        while j < len(self.words) and self.word(j) not in ("{", ";", ")", "}"):
            j = self.match.get(j, j) + 1 if self.word(j) in "([" else j + 1
        return j if self.word(j) == "{" and j in self.match else None

    def lambda_bodies(self):
        found = (self.lambda_body(i) for i in range(len(self.words)) if self.starts_lambda(i))
        return {body for body in found if body is not None}

    def is_block(self, brace):
        """Whether a brace opens statements, rather than the values of an initialiser."""
        if brace in self.bodies or self.word(brace + 1) in STATEMENT_WORDS:
            return True
        i, end = brace + 1, self.match.get(brace, len(self.words))
        while i < end:
            if self.word(i) == ";":
                return True
            i = self.match.get(i, i) + 1 if self.word(i) in OPEN else i + 1
        return False

    def visible(self, start, end):
        """The positions in [start, end), without the bodies of lambdas."""
        i = start
        while i < end:
            if i in self.bodies:
                i = self.match[i] + 1
                continue
            yield i
            i += 1

    def awaits(self, start, end):
        return [i for i in self.visible(start, end) if self.words[i] == "co_await"]

    def parts(self, start, end):
        """[start, end) cut at its outermost semicolons."""
        cuts, i = [start], start
        while i < end:
            if self.word(i) == ";":
                cuts.append(i + 1)
            i = self.match.get(i, i) + 1 if self.word(i) in OPEN else i + 1
        return list(zip(cuts, [cut - 1 for cut in cuts[1:]] + [end]))

    def statement(self, i):
        """The bounds of the statement, or control head, around position i."""
        left = i - 1
        while left >= 0:
            word = self.word(left)
            if word == ";" or (word == "{" and self.is_block(left)):
                break
            if word in ")]}" and left in self.match:
                opener = self.match[left]
                if word == "}" and opener not in self.bodies and self.is_block(opener):
                    break
                if word == ")" and self.word(opener - 1) in HEADS | {"constexpr"}:
                    break
                left = opener
            left -= 1
        right = i + 1
        while right < len(self.words):
            word = self.word(right)
            if word == ";":
                break
            if word == "{" and right not in self.bodies and self.is_block(right):
                break
            if word == "}" and right in self.match and self.is_block(self.match[right]):
                break
            right = self.match.get(right, right) + 1 if word in OPEN else right + 1
        return left + 1, right


def aggregates(code, known=()):
    """The structs of `code`, beside those of `known`: {name: (no constructors, bits may be copied)}."""
    found = dict(known)
    for i, word in enumerate(code.words):
        name, brace = code.word(i + 1), i + 2
        if word != "struct" or not name.isidentifier():
            continue
        while code.word(brace) and code.word(brace) not in "{;()=":
            brace += 1
        if code.word(brace) == "{" and brace in code.match:
            bases = [word for word in code.words[i + 2 : brace] if word.isidentifier()]
            no_constructors, plain = members_of(code, name, brace)
            plain &= all(found.get(base, (False, False))[1] for base in bases if base not in BASE_WORDS)
            found[name] = no_constructors, plain
    return found


def members_of(code, name, brace):
    """(no constructors, bits may be copied) of the struct whose body begins at brace."""
    plain, declared, i = True, [], brace + 1
    while i < code.match[brace]:
        word = code.word(i)
        if word in ("private", "protected", "virtual"):
            return False, False
        if word == "using" and name in code.words[i + 1 : i + 6]:
            return False, False  # inherited constructors
        if word == name and code.word(i + 1) == "(":
            if declared[-1:] != ["~"]:
                return False, False
            plain = False
        declared.append(word)
        if word == ":" and declared[0] == "public":
            declared = []
        elif word in OPEN and i in code.match:
            i = code.match[i]
            if word == "{" and code.word(i + 1) not in (";", ","):
                declared = []  # the body of a function
        elif word == ";":
            if not {"(", "using", "static", "friend", "struct", "enum", "class"} & set(declared):
                plain &= plain_member(declared)
            declared = []
        i += 1
    return True, plain


def plain_member(declared):
    """Of the tokens `type name = value;`: whether the bits of the type may be copied."""
    depth = 0
    for i, word in enumerate(declared):
        depth += {"<": 1, ">": -1}.get(word, 0)
        if depth == 0 and word in ("=", "{", "[", ";", ","):
            type_ = declared[: i - 1]
            return type_[-1:] in (["*"], ["&"]) or all(w in PLAIN for w in type_ if w.isidentifier())
    return True


def made_in_place(code, i, start):
    """Whether the aggregate named at i is initialised right there, not by what a function returns."""
    before, after = code.word(i - 1), code.word(i + 1)
    if before in ("struct", "class", "enum", "~", ".", "->", "new", ">"):
        return False
    if before.isidentifier() and before not in ("co_await", "co_yield", "return", "co_return", "const"):
        return False  # a variable of that name
    if after in ("(", "{"):
        return True
    if i > start + 1 or not after.isidentifier():
        return False
    opener = i + 2 + (code.word(i + 2) == "=")  # `name variable{co_await ...}`
    return code.word(opener) in ("(", "{") and bool(code.awaits(opener, code.match.get(opener, opener)))


def declares_variable(code, start):
    """Whether a condition is `auto name = ...`: with a named variable in it, g++ 12 lays out the frame rightly."""
    start += code.word(start) == "const"
    return code.word(start) == "auto" and code.word(start + 1).isidentifier() and code.word(start + 2) == "="


def rules(code, known):
    """Yields (position, message). `known` are the aggregates, as aggregates() gives them."""
    for i, word in enumerate(code.words):
        after = i + 1
        if word in HEADS:
            after += code.word(after) == "constexpr"
            if code.word(after) != "(" or after not in code.match:
                continue
            parts = code.parts(after + 1, code.match[after])
            if word == "for":
                # A range-for may await its range; the classic form may await its first part.
                parts = parts[1:] if len(parts) == 3 else []
            elif word in ("if", "switch"):
                parts = parts[-1:]
            for start, end in parts:
                if declares_variable(code, start):
                    continue
                for await_ in code.awaits(start, end):
                    yield await_, f"co_await in the condition of `{word}`; await into a local first"
        elif word == "co_await":
            start, end = code.statement(i)
            if any(code.words[j] == "?" for j in code.visible(start, end)):
                yield i, "`? :` in a statement with co_await; use if and else"
            if code.word(i - 1) == "throw":
                yield i, "throw co_await; await into a local first"
            for j in code.visible(start, end):
                if code.starts_lambda(j) and captures_values(code, j):
                    yield j, "a closure that captures values in a statement with co_await; name it before"
                elif known.get(code.words[j]) == (True, False) and made_in_place(code, j, start):
                    name = code.words[j]
                    yield j, f"the aggregate {name} made in a statement with co_await; name it before"
        elif code.word(after) == "(" and after in code.match:
            inside = code.awaits(after + 1, code.match[after])
            if word == "spawn":
                for await_ in inside:
                    yield await_, "co_await among the arguments of spawn; await into a local first"
            elif ASSERTING.fullmatch(word):
                for await_ in inside:
                    yield await_, f"co_await inside {word}; await into a local first"


def captures_values(code, bracket):
    start = bracket + 1
    end = code.match[bracket]
    fresh = True
    for i in range(start, end):
        if fresh and code.word(i) not in ("&", "this"):
            return True
        fresh = code.word(i) == ","
    return False


def in_headers(code):
    """Yields (position, message) for coroutines of a header whose frames have a type that other files do not share."""
    hidden = hidden_types(code)
    for start, brace, in_namespace, in_hidden in functions(code):
        end = code.match[brace]
        body = range(start, end)
        if in_hidden or not any(code.words[i] in ("co_await", "co_return", "co_yield") for i in body):
            continue
        for i in body:
            if code.words[i] in hidden and code.word(i - 1) not in (".", "->"):
                yield i, (f"{code.words[i]}, of an anonymous namespace, in a coroutine of a header: g++ warns "
                          "(-Wsubobject-linkage); give the namespace a name")
        if not in_namespace or "static" not in code.words[start:brace]:
            continue
        for i in code.visible(brace, end):
            if code.starts_lambda(i) and code.word(i - 1) == "=":
                yield i, ("a closure kept in a static coroutine of a header: g++ warns (-Wsubobject-linkage); "
                          "make the function inline")


def blocks_of(code):
    """Yields (what, first token of its declaration, brace, braces around it) of each brace outside of functions."""
    around, i, start = [], 0, 0
    while i < len(code.words):
        word = code.word(i)
        while around and i >= code.match[around[-1]]:
            around.pop()
        if word in (";", "}") or (word == ":" and code.word(i - 1) in ("public", "private", "protected")):
            start = i + 1
        elif word in "([" and i in code.match:
            i = code.match[i]
        elif word == "{" and i in code.match:
            head = code.words[start:i]
            if "namespace" in head:
                what = "namespace" if head[-1] != "namespace" else "anonymous"
            elif {"struct", "class", "union", "enum"} & set(head) and "(" not in head:
                what = "type"
            elif "extern" in head and '""' in head:
                what = "namespace"
            else:
                what = "function" if "(" in head else "value"
            yield what, start, i, list(around)
            if what in ("function", "value"):
                i = code.match[i]
            else:
                around.append(i)
            start = i + 1
        i += 1


def functions(code):
    """Yields (first token, brace, whether in a namespace, whether in an anonymous one) of each function."""
    kinds = {}
    for what, start, brace, around in blocks_of(code):
        kinds[brace] = what
        if what == "function":
            outer = [kinds[i] for i in around]
            yield start, brace, "type" not in outer, "anonymous" in outer


def hidden_types(code):
    """The types that anonymous namespaces define."""
    found, kinds = set(), {}
    for what, start, brace, around in blocks_of(code):
        kinds[brace] = what
        if what == "type" and "anonymous" in [kinds[i] for i in around]:
            head = code.words[start:brace]
            at = max(i for i, word in enumerate(head) if word in ("struct", "class", "union", "enum"))
            found |= {word for word in head[at + 1 : at + 2] if word.isidentifier()}
    return found


def problems(text, first_line=1, known=(), header=False):
    return problems_in(Code(text, first_line), known, header)


def problems_in(code, known=(), header=False):
    found = {(code.lines[i], message) for i, message in rules(code, aggregates(code, known))}
    if header:
        found |= {(code.lines[i], message) for i, message in in_headers(code)}
    return sorted(problem for problem in found if problem[0] not in code.allowed)


# --- what is read ----------------------------------------------------------------------------------------


def blocks(path):
    """Yields (first line number, text) of each ```cpp block of a Markdown file, but not of those marked `cpp ignore`."""
    inside, wanted, start, lines = False, False, 0, []
    for number, line in enumerate(Path(path).read_text(errors="replace").splitlines(), 1):
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


def left_out(folder):
    return (
        folder.name.startswith(".")
        or folder.name in LEFT_OUT
        or (folder / "meson-private").is_dir()
        or (folder / "CMakeCache.txt").is_file()
    )


def files_in(path):
    """The files to read of a path that was given, each with the folder of it whose headers it may know."""
    if path.is_file():
        return [(path, path.parent)]
    found = []
    for here, folders, names in os.walk(path):
        here = Path(here)
        folders[:] = sorted(name for name in folders if not left_out(here / name))
        inside = here.relative_to(path).parts[:1]
        found += [
            (here / name, path.joinpath(*inside))
            for name in sorted(names)
            if Path(name).suffix.lower() in HEADERS | SOURCES | MARKDOWN
        ]
    return found


def codes_of(path):
    if path.suffix.lower() in MARKDOWN:
        return [Code(text, line) for line, text in blocks(path)]
    return [Code(path.read_text(errors="replace"))]


def lint(paths):
    """Yields (file, line, message), and the file alone when it is read."""
    read = {}
    for path in paths:
        for file, folder in files_in(path):
            read.setdefault(file, folder)
    codes = {file: codes_of(file) for file in read}
    for_all = {}  # what the headers in folders called `include` define
    known = {}  # and those of others, for their own folder
    public = [file for file, folder in read.items() if "include" in folder.absolute().parts]
    for file in [*public, *(file for file in read if file not in public)]:
        if file.suffix.lower() in HEADERS:
            define = for_all if file in public else known.setdefault(read[file], dict(for_all))
            for code in codes[file]:
                define.update(aggregates(code, define))
    for file, folder in read.items():
        yield file, None, None
        for code in codes[file]:
            for line, message in problems_in(code, known.get(folder, for_all), file.suffix.lower() in HEADERS):
                yield file, line, message


# --- the test of it --------------------------------------------------------------------------------------

BAD = [
    "task<> f() { if (co_await g()) h(); }",
    "task<> f() { if constexpr (co_await g()) h(); }",
    "task<> f() { if (int n = 1; co_await g(n)) h(); }",
    "task<> f() { if (\n  a && // why\n  co_await g()) h(); }",
    "task<> f() { while (co_await g(k)) {} }",
    "task<> f() { while (f(auto(x)), co_await g(x)) {} }",
    "task<> f() { do { x(); } while (co_await g()); }",
    "task<> f() { switch (co_await g()) { case 1: break; } }",
    "task<> f() { for (int i = 0; co_await g(i); ++i) {} }",
    "task<> f() { for (int i = 0; i < 3; co_await g(i)) {} }",
    "task<> f() { auto x = c ? co_await a() : co_await b(); }",
    "task<> f() { co_await (c ? a() : b()); }",
    "task<> f() { co_return use(c ? T{1} : T{2}, co_await b()); }",
    "task<> f() { co_await g({.limit = c ? 1 : 2}); }",
    "task<> f() { group.spawn(h, co_await g()); }",
    "task<> f() { auto h = group.spawn([p] { run(p); }, co_await g()); }",
    "task<> f() { co_await [p]() -> task<> { co_await h(p); }(); }",
    "task<> f() { co_await [=]() -> task<> { co_await h(p); }(); }",
    "task<> f() { co_await [&, p = std::move(q)] { return h(p); }(); }",
    "task<> f() { co_await spawn([c]() -> task<> { co_await h(c); }); }",
    "task<> f() { co_await attempt(spawn([=] { return h(p); })); }",
    "task<> f() { auto x = co_await spawn([&, p = std::move(q)](int n) -> task<> { co_await h(p); }, 1); }",
    "task<> f() { co_await serve(listener, [config](tcp_stream& s) -> task<> { co_await h(s); }); }",
    "task<> f() { use([p] { return p; }, co_await g()); }",
    "struct note { std::string s; int n = 0; }; task<> f() { co_await send(note(\"x\", 1)); }",
    "struct note { std::string s; }; task<> f() { co_await send(note{\"x\"}); }",
    "struct note { std::vector<int> v{}; }; task<> f() { use(note{}, co_await g()); }",
    "struct note { std::string s; int n; }; task<> f() { note m{co_await g(), 1}; }",
    "struct note { std::string s; int n; }; task<> f() { const note m = {co_await g(), 1}; }",
    "struct note { std::string s; int n; }; task<> f() { note m(co_await g(), 1); }",
    "struct guard { int& n; ~guard() { --n; } }; task<> f() { co_await g(guard(n)); }",
    "struct base { base(); }; struct note : base { int n; }; task<> f() { co_await g(note{{}, 1}); }",
    "struct note { void f() { g(); } std::string s; }; task<> f() { co_await send(note(\"x\")); }",
    "task<> f() { CHECK(co_await g() == 1); }",
    "task<> f() { REQUIRE_EQ(co_await g(), 1); }",
    "task<> f() { RONDO_ASSERT(co_await g()); }",
    "task<> f() { throw co_await g(); }",
    'TEST_CASE("x") { run([&]() -> task<> { if (co_await g()) h(); }); }',
    'TEST_CASE("x") { run([]<class T>(T t) -> task<T> { while (co_await t()) { ; } }); }',
    "#define TWICE(x) if (co_await x) y()",
]

GOOD = [
    "task<> f() { auto x = co_await g(); if (x) h(); }",
    "task<> f() { if (auto x = co_await g(); x) h(); }",
    "task<> f() { if (const auto x = co_await g()) h(); }",
    "task<> f() { while (auto x = co_await g()) h(*x); }",
    "task<> f() { for (auto& x : co_await g()) use(x); }",
    "task<> f() { for (auto i = co_await g(); i < 3; ++i) use(i); }",
    "task<> f() { // if (co_await g())\n /* CHECK(co_await g()) */ co_return; }",
    'task<> f() { auto s = "if (co_await g())"; auto r = R"(a ? co_await b : c)"; co_await h(s); }',
    "task<> f() { int n = c ? 1 : 2; co_await g(n); }",
    "task<> f() { co_await g(); int n = c ? 1 : 2; use(n); }",
    "task<> f() { if (c ? a : b) co_await g(); }",
    "task<> f() { if (c ? a : b) { co_await g(); } }",
    "task<> f() { while (c ? a : b)\n co_await g(); }",
    "task<> f() { { int n = c ? 1 : 2; } co_await g(); }",
    "task<> f() { co_await with([&](scope& s) -> task<> { int n = c ? 1 : 2; co_await g(n); }); }",
    "task<> f() { auto x = c ? 1 : 2; co_await with([&]() -> task<> { co_await g(); }); }",
    "task<> f() { co_await g(); group.spawn(h, 1); }",
    "task<> f() { group.spawn([](int n) -> task<> { co_await g(n); }, 3); }",
    "task<> f() { co_await [&]() -> task<> { co_await g(); }(); }",
    "task<> f() { co_await [this]() -> task<> { co_await g(); }(); }",
    "task<> f() { auto h = spawn([c]() -> task<> { co_await g(c); }); co_await h; }",
    "task<> f() { co_await spawn([&c]() -> task<> { co_await g(c); }); }",
    "task<> f() { co_await spawn(h, std::move(c)); table[c] = 1; }",
    "void f() { run([c]() -> task<> { co_await g(c); }); }",
    "struct note { std::string s; }; task<> f() { note m{\"x\"}; co_await send(std::move(m)); }",
    "struct note { std::string s; }; task<> f() { note m = co_await g(); use(m); }",
    "struct note { std::string s; }; task<> f() { const note m(\"x\"); auto h = spawn(g, m); co_await h; }",
    "struct note { note(int); std::string s; }; task<> f() { co_await send(note(1)); }",
    "struct opts { int n = 1; const char* s; std::uint32_t m[3]; }; task<> f() { co_await g(opts{1}); }",
    "struct opts { int n = 1; bool ok() const { return n; } }; task<> f() { co_await g(opts{1}); }",
    "class note { std::string s; }; task<> f() { co_await send(make_note(1)); }",
    "struct note { std::string s; task<> f() { co_await g(); } };",
    "void f() { CHECK(run([&]() -> task<int> { co_return co_await g(); }) == 1); }",
    "void f() { CHECK_THROWS_AS(run([&]() -> task<> { co_await g(); }), error); }",
    "void f() { if (run([&]() -> task<bool> { co_return co_await g(); })) h(); }",
    "task<> f() { int v = table[i] ? 1 : 2; co_await g(v); }",
    "#if defined(X) && (Y ? 1 : 0)\ntask<> f() { co_await g(); }\n#endif",
    "[[nodiscard]] task<> f() { auto [a, b] = co_await g(); use(a ? b : a); }",
    "task<> f() { try { co_await g(); } catch (...) { x = c ? 1 : 2; } }",
    "task<> f() {\n // lint: allow - shows what breaks\n if (co_await g()) h(); }",
    "task<> f() { constexpr int n = 1'000'000; co_await g('?', n); }",
]


BAD_IN_HEADERS = [
    "namespace { struct h { int n; }; }\ninline task<> f() { h x; co_await g(x); }",
    "namespace { class h final : b {}; }\ntask<> f(h& x) { co_return; }",
    "namespace a::b {\nnamespace { enum class h { x }; }\ninline task<> f() { std::vector<h> v; co_await g(); }\n}",
    "namespace { struct h {}; }\nstruct s { task<> f() { h x; co_await g(x); } };",
    "static task<> f() { auto l = [] {}; co_await g(); l(); }",
    "namespace a { static inline task<> f() { const auto l = [&](int) { return 1; }; co_await g(l); } }",
]

GOOD_IN_HEADERS = [
    "namespace a { struct h { int n; }; }\ninline task<> f() { h x; co_await g(x); }",
    "namespace { struct h { int n; }; task<> f() { h x; co_await g(x); } }",
    "namespace { struct h { int n; }; }\ninline int f() { h x; return x.n; }",
    "namespace { struct h { int n; }; }\ninline task<> f(other x) { co_await x.h; }",
    "inline task<> f() { auto l = [] {}; co_await g(); l(); }",
    "struct s { static task<> f() { auto l = [] {}; co_await g(); l(); } };",
    "static int f() { auto l = [] { return 1; }; return l(); }",
    "static task<> f() { co_await g([] {}); }",
    "struct s {\n public:\n    s() : n{1} {}\n    task<> f() { co_await g(); }\n    int n = 0;\n};",
]


def self_test():
    for text in BAD:
        assert problems(text), f"not noticed: {text}"
    for text in GOOD:
        assert not problems(text), f"wrongly refused: {text}: {problems(text)}"
    assert problems("\n\nvoid f() {\n  CHECK(co_await x);\n}")[0][0] == 4
    assert problems("CHECK(co_await x);", 17)[0][0] == 17
    for text in BAD_IN_HEADERS:
        assert problems(text, header=True) and not problems(text), f"not noticed in a header: {text}"
    for text in GOOD_IN_HEADERS:
        found = problems(text, header=True)
        assert not found, f"wrongly refused in a header: {text}: {found}"
    test_paths()
    bad, good = len(BAD) + len(BAD_IN_HEADERS), len(GOOD) + len(GOOD_IN_HEADERS)
    print(f"{bad} bad shapes noticed, {good} good ones let through")


def test_paths():
    """What it reads, and what it says of that."""

    def run_on(*arguments):
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                status = main([str(argument) for argument in arguments])
            except SystemExit as exit_:
                status = exit_.code
        return status, said.getvalue()

    import contextlib
    import io
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)

        def write(name, text):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)

        bad = "task<> f() { if (co_await g()) h(); }\n"
        write("src/bad.cc", "\n" + bad)
        write("src/good.cpp", "task<> f() { co_await g(); }\n")
        write("src/deep/er/bad.hh", bad)
        write("page.md", f"text\n```cpp\n{bad}```\n```cpp ignore\n{bad}```\n")
        write("odd.txt", bad)
        write(".hidden/bad.cpp", bad)
        write("out/bad.cpp", bad)
        write("out/CMakeCache.txt", "")
        write("subprojects/other/bad.cpp", bad)
        write("include/note.hpp", "struct note { std::string s; };\n")
        write("src/uses.cpp", "task<> f() { co_await send(note{\"x\"}); }\n")
        write("empty/readme.txt", "")

        status, said = run_on(root)
        assert status == 1 and "4 problems in 6 files" in said, said
        assert f"{root / 'src/bad.cc'}:2: " in said and f"{root / 'page.md'}:3: " in said, said
        assert f"{root / 'src/uses.cpp'}:1: the aggregate note" in said, said
        assert run_on(root / "src", root / "include")[1].count("note made") == 1
        assert run_on(root / "odd.txt")[0] == 1  # given by name, it is read
        status, said = run_on(root / "src/good.cpp")
        assert status == 0 and "1 file read, no known miscompiled spelling" in said, said
        assert run_on(root / "out")[0] == 1  # given by name as well
        status, said = run_on(root / "nowhere", root / "src")
        assert status == 2 and "nowhere: no such file or folder" in said, said
        status, said = run_on(root / "empty")
        assert status == 2 and "nothing to read" in said, said
        assert run_on()[0] == 2
        status, said = run_on("--help")
        assert status == 0 and "PATH" in said and "lint: allow" in said, said


def main(arguments):
    parser = argparse.ArgumentParser(
        prog=Path(sys.argv[0]).name, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="a file or a folder")
    paths = parser.parse_args(arguments).paths
    missing = [path for path in paths if not path.exists()]
    for path in missing:
        print(f"{parser.prog}: {path}: no such file or folder", file=sys.stderr)
    if missing:
        return 2
    count = files = 0
    for file, line, message in lint(paths):
        if line is None:
            files += 1
        else:
            count += 1
            print(f"{file}:{line}: {message}")
    if files == 0:
        print(f"{parser.prog}: nothing to read: no C++ and no Markdown in {', '.join(map(str, paths))}", file=sys.stderr)
        return 2
    read = f"{files} file{'' if files == 1 else 's'}"
    plural = "" if count == 1 else "s"
    print(f"{count} problem{plural} in {read}" if count else f"{read} read, no known miscompiled spelling")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(self_test() if sys.argv[1:] == ["--self-test"] else main(sys.argv[1:]))
