"""What the headers declare and the archive defines must be there in the shared library, too.

    exported.py ROOT NM (ARCHIVE SHARED_LIBRARY)... | --self-test

A function without RONDO_API works for all who link the archive, our tests among them, and for nobody
who links the shared library. This reads symbols, not programs, so it needs no one who uses them.
"""

import re
import subprocess
import sys
from pathlib import Path

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
CLASS = re.compile(r"\b(?:class|struct)\s+(?:RONDO_API\s+)?(\w+)[^;{()]*\{")
OF_CLASS = re.compile(r"^(?:vtable|VTT|typeinfo|typeinfo name) for ")
PREFIX = re.compile(r"^(?:vtable|VTT|typeinfo|typeinfo name|TLS \w+ function|guard variable) for ")


class Headers:
    def __init__(self, texts):
        self.texts = [COMMENT.sub("", text) for text in texts]
        self.classes = [set(CLASS.findall(text)) for text in self.texts]

    def declare(self, symbol):
        """Whether one of them holds every class that the symbol names, and then its name."""
        *scopes, name = path_of(symbol)
        scopes = [s for s in scopes if s not in ("rondo", "detail")]
        if OF_CLASS.match(symbol):  # strong only if the class has a key function; a name alone promises nothing
            return any(classes.issuperset([*scopes, name]) for classes in self.classes)
        name = re.escape(name) + (r"\s*\(" if "(" in symbol else r"\s*[;={\[]")
        # `\b` would not do in front of ~ and behind operators.
        word = re.compile(r"(?<!\w)" + name)
        return any(
            all(s in classes for s in scopes) and word.search(text)
            for text, classes in zip(self.texts, self.classes)
        )


def path_of(symbol):
    """rondo::detail::scope::cancel() -> [rondo, detail, scope, cancel]"""
    symbol = re.sub(r"\[abi:\w+\]", "", PREFIX.sub("", symbol))
    operator = re.search(r"operator\s*[^\s\w(]+", symbol)
    if operator:
        return [*symbol[: operator.start()].strip(":").split("::"), operator.group()]
    return re.sub(r"[<(].*", "", symbol).split("::")


def symbols(nm, *arguments):
    said = subprocess.run([nm, "-C", "--defined-only", *arguments], text=True, capture_output=True,
                          check=True).stdout
    # Capital letters are global. W and V are inline: whoever needs one has it.
    found = re.findall(r"^[0-9a-f]+ ([A-Z]) (.*rondo::.*)$", said, re.MULTILINE)
    return {name for kind, name in found if kind not in "WVU"}


def missing(headers, defined, exported):
    return sorted(s for s in defined - exported if headers.declare(s))


def self_test():
    headers = Headers([
        "namespace rondo { struct RONDO_API node : base { node(int) noexcept; bool is_on() const; };\n"
        "bool operator==(const node&, const node&);\nint count(); extern int total; struct hidden;\n"
        "// says() something\n}"
    ])
    for symbol, declared in {
        "rondo::node::node(int)": True,
        "rondo::node::is_on() const": True,
        "vtable for rondo::node": True,
        "typeinfo name for rondo::hidden": False,
        "rondo::operator==(rondo::node const&, rondo::node const&)": True,
        "rondo::operator<(rondo::node const&, rondo::node const&)": False,
        "rondo::count[abi:cxx11]()": True,
        "rondo::total": True,
        "rondo::says()": False,
        "rondo::hidden::count()": False,
        "rondo::other::is_on() const": False,
    }.items():
        assert headers.declare(symbol) == declared, symbol
    assert missing(headers, {"rondo::count()", "rondo::total"}, {"rondo::total"}) == ["rondo::count()"]
    print("12 symbols were judged rightly")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root, nm, *libraries = sys.argv[1:]
    headers = Headers(p.read_text() for p in sorted(Path(root, "include").rglob("*.hpp")))
    defined = set().union(*(symbols(nm, archive) for archive in libraries[::2]))
    exported = set().union(*(symbols(nm, "-D", shared) for shared in libraries[1::2]))
    for symbol in (lost := missing(headers, defined, exported)):
        print(f"{symbol}\n    is declared in a header, but is not exported: RONDO_API is missing")
    print(f"{len(defined)} symbols, {len(exported)} exported, {len(lost)} of them missing")
    return 1 if lost or not exported else 0


if __name__ == "__main__":
    sys.exit(main())
