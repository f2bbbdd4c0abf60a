"""Tasks and await chains of a live process or a core file.

    gdb -p PID -ex 'source rondo-gdb.py' -ex 'rondo tree'
    gdb PROGRAM CORE -ex 'source rondo-gdb.py' -ex 'rondo tasks'

    rondo loops          the loops of the process
    rondo tasks [MAX]    every task in a line: where it was spawned, what it waits for, and where
    rondo tree [MAX]     the same by scope, with the whole chain of awaits

Only memory is read, nothing is called, so it works for a core as for a process that hangs. Every walk is
bounded (MAX tasks, 100 if not given), for what it reads may be damaged. Needs a library with debugging
information (-g, at any level of optimisation).
"""

import gdb

MOST_TASKS = 100
MOST_LEVELS = 50
MOST_LOOPS = 100

# What op_vtable::describe would say must not be called: the kinds of waits, by the table each points to.
WAITS = {
    "sleep_vtable": "sleep",
    "immediate_vtable": "the check phase",
    "join_op::table": "a task",
    "io_vtable": "I/O",
    "stream_vtable": "I/O",
    "accept_vtable": "I/O",
    "empty_awaiter::table": "the tasks of a scope",
    "queued_vtable": "ready to run",
}
IO_KINDS = ["accept on", "connect", "read", "read", "write", "write", "readable", "writable", "close"]


def text_of(pointer):
    """A C string of the program; not more of it than fits into a line."""
    try:
        return pointer.string(errors="replace", length=-1)[:120]
    except gdb.error:
        return "?"


def is_null(pointer):
    return int(pointer) == 0


def derived(pointer, type_name):
    """The object of that type of which *pointer is a base."""
    return pointer.cast(gdb.lookup_type(type_name).pointer())


def field(value, name):
    """A member, also of a base that is private or comes twice."""
    if value.type.strip_typedefs().code == gdb.TYPE_CODE_REF:
        value = value.referenced_value()
    for f in value.type.strip_typedefs().fields():
        if f.name == name:
            return value[f]
    for f in value.type.strip_typedefs().fields():
        if f.is_base_class:
            try:
                return field(value[f], name)
            except KeyError:
                pass
    raise KeyError(name)


def place_of(location):
    """file:line of a std::source_location, and the function, where the compiler knew it."""
    at = field(location, "_M_impl")
    if is_null(at):
        return "", ""
    at = at.dereference()
    line = int(at["_M_line"])
    if line == 0:
        return "", ""
    file = text_of(at["_M_file_name"])
    function = text_of(at["_M_function_name"]).split("(")[0].rsplit(" ", 1)[-1].replace("{anonymous}::", "")
    return f"{file.rsplit('/', 1)[-1]}:{line}", function


def is_library(location):
    at = field(location, "_M_impl")
    if is_null(at):
        return True
    file = text_of(at.dereference()["_M_file_name"])
    return file.startswith("rondo/") or "include/rondo/" in file


def name_of_symbol(address):
    """The symbol at exactly this address, without its namespaces."""
    said = gdb.execute(f"info symbol {int(address)}", to_string=True)
    return said.split(" in section")[0].strip() if "in section" in said else ""


def tasks_in(scope):
    """The fibers of a scope, in order."""
    fiber = gdb.lookup_type("rondo::detail::fiber")
    links = gdb.lookup_type("rondo::detail::links")
    base = next(f for f in fiber.fields() if f.is_base_class and f.name == "rondo::detail::links")
    offset = base.bitpos // 8
    head = field(field(scope, "tasks_"), "head_")
    end = int(head.address)
    at = field(head, "next_link")
    for _ in range(int(field(scope, "count_"))):
        if is_null(at) or int(at) == end:
            return
        yield gdb.Value(int(at) - offset).cast(fiber.pointer()).dereference()
        at = at.cast(links.pointer()).dereference()["next_link"]


def wait_of(fiber):
    waiting = field(fiber, "waiting")
    if is_null(field(fiber, "leaf")):
        return "not started"
    if is_null(waiting):
        return "running"
    op = waiting.dereference()
    if int(op["state"]) in (0, 3):  # idle, done
        return "ready to run"
    symbol = name_of_symbol(op["vt"])
    for ending, what in WAITS.items():
        if symbol.endswith(ending):
            try:
                return detailed(what, waiting)
            except (gdb.error, KeyError):
                return what
    return symbol or "something unknown"


def detailed(what, waiting):
    if what == "I/O":
        io = derived(waiting, "rondo::io_op").dereference()
        return f"{IO_KINDS[int(io['kind'])]} fd {int(io['fd'])}"
    if what == "a task":
        join = waiting.cast(gdb.lookup_type("rondo::detail::join_op").pointer()).dereference()
        return f"task {int(field(join['target'], 'id'))}"
    if what == "the tasks of a scope":
        awaiter = waiting.cast(gdb.lookup_type("rondo::detail::empty_awaiter").pointer()).dereference()
        return f"{int(field(awaiter['scope_'], 'count_'))} tasks"
    return what


def title_of(fiber):
    title = f"task {int(field(fiber, 'id'))}"
    more = field(fiber, "more")
    if not is_null(more):
        name = more.dereference()["name"]
        size = min(int(name["_M_string_length"]), 100)
        if size:
            text = name["_M_dataplus"]["_M_p"].string(errors="replace", length=size)
            title += " '" + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text) + "'"
    spawned, _ = place_of(field(fiber, "place"))
    if spawned.startswith("run.hpp:"):
        return title + "   the main task"
    return title + (f"   spawned at {spawned}" if spawned else "")


def scope_text(scope):
    text = text_of(field(scope, "kind_"))
    count = int(field(scope, "count_"))
    if count:
        text += f", {count} task{'' if count == 1 else 's'}"
    if bool(field(scope, "shielded_")):
        text += ", shielded"
    if bool(field(scope, "cancelled_")):
        reason = text_of(field(scope, "reason_"))
        text += ", cancelled" + (f": {reason}" if reason else "")
    return text


def chain_of(fiber, home):
    """The coroutines from the outermost to the innermost: (promise, scopes it has entered)."""
    levels = []
    at = field(fiber, "leaf")
    inside = field(fiber, "inside")
    while not is_null(at) and len(levels) < 4 * MOST_LEVELS:
        entered = []
        while not is_null(inside) and int(inside) != int(home.address) and len(entered) < MOST_LEVELS:
            scope = inside.dereference()
            if int(field(scope, "entered_by_")) != int(at):
                break
            entered.insert(0, scope)
            inside = field(scope, "parent_")
        levels.insert(0, (at.dereference(), entered))
        at = at.dereference()["parent"]
    return levels


def innermost_line(fiber):
    """The place of the innermost await that is the program's."""
    at = field(fiber, "leaf")
    for _ in range(MOST_LEVELS):
        if is_null(at):
            break
        promise = at.dereference()
        if not is_library(promise["site"]):
            return place_of(promise["site"])
        at = promise["parent"]
    return "", ""


class Printer:
    def __init__(self, most):
        self.left = most

    def tree(self, loop):
        """Depth first, with a stack of its own: the tree may be deeper than Python's."""
        work = [("tasks", field(loop, "root_"), 0)]
        while work:
            what, value, depth = work.pop()
            if what == "tasks":
                below = []
                rest = int(field(value, "count_"))
                for fiber in tasks_in(value):
                    if self.left == 0:
                        break
                    self.left -= 1
                    rest -= 1
                    below.append(("task", (fiber, value), depth))
                if rest:
                    below.append(("more", rest, depth))
                work += reversed(below)
            elif what == "more":
                print(f"{'  ' * depth}... and {value} more")
            else:
                self.task(*value, depth, work)

    def task(self, fiber, home, depth, work):
        print(f"{'  ' * depth}{title_of(fiber)}")
        lines = []  # [text, scopes]
        for promise, scopes in chain_of(fiber, home):
            if not is_library(promise["site"]) or (scopes and not lines):
                place, function = place_of(promise["site"])
                lines.append([f"{place}  {function}".rstrip(), []])
            if lines:
                lines[-1][1] += scopes
        lines = lines[-MOST_LEVELS:]
        if not lines:
            print(f"{'  ' * (depth + 1)}{wait_of(fiber)}")
        for i, (line, scopes) in enumerate(lines):
            depth += 1
            notes = [scope_text(s) for s in scopes]
            if i + 1 == len(lines):
                notes.append("waits: " + wait_of(fiber))
            print(f"{'  ' * depth}{line}" + ("   " + "; ".join(notes) if notes else ""))
            work += [("tasks", s, depth + 1) for s in scopes if int(field(s, "count_"))]

    def tasks(self, loop):
        for one in scopes_of(loop):
            for fiber in tasks_in(one):
                if self.left == 0:
                    break
                self.left -= 1
                place, function = innermost_line(fiber)
                where = f" at {place} {function}".rstrip() if place else ""
                print(f"{title_of(fiber)}   waits: {wait_of(fiber)}{where}")
        total = task_count(loop)
        if self.left == 0 and total:
            print(f"... {total} tasks in all")


def scopes_of(loop):
    """Those that hold tasks: all are in one list."""
    scope = gdb.lookup_type("rondo::detail::scope")
    base = next(f for f in scope.fields() if f.is_base_class and f.name == "rondo::detail::links")
    head = field(field(loop, "scopes_"), "head_")
    at = field(head, "next_link")
    while int(at) != int(head.address) and not is_null(at):
        yield gdb.Value(int(at) - base.bitpos // 8).cast(scope.pointer()).dereference()
        at = at.dereference()["next_link"]


def task_count(loop):
    return sum(int(field(s, "count_")) for s in scopes_of(loop))


def all_loops():
    # By its symbol, which is there even where gdb knows no variable of that name.
    loop_pointer = gdb.lookup_type("rondo::detail::engine").pointer()
    at = gdb.parse_and_eval("(long)&'_ZN5rondo6detail10every_loopE'").cast(loop_pointer.pointer()).dereference()
    for _ in range(MOST_LOOPS):
        if is_null(at):
            return
        loop = at.dereference()
        yield loop
        at = field(loop, "next_in_process_")


class RondoCommand(gdb.Command):
    """Tasks of the loops of this program: rondo loops, rondo tasks [MAX], rondo tree [MAX]."""

    def __init__(self):
        super().__init__("rondo", gdb.COMMAND_STATUS, gdb.COMPLETE_NONE)

    def invoke(self, arguments, _from_terminal):
        words = arguments.split()
        what = words[0] if words else "tree"
        most = int(words[1]) if len(words) > 1 and words[1].isdigit() else MOST_TASKS
        if what not in ("loops", "tasks", "tree"):
            raise gdb.GdbError("rondo loops | tasks [MAX] | tree [MAX]")
        try:
            loops = list(all_loops())
        except gdb.error as missing:
            raise gdb.GdbError(f"no rondo here, or no debugging information: {missing}") from None
        if not loops:
            print("there is no loop")
        for loop in loops:
            print(f"loop of thread {int(field(loop, 'thread_id_'))}: {task_count(loop)} tasks")
            if what == "tree":
                Printer(most).tree(loop)
            elif what == "tasks":
                Printer(most).tasks(loop)


RondoCommand()
