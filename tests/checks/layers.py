"""Keeps the arrows between the layers pointing one way.

    layers.py ROOT | --self-test

Reads the #include lines of include/rondo and lib. A file may include its own line of LAYERS, as
long as no circle arises, and the lines above it.
"""

import re
import sys
from pathlib import Path

# Lowest first. A name is a header below include/rondo without its ending, or a folder of them. The
# headers of each detail folder, and the private ones of lib, are where the highest of what they include is.
LAYERS = [
    ["version"],
    ["base/time", "base/error", "base/log"],
    ["loop/op"],
    ["loop/oracle", "sim/replay"],
    ["loop/backend"],
    ["loop/loop", "loop/memory"],
    ["task/suspend", "task/task"],
    ["task/spawn", "task/attempt", "task/start"],
    ["task/run", "task/task_local", "task/scope", "base/exception_group", "task/group", "task/cleanup"],
    ["task/await_tree"],
    [
        "task/outcome", "combine/joiner", "combine/joiners", "combine/when", "combine/as_completed",
        "combine/map_concurrent", "combine/wait_for_tasks",
    ],
    [
        "sync/semaphore", "sync/mutex", "sync/shared_mutex", "sync/condition", "sync/event", "sync/latch",
        "sync/barrier", "sync/once",
    ],
    [
        "channel/channel", "channel/oneshot", "channel/broadcast", "channel/watch", "task/generator", "combine/select",
        "channel/thread_channel", "sync/rate_limiter", "channel/queue",
    ],
    ["actor/request", "actor/mailbox", "actor/actor", "actor/supervisor"],
    [
        "io/descriptor", "io/buffer", "base/bytes", "net/endpoint", "io/stream", "net", "net/tcp", "net/udp", "net/unix",
        "net/serve",
    ],
    ["file", "signal", "process", "offload", "dns"],
    ["sim/world", "observe", "sim/simulate", "sim/buggify"],
    ["testing"],
    ["rondo"],
    ["interop"],
]

# A source has the layer of the header it is named after, if there is one. These alone reach
# further up, to the layer named here.
SOURCE_LAYERS = {
    "base/assert": "loop/loop",  # what stops the program names the task that ran
    "base/error": "task/attempt",
    "task/failures": "task/group",
    "combine/children": "combine/joiner",
    "base/log": "loop/loop",
    "loop/engine": "task/task",
    "task/run": "task/await_tree",  # what a deadlock looks like
    "sync/owned_lock": "sync/condition",  # who waits for a lock again after a condition
    "loop/scope": "task/spawn",
}

# The backends know operations and nothing above; one file chooses among them.
BACKEND_FOLDERS = {"backend/epoll", "backend/uring", "backend/sim"}
MAY_INCLUDE_BACKENDS = {"loop/backend", "sim/world"}

# Slow to compile, or not portable: nothing that every user of rondo should have to read.
NOT_IN_PUBLIC_HEADERS = re.compile(
    r"sys/epoll\.h|sys/socket\.h|liburing(\.h|/.*)|linux/.*|thread|iostream|functional"
    r"|(spdlog|fmt|asio|nlohmann)(/.*|\.hpp)?"
)

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


class Tree:
    """The files below a root, and the layer of each."""

    def __init__(self, root):
        self.root = root.resolve()
        self.public = self.root / "include" / "rondo"
        self.lib = self.root / "lib"

    def rank(self, name, seen=()):
        """The layer of a public header, by its name without ending; None if it has none."""
        for rank, names in enumerate(LAYERS):
            if name in names or name.rsplit("/", 1)[0] in names:
                return rank
        header = self.public / f"{name}.hpp"
        if "/detail/" in name and header.exists() and name not in seen:
            return self.inherited(header, (*seen, name))
        return 0 if name in seen else None

    def inherited(self, path, seen=()):
        """The highest layer that a file includes, directly or not."""
        ranks = [0]
        for _, quoted, include in includes(path):
            name = name_of(include)
            if name:
                ranks.append(self.rank(name, seen) or 0)
            elif quoted:
                file = self.private(path, include)
                if file and file not in seen:
                    ranks.append(self.inherited(file, (*seen, path)))
        return max(ranks)

    def private(self, path, include):
        """The file of lib that an #include "..." in path means; None if there is none."""
        for folder in (path.parent, self.lib):
            file = (folder / include).resolve()
            if file.exists() and file.is_relative_to(self.lib):
                return file
        return None

    def rank_of_source(self, path):
        source = path.relative_to(self.lib).with_suffix("")
        folder, stem = source.parent.as_posix(), source.name
        if folder in BACKEND_FOLDERS:
            return self.rank("loop/backend")
        if path.suffix == ".cpp":
            for name in (SOURCE_LAYERS.get(str(source)), str(source), f"{folder}/detail/{stem}"):
                if name and self.rank(name) is not None:
                    return self.rank(name)
        return self.inherited(path)


def includes(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1) == '"', match.group(2)


def name_of(include):
    """include/rondo/x.hpp as seen by an #include line -> x; None if it is not ours."""
    match = re.fullmatch(r"rondo/(.+)\.hpp", include)
    return match and match.group(1)


def check(root):
    tree = Tree(root)
    problems = []
    edges = {}

    def arrow(place, own_rank, name):
        target = tree.rank(name)
        if target is None:
            problems.append(f"{place}: rondo/{name}.hpp has no layer; give it one in layers.py")
        elif target > own_rank:
            problems.append(f"{place}: rondo/{name}.hpp belongs to a layer above this file")

    for path in sorted(tree.public.rglob("*.hpp")):
        name = path.relative_to(tree.public).with_suffix("").as_posix()
        rank = tree.rank(name)
        where = path.relative_to(tree.root)
        if rank is None:
            problems.append(f"{where}: has no layer; give it one in layers.py")
            continue
        edges[name] = []
        for number, quoted, include in includes(path):
            place = f"{where}:{number}"
            target = name_of(include)
            if target:
                edges[name].append(target)
                arrow(place, rank, target)
            elif quoted:
                problems.append(f'{place}: "{include}" would not be found once installed')
            elif not name.startswith("interop/") and NOT_IN_PUBLIC_HEADERS.fullmatch(include):
                problems.append(f"{place}: <{include}> does not belong in a public header")

    for path in sorted([*tree.lib.rglob("*.cpp"), *tree.lib.rglob("*.hpp")]):
        folder = path.parent.relative_to(tree.lib).as_posix()
        rank = tree.rank_of_source(path)
        for number, quoted, include in includes(path):
            place = f"{path.relative_to(tree.root)}:{number}"
            target = name_of(include)
            if target:
                arrow(place, rank, target)
                continue
            if not quoted:
                continue
            file = tree.private(path, include)
            if not file:
                problems.append(f'{place}: "{include}" is not a file of lib')
                continue
            other = file.parent.relative_to(tree.lib).as_posix()
            if other in BACKEND_FOLDERS and other != folder:
                if f"{folder}/{path.stem}" not in MAY_INCLUDE_BACKENDS:
                    problems.append(f"{place}: only the file that chooses a backend may see this")
            elif tree.inherited(file) > rank:
                problems.append(f'{place}: "{include}" belongs to a layer above this file')

    return problems + circles(edges)


def circles(edges):
    done, path = set(), []

    def visit(name):
        if name in path:
            return ["a circle: " + " -> ".join([*path[path.index(name) :], name])]
        if name in done:
            return []
        path.append(name)
        found = [circle for target in edges.get(name, []) for circle in visit(target)]
        path.pop()
        done.add(name)
        return found

    return [circle for name in edges for circle in visit(name)]


def self_test():
    import tempfile

    def problems(**files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = Path(folder) / name.replace("__", "/").replace("_DOT_", ".")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return check(Path(folder))

    def header(name):
        return f"#include <rondo/{name}.hpp>\n"

    good = {
        "include__rondo__base__detail__list_DOT_hpp": "#include <cstddef>\n",
        "include__rondo__loop__op_DOT_hpp": header("base/detail/list"),
        "include__rondo__loop__backend_DOT_hpp": header("loop/op"),
        "include__rondo__loop__loop_DOT_hpp": header("loop/backend"),
        "include__rondo__interop__log_DOT_hpp": header("loop/loop") + "#include <spdlog/spdlog.h>\n",
        "lib__backend__epoll__epoll_DOT_hpp": header("loop/backend"),
        "lib__backend__epoll__epoll_DOT_cpp": '#include "epoll.hpp"\n#include <sys/epoll.h>\n',
        "lib__loop__backend_DOT_cpp": header("loop/backend") + '#include "backend/epoll/epoll.hpp"\n',
        "lib__loop__loop_DOT_cpp": header("loop/loop"),
        "lib__loop__inbox_DOT_hpp": header("loop/op"),
        "lib__loop__remote_DOT_hpp": header("loop/loop") + '#include "inbox.hpp"\n',
        "lib__loop__remote_DOT_cpp": '#include "remote.hpp"\n',
    }
    assert problems(**good) == [], problems(**good)

    bad = [
        ("include__rondo__loop__op_DOT_hpp", header("loop/loop")),
        ("include__rondo__loop__op_DOT_hpp", "#include <thread>\n"),
        ("include__rondo__loop__op_DOT_hpp", "#  include <sys/socket.h>\n"),
        ("include__rondo__loop__op_DOT_hpp", "#include <fmt/core.h>\n"),
        ("include__rondo__loop__op_DOT_hpp", "#include <asio.hpp>\n"),
        ("include__rondo__loop__op_DOT_hpp", '#include "detail/list.hpp"\n'),
        ("include__rondo__unheard_of_DOT_hpp", ""),
        ("include__rondo__base__detail__list_DOT_hpp", header("loop/loop")),
        ("include__rondo__io__stream_DOT_hpp", header("interop/log")),
        ("lib__backend__epoll__epoll_DOT_cpp", header("loop/loop")),
        ("lib__loop__loop_DOT_cpp", '#include "backend/epoll/epoll.hpp"\n'),
        ("lib__backend__uring__uring_DOT_cpp", '#include "../epoll/epoll.hpp"\n'),
        ("lib__loop__loop_DOT_cpp", '#include "missing.hpp"\n'),
        ("lib__loop__op_DOT_cpp", '#include "remote.hpp"\n'),
        ("lib__backend__epoll__epoll_DOT_cpp", '#include "loop/remote.hpp"\n'),
    ]
    for name, text in bad:
        assert problems(**{**good, name: text}), (name, text)
    circle = {
        "include__rondo__task__group_DOT_hpp": header("task/scope"),
        "include__rondo__task__scope_DOT_hpp": header("task/group"),
    }
    assert len(problems(**good, **circle)) == 1
    print(f"{len(bad) + 2} trees were judged rightly")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    problems = check(Path(sys.argv[1]))
    print("\n".join(problems) or "all arrows point one way")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
