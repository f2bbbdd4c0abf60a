"""Compiles each public header by itself: it must include what it uses, and bear being read twice. Then all
of them in one file, in both orders: none may change what another one means.

    headers_alone.py ROOT COMPILER...
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from compiling import try_compile, try_each

# What an adapter adapts may be missing on this machine.
MISSING = re.compile(r"fatal error: '?((spdlog|fmt|asio|nlohmann|gtest|catch2)[\w./-]*)'?")
# Adapters whose macros collide with those of another one.
APART = ["rondo/testing/gtest.hpp", "rondo/testing/catch2.hpp"]


def main():
    root, compiler = Path(sys.argv[1]), sys.argv[2:]
    include = root / "include"
    headers = [path.relative_to(include).as_posix() for path in sorted(include.rglob("*.hpp"))]
    failed = 0

    def alone(header):
        text = f"#include <{header}>\n#include <{header}>\n"
        return try_compile(compiler, text, ["-Wshadow", "-I", str(include)])

    together = []
    for header, said in try_each(alone, headers):
        missing = MISSING.search(said)
        if missing and ("/interop/" in header or header in APART):
            print(f"{header}: not tried, {missing.group(1)} is missing")
        elif said:
            failed += 1
            print(f"{header}:\n{said}\n")
        elif header not in APART:
            together.append(header)

    def in_order(way):
        text = "".join(f"#include <{header}>\n" for header in together[::way])
        return try_compile(compiler, text, ["-Wshadow", "-I", str(include)])

    for way, said in try_each(in_order, [1, -1]):
        if said:
            failed += 1
            print(f"all of them, {'forward' if way == 1 else 'backward'}:\n{said}\n")
    print(f"{len(headers)} headers, {failed} of them with complaints")
    return 1 if failed or not headers else 0


if __name__ == "__main__":
    sys.exit(main())
