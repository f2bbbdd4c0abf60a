"""Compiles every ```cpp block of README.md and docs: what a reader copies must work.

    docs_snippets.py ROOT COMPILER...

A block that begins with #include or has a main() is a whole program and is compiled as it stands.
Any other block is compiled as declarations, behind PRELUDE. `cpp ignore` marks what must not be.
So are the cells of tables whose last column is headed "rondo, compiled": each as the statements of a task,
behind the declarations of the last block before the table.
"""

import re
import sys
import tempfile
from pathlib import Path

import snippets

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from compiling import precompile, try_compile, try_each

PRELUDE = """\
#include <rondo/rondo.hpp>
#include <rondo/actor/supervisor.hpp>
#include <rondo/loop.hpp>
#include <rondo/io.hpp>
#include <rondo/net.hpp>
#include <rondo/os.hpp>
#include <cstdio>
#include <iostream>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <variant>
#include <vector>
using namespace rondo;
using namespace std::chrono_literals;
using namespace std::string_literals;
using namespace std::string_view_literals;
"""


def is_program(text):
    return text.lstrip().startswith("#include") or re.search(r"\bint\s+main\s*\(", text)


def table_as_text(path, block_line, block, cells):
    """A table's cells as one text."""
    text = f'#line {block_line} "{path}"\n{block}'
    for number, code in cells:
        text += f'#line {number} "{path}"\ntask<> cell_{number}() {{ {code}; }}\n'
    return text


def main():
    root, compiler = Path(sys.argv[1]), sys.argv[2:]
    found = [
        (path.relative_to(root), line, text)
        for path in snippets.documents(root)
        for line, text in snippets.blocks(path)
    ]
    for path in snippets.documents(root):
        for line, block, cells in snippets.cells(path):
            name = path.relative_to(root)
            found.append((name, cells[0][0], table_as_text(name, line, block, cells)))
    if not found:
        print("no snippet in README.md or docs")
        return 77

    with tempfile.TemporaryDirectory() as folder:
        # Parsing rondo.hpp once saves most of the time.
        include = ["-I", str(root / "include")]
        prelude = Path(folder) / "prelude.hpp"
        prelude.write_text(PRELUDE)
        clang = "clang" in Path(compiler[-1]).name
        compiled = Path(folder) / ("prelude.pch" if clang else "prelude.hpp.gch")
        said = precompile(compiler, prelude, compiled, include)
        if said:
            print(f"rondo/rondo.hpp:\n{said}")
            return 1
        use = ["-include-pch", str(compiled)] if clang else ["-include", str(prelude)]

        def attempt(snippet):
            path, line, text = snippet
            flags = include if is_program(text) else [*include, *use]
            # A sample shows one thing; that it leaves something unused says nothing.
            flags = [*flags, "-Wno-unused", "-Wno-unused-parameter", "-Wno-missing-braces",
                     "-Wno-unknown-warning-option", "-Wno-subobject-linkage"]  # g++ takes it for a header
            return try_compile(compiler, f'#line {line} "{path}"\n{text}', flags)

        failed = 0
        for (path, line, _), said in try_each(attempt, found):
            if said:
                failed += 1
                print(f"{path}:{line}:\n{said}\n")
    print(f"{len(found)} snippets, {failed} of them with complaints")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
