"""Keeps the rooms of the house in order: who may include whom, and that each thing is where one looks for it.

    layers.py ROOT | --self-test

include/rondo, lib and tests have the same folders. A file may include its own folder and those above it in
LADDER. A source implements the header of its name, a test is named after a header, and no headers, and no
headers together with their sources, include each other in a circle.
"""

import re
import sys
from pathlib import Path

# Lowest first. A folder includes itself and those above it in this list.
LADDER = [
    "base",
    "loop",
    "task",
    "combine",
    "sync",
    "channel",
    "io",
    "os",
    "net",
    "actor",
    "observe",
    "sim",
    "testing",
    "interop",
]

# Behind the door to the outside: a folder of lib alone, which knows operations and nothing above.
BACKEND = "backend"
# What of the loop the backends know.
BACKEND_KNOWS = {"loop/op", "loop/oracle", "loop/backend"}
# Who chooses a backend, and who makes the world that the simulated ones share.
MAY_INCLUDE_BACKENDS = {"loop/backend.cpp", "sim/simulated_backend.cpp", "sim/world.cpp"}

# Tests that are about more than one header.
OTHER_TESTS = {"promises", "models", "worlds", "support", "checks", "install", BACKEND}

# Headers whose tests have another name: the parts of a whole that is tested as one.
TESTED_BY = {
    "actor/mailbox": "actor/actor",
    "actor/request": "actor/actor",
    "base/bytes": "io/stream_volume",
    "base/error": "task/task",
    "base/exception_group": "task/scope",
    "base/time": "promises/order",
    "combine/joiners": "combine/joiner",
    "io/listener": "net/tcp",
    "loop/backend": "backend/backend",
    "loop/handle": "promises/order",
    "loop/loop": "promises/order",
    "loop/op": "task/wait",
    "loop/phase": "promises/order",
    "loop/stats": "promises/order",
    "net/serve_options": "net/serve_limits",
    "observe/observers": "loop/observer",
    "observe/timeline": "observe/chrome_trace",
    "sim/buggify": "sim/replay",
    "sim/simulated_backend": "backend/sim/sim",
    "sim/world_recorder": "observe/chrome_trace",
    "task/attempt": "task/task",
    "task/dump_on_signal": "task/await_tree",
    "task/group": "task/scope",
    "task/outcome": "combine/when",
    "task/spawn": "task/task",
    "task/suspend": "task/task",
}

# Adapters for test frameworks, whose macros collide: a program includes that of its own, and no umbrella brings one.
ADAPTERS = {"testing/catch2", "testing/doctest", "testing/gtest"}

# Slow to compile, or not portable: nothing that every user of rondo should have to read.
NOT_IN_PUBLIC_HEADERS = re.compile(
    r"sys/epoll\.h|sys/socket\.h|liburing(\.h|/.*)|linux/.*|thread|iostream|functional"
    r"|(spdlog|fmt|asio|nlohmann)(/.*|\.hpp)?"
)

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
OURS = re.compile(r"rondo/(.+)\.hpp")


def includes(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1) == '"', match.group(2)


def rank(folder):
    return LADDER.index(folder) if folder in LADDER else None


def public_header(include):
    """loop/op as seen by an #include <rondo/loop/op.hpp>; None if it is not ours."""
    match = OURS.fullmatch(include)
    return match and match.group(1)


class Check:
    def __init__(self, root):
        self.root = root.resolve()
        self.public = self.root / "include" / "rondo"
        self.lib = self.root / "lib"
        self.tests = self.root / "tests"
        self.problems = []
        self.header_edges = {}  # public headers
        self.module_edges = {}  # a header together with the source of its name

    def say(self, place, problem):
        self.problems.append(f"{place}: {problem}")

    def run(self):
        self.look_at_headers()
        self.look_at_sources()
        self.look_at_tests()
        for edges in (self.header_edges, self.module_edges):
            self.problems += circles(edges)
        return sorted(set(self.problems))

    # --- include/rondo

    def look_at_headers(self):
        for path in sorted(self.public.rglob("*.hpp")):
            name = path.relative_to(self.public).with_suffix("").as_posix()
            where = path.relative_to(self.root)
            if "/" not in name:
                self.look_at_umbrella(where, path, name)
                continue
            folder = name.split("/")[0]
            if rank(folder) is None:
                self.say(where, f"the folder {folder} is not in the ladder of layers.py")
                continue
            for number, quoted, include in includes(path):
                place = f"{where}:{number}"
                target = public_header(include)
                if target:
                    self.arrow(place, folder, target)
                    self.header_edges.setdefault(name, []).append(target)
                    self.module_edges.setdefault(module(name), []).append(module(target))
                elif quoted:
                    self.say(place, f'"{include}" would not be found once installed')
                elif folder != "interop" and NOT_IN_PUBLIC_HEADERS.fullmatch(include):
                    self.say(place, f"<{include}> does not belong in a public header")

    def look_at_umbrella(self, where, path, name):
        """rondo/sync.hpp brings the headers of rondo/sync/; rondo/rondo.hpp what nearly everyone uses."""
        inside = {p.stem for p in (self.public / name).glob("*.hpp")}
        if name != "rondo" and not inside:
            self.say(where, "belongs into a folder, or is the umbrella of none")
        brought = set()
        for number, quoted, include in includes(path):
            target = public_header(include)
            if not target:
                self.say(f"{where}:{number}", "an umbrella includes headers of rondo and nothing else")
            elif target.split("/")[0] == name:
                brought.add(target.split("/")[-1])
            elif name != "rondo":
                self.say(f"{where}:{number}", f"rondo/{target}.hpp is of another folder")
        if name != "rondo":
            for stem in sorted(inside - brought):
                if f"{name}/{stem}" not in ADAPTERS:
                    self.say(where, f"lacks rondo/{name}/{stem}.hpp")

    def arrow(self, place, folder, target):
        if "/" not in target:
            self.say(place, f"rondo/{target}.hpp is an umbrella for programs; name the header that is meant")
        elif not (self.public / f"{target}.hpp").exists():
            self.say(place, f"there is no rondo/{target}.hpp")
        elif rank(target.split("/")[0]) is None or rank(target.split("/")[0]) > rank(folder):
            self.say(place, f"rondo/{target}.hpp belongs to a folder above {folder}")

    # --- lib

    def look_at_sources(self):
        for path in sorted([*self.lib.rglob("*.cpp"), *self.lib.rglob("*.hpp")]):
            name = path.relative_to(self.lib).as_posix()
            where = path.relative_to(self.root)
            folder = name.split("/")[0]
            backend = folder == BACKEND
            if "/" not in name or (rank(folder) is None and not backend):
                self.say(where, "is in no folder of the ladder")
                continue
            own = module(path.relative_to(self.lib).with_suffix("").as_posix())
            if path.suffix == ".cpp" and not backend:
                self.look_for_own_header(where, path, own)
            for number, quoted, include in includes(path):
                self.look_at_source_include(f"{where}:{number}", name, folder, own, quoted, include)

    def look_for_own_header(self, where, path, own):
        folder, stem = own.split("/")[0], path.stem
        candidates = [f"rondo/{folder}/{stem}.hpp", f"rondo/{folder}/detail/{stem}.hpp"]
        own_headers = [c for c in candidates if (self.public.parent / c).exists()]
        private = path.with_suffix(".hpp").exists()
        if not own_headers and not private:
            self.say(where, "implements no header of its name")
            return
        first = next((include for _, _, include in includes(path)), None)
        if first not in own_headers and not (private and first == f"{stem}.hpp"):
            self.say(where, "does not begin with the header of its name")

    def look_at_source_include(self, place, name, folder, own, quoted, include):
        target = public_header(include)
        if target:
            if folder == BACKEND:
                if not target.startswith("base/") and target not in BACKEND_KNOWS:
                    self.say(place, f"a backend does not know rondo/{target}.hpp")
            else:
                self.arrow(place, folder, target)
                self.module_edges.setdefault(own, []).append(module(target))
            return
        if not quoted:
            return
        for base in ((self.lib / name).parent, self.lib):
            file = (base / include).resolve()
            if file.exists() and file.is_relative_to(self.lib):
                break
        else:
            self.say(place, f'"{include}" is not a file of lib')
            return
        other = file.relative_to(self.lib).as_posix()
        other_folder = other.split("/")[0]
        if other_folder == BACKEND and folder != BACKEND:
            if name not in MAY_INCLUDE_BACKENDS:
                self.say(place, "only the file that chooses a backend may see this")
        elif folder == BACKEND and other_folder == BACKEND:
            inner, own_inner = other.split("/")[1:-1], name.split("/")[1:-1]
            if inner and inner != own_inner:
                self.say(place, f'"{include}" belongs to another backend')
        elif other_folder == BACKEND or (rank(other_folder) is not None and folder != BACKEND):
            if rank(other_folder) > rank(folder):
                self.say(place, f'"{include}" belongs to a folder above {folder}')
        elif folder == BACKEND and other_folder != "base":
            self.say(place, f'a backend does not know "{include}"')

    # --- tests

    def look_at_tests(self):
        found = set()
        for path in sorted(self.tests.rglob("*_test.cpp")):
            name = path.relative_to(self.tests).as_posix()
            where = path.relative_to(self.root)
            folder = name.split("/")[0]
            if "/" not in name or (rank(folder) is None and folder not in OTHER_TESTS):
                self.say(where, "is in no folder of the ladder")
                continue
            found.add(name.removesuffix("_test.cpp"))
            if folder not in OTHER_TESTS and not self.tested_by(folder, path.name.removesuffix("_test.cpp")):
                self.say(where, "is named after no header of its folder")

        for path in sorted(self.public.glob("*/*.hpp")):
            if path.parent.name == "interop":  # needs the library of others; the samples use it
                continue
            header = path.relative_to(self.public).with_suffix("").as_posix()
            tested = any(test == header or test.startswith(header + "_") for test in found)
            if not tested and TESTED_BY.get(header) not in found:
                self.say(path.relative_to(self.root), "has no test of its name, nor one that TESTED_BY names")

    def tested_by(self, folder, stem):
        """tcp_closing_test.cpp is about an aspect of tcp.hpp, as tcp_test.cpp is about all of it."""
        words = stem.split("_")
        return any(
            (place / ("_".join(words[:count]) + ".hpp")).exists()
            for place in (self.public / folder, self.public / folder / "detail", self.lib / folder)
            for count in range(len(words), 0, -1)
        )


def module(name):
    """loop/detail/heap -> loop/heap"""
    return name.replace("/detail/", "/")


def circles(edges):
    done, path = set(), []

    def visit(name):
        if name in path:
            return ["a circle: " + " -> ".join([*path[path.index(name) :], name])]
        if name in done:
            return []
        path.append(name)
        found = [
            circle for target in sorted(set(edges.get(name, []))) if target != name for circle in visit(target)
        ]
        path.pop()
        done.add(name)
        return found

    return [circle for name in edges for circle in visit(name)]


def self_test():
    import tempfile

    def problems(files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return Check(Path(folder)).run()

    def header(*names):
        return "".join(f"#include <rondo/{name}.hpp>\n" for name in names)

    good = {
        "include/rondo/base/detail/list.hpp": "#include <cstddef>\n",
        "include/rondo/loop.hpp": header("loop/op", "loop/backend", "loop/loop"),
        "include/rondo/loop/op.hpp": header("base/detail/list"),
        "include/rondo/loop/backend.hpp": header("loop/op"),
        "include/rondo/loop/loop.hpp": header("loop/backend"),
        "include/rondo/task/task.hpp": header("loop/loop"),
        "include/rondo/rondo.hpp": header("loop/loop", "task/task"),
        "include/rondo/interop/log.hpp": header("loop/loop") + "#include <spdlog/spdlog.h>\n",
        "lib/backend/posix.hpp": header("loop/backend"),
        "lib/backend/epoll/epoll.hpp": header("loop/backend"),
        "lib/backend/epoll/epoll.cpp": '#include "epoll.hpp"\n#include "../posix.hpp"\n#include <sys/epoll.h>\n',
        "lib/backend/uring/uring.hpp": header("loop/backend"),
        "lib/loop/backend.cpp": header("loop/backend") + '#include "backend/epoll/epoll.hpp"\n',
        "lib/loop/loop.cpp": header("loop/loop") + '#include "inbox.hpp"\n',
        "lib/loop/inbox.hpp": header("loop/op"),
        "lib/task/task.cpp": header("task/task") + '#include "loop/inbox.hpp"\n',
        "tests/loop/op_test.cpp": "",
        "tests/loop/loop_closing_test.cpp": "",
        "tests/loop/inbox_test.cpp": "",
        "tests/task/task_test.cpp": "",
        "tests/backend/backend_test.cpp": "",
        "tests/promises/order_test.cpp": "",
    }
    assert problems(good) == [], problems(good)

    bad = [
        ("include/rondo/loop/op.hpp", header("task/task")),
        ("include/rondo/loop/op.hpp", "#include <thread>\n"),
        ("include/rondo/loop/op.hpp", "#  include <sys/socket.h>\n"),
        ("include/rondo/loop/op.hpp", "#include <fmt/core.h>\n"),
        ("include/rondo/loop/op.hpp", "#include <asio.hpp>\n"),
        ("include/rondo/loop/op.hpp", '#include "detail/list.hpp"\n'),
        ("include/rondo/loop/op.hpp", header("loop/nowhere")),
        ("include/rondo/task/task.hpp", header("loop")),
        ("include/rondo/task/task.hpp", header("interop/log")),
        ("include/rondo/unheard_of.hpp", ""),
        ("include/rondo/cellar/x.hpp", ""),
        ("include/rondo/loop.hpp", header("loop/op", "loop/loop")),
        ("include/rondo/loop.hpp", header("loop/op", "loop/backend", "loop/loop", "task/task")),
        ("include/rondo/loop.hpp", header("loop/op", "loop/backend", "loop/loop") + "#include <cstddef>\n"),
        ("lib/backend/epoll/epoll.cpp", '#include "epoll.hpp"\n' + header("loop/loop")),
        ("lib/backend/epoll/epoll.cpp", '#include "epoll.hpp"\n#include "../uring/uring.hpp"\n'),
        ("lib/backend/epoll/epoll.cpp", '#include "epoll.hpp"\n#include "loop/inbox.hpp"\n'),
        ("lib/loop/loop.cpp", header("loop/loop") + '#include "backend/epoll/epoll.hpp"\n'),
        ("lib/loop/loop.cpp", header("loop/loop") + '#include "missing.hpp"\n'),
        ("lib/loop/loop.cpp", header("loop/op", "loop/loop")),
        ("lib/loop/loop.cpp", header("loop/loop", "task/task")),
        ("lib/loop/what_loops_do.cpp", header("loop/loop")),
        ("lib/strays.cpp", header("loop/loop")),
        ("tests/loop/strays_test.cpp", ""),
        ("include/rondo/task/untested.hpp", ""),
        ("tests/op_test.cpp", ""),
        ("tests/cellar/op_test.cpp", ""),
    ]
    for name, text in bad:
        assert problems({**good, name: text}), (name, text)
    circle = {
        "include/rondo/loop/op.hpp": header("loop/backend"),
        "include/rondo/loop/backend.hpp": header("loop/op"),
    }
    assert problems({**good, **circle})
    by_source = {"lib/loop/op.cpp": header("loop/op", "loop/loop"), "include/rondo/loop/loop.hpp": header("loop/op", "loop/backend")}
    assert any("a circle" in problem for problem in problems({**good, **by_source}))
    print(f"{len(bad) + 3} trees were judged rightly")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    problems = Check(Path(sys.argv[1])).run()
    print("\n".join(problems) or "everything is in its room, and all arrows point one way")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
