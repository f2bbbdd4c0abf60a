"""Compiles what must not compile, and looks for the message that says why. Where people stumble, that message must be
the first error, since it is the one that is read.

    refused.py ROOT COMPILER...
"""

import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from compiling import precompile, try_compile, try_each

PRELUDE = """\
#include <rondo/rondo.hpp>
#include <rondo/actor/supervisor.hpp>
#include <functional>
#include <variant>
using namespace rondo;
using namespace std::chrono_literals;
task<std::error_code> last_error() { co_return std::error_code{}; }
struct alignas(32) wide { char bytes[32]; };
task<> takes(wide) { co_return; }
task<int> answer() { co_return 42; }
struct worker { task<> work(int) { co_return; } };
struct letter { std::string to; int pages = 0; };
task<> child(int) { co_return; }
struct ping {};
struct pong : request<int> {};
struct half_deaf {  // an actor
    using message = std::variant<ping, pong>;
    int on(pong&) { return 1; }
};
struct no_copy {
    explicit no_copy(int) {}
    no_copy(no_copy&&) = default;
    no_copy& operator=(no_copy&&) = default;
};
task<no_copy> makes() { co_return no_copy(1); }
struct foreign {  // a coroutine that no loop runs
    struct promise_type {
        foreign get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() {}
    };
};
"""

FINE = """
task<> f() { const std::error_code e = co_await last_error(); static_cast<void>(e); }
auto f(worker& w) { return spawn(&worker::work, &w, 1); }
task<> f(channel<letter>& c, letter& l) {
    co_await c.emplace(std::string(), 1);
    co_await c.send_from(l);
    co_await c.send(l);
}
task<no_copy> first_of() { co_return (co_await when_any(makes(), makes())).value(); }
task<no_copy> second_of() { co_return (co_await when_any(makes(), makes())).get<1>(); }
task<no_copy> next_of() {
    co_return co_await as_completed(std::vector<task<no_copy>>(), [](auto& next) -> task<no_copy> {
        auto one = co_await next.next();
        co_return std::move(*one).value();
    });
}
int f(const result<int>& r) { return r.value_or(7); }
task<> f(mutex& m) { auto lock = m.lock(); const auto held = co_await lock; }
auto f(supervisor& s, worker& w) { return s.start(&worker::work, &w, 1); }
"""

FOREIGN = "(task<T>) can await this"
AWAITED_BY_OTHERS = [
    "last_error()", "sleep_for(std::chrono::seconds(1))", "yield()", "immediate()", "spawn(last_error)",
    "wait_readable(0)", "s.read_some(c)", "s.receive()", "s.write_all(c)", "s.close()", "s.release()",
    'tcp_stream::connect("::1", 1)',
]

CANNOT_BE_PUT_BACK = [
    "s.read_some(c)", "s.read_exactly(c)", "s.write_some(c)", "s.write_all(c)", "s.close()", "s.release()",
    'tcp_stream::connect("::1", 1)', "attempt(s.read_some(c))", "yield()",
]
# What g++ 12 would destroy twice; other compilers take it. (awaited, part of the message)
REFUSED_BY_GCC12 = [
    ("""task<> f(channel<letter>& c, channel<std::function<void()>>& calls, queue<letter>& q, actor_ref<letter> a,
    broadcast<letter>& b, letter& l) { co_await %s; }""" % what, message)
    for what, message in (
        ("c.send(letter{})", "say send_from(name)"),
        ("c.send(std::move(l))", "say send_from(name)"),
        ("q.put(std::move(l))", "say put_from(name)"),
        ("a.tell(std::move(l))", "pass the name as it is"),
        ("b.send(std::move(l))", "pass the name as it is"),
        ("c.emplace(letter{})", "GCC 12 destroys this value twice"),
        ("calls.send([l] {})", "GCC 12 destroys this value twice"),
    )
]
IS_GCC12 = "#if RONDO_GCC12\n#error it is\n#endif"

# Where people stumble: (text, part of the first error)
STUMBLED = [
    ("auto f() { return spawn(child(1)); }", "give the function, not its task: spawn(child, 1)"),
    ("auto f(task_group& g) { return g.spawn(child(1)); }", "give the function, not its task: spawn(child, 1)"),
    ("void f() { run(child(1)); }", "give the function, not its task: spawn(child, 1)"),
    ("task<> f(supervisor& s) { co_await s.start(child(1)); }", "give the function, not its task: start(child, 1)"),
    ("auto f() { return spawn([] {}); }", "the function must give a task"),
    ("auto f() { return spawn([](int) -> task<> { co_return; }, nullptr); }",
     "cannot be called with these arguments"),
    ("auto f() { return spawn(&worker::work, 1); }", "spawn(&type::function, &object, args...)"),
    ("auto f() { return spawn(&worker::work); }", "spawn(&type::function, &object, args...)"),
    ("task<> f() { co_await with_task_group([](task_group&) {}); }", "the function must give a task"),
    ("task<> f() { co_await with_task_group([]() -> task<> { co_return; }); }", "a body takes its group or scope"),
    ("task<> f() { co_await with_supervisor_group([](supervisor_group&) {}); }", "the function must give a task"),
    ("task<> f() { co_await with_supervisor([](supervisor&) {}); }", "the function must give a task"),
    ("task<> f() { co_await with_cancel_scope([](cancel_scope&) {}); }", "the function must give a task"),
    ("task<> f() { co_await with_timeout(1s, [] {}); }", "the function must give a task"),
    ("task<> f() { co_await with_timeout(1s, child); }", "cannot be called with these arguments"),
    ("task<> f() { co_await retry({}, [] {}); }", "the function must give a task"),
    ("task<> f(supervisor& s) { co_await s.start([] {}); }", "the function of a child must give a task<>"),
    ("task<> f(supervisor& s) { co_await s.start(child); }", "cannot be called with these arguments"),
    ("auto f() { return spawn_actor<half_deaf>(); }", "the actor has no on(T&) for this T"),
    ("task<> f(channel<int>& c) { co_await select_one(with_timeout(1s, c.receive())); }",
     "with_timeout() is no arm of select_one"),
    ("task<> f(channel<int>& c) { co_await select_one(c.receive(), with_timeout(1s, child, 1)); }",
     "with_timeout() is no arm of select_one"),
    ("task<> f() { co_await select_one(child(1)); }", "cannot put back what a task has done"),
    ("int f(const result<no_copy>& r) { r.value_or(1); return 0; }", "copies the value: std::move(it).value_or(...)"),
    ("supervisor_options f(std::string s) { return {.on_restart = [s](const restart_notice&) {}}; }",
     "captures at most two references or pointers"),
]

# What is warned of.
WARNED = [
    ("task<> f(mutex& m) { auto lock = m.lock(); co_return; }", "unused variable"),
    ("task<> f(shared_mutex& m) { auto lock = m.lock_shared(); co_return; }", "unused variable"),
    ("task<> f(semaphore& s) { auto permit = s.acquire(); co_return; }", "unused variable"),
    ("task<> f() { auto never_run = child(1); co_return; }", "unused variable"),
    ("task<> f() { child(1); co_return; }", "a task does nothing until it is awaited"),
]

# (text, part of the message)
REFUSED = WARNED + [
    ("result<std::error_code> r{std::error_code()};", "whose value is an error code"),
    ("result<std::errc> r{std::errc()};", "whose value is an error code"),
    ("task<> f() { auto r = co_await attempt(last_error()); }", "whose value is an error code"),
    ("task<> f(task_handle<std::error_code>& h) { auto r = co_await attempt(h); }",
     "whose value is an error code"),
    ("auto f() { return spawn(takes, wide{}); }", "aligned to 16 bytes at most"),
    ("auto f(worker& w) { return spawn(&worker::work, &w); }", "member function cannot be called on that"),
    ("auto f() { return spawn([] { return 1; }); }", "must give a task"),
    ("void f() { run([] {}); }", "must give a task"),
    ("task<> f(tcp_listener& l) { co_await serve(l, [](tcp_stream&) {}); }", "must give a task"),
    ("auto f() { return attempt(7); }", "attempt takes a task"),
    ("task<> f() { auto a = attempt(with_timeout(std::chrono::seconds(1), answer)); co_await a; }",
     "deleted"),
    *((f"task<> f(tcp_stream& s, char (&c)[4]) {{ co_await select_one({what}, sleep_for(std::chrono::seconds(1))); }}",
       "cannot put back what this wait has done")
      for what in CANNOT_BE_PUT_BACK),
    ("task<> f() { co_await select_one(last_error()); }", "cannot put back what a task has done"),
    ("task<> f() { auto w = immediate(); co_await select_one(w); }", "takes the waits themselves"),
    ("channel<int&> c;", "a channel carries values"),
    ("struct slow { slow(slow&&) {} }; channel<slow> c;", "must move without throwing"),
    ("channel<wide> c;", "aligned to 16 bytes at most"),
    ("task<> f(channel<letter>& c) { co_await c.send({{}, 1}); }", "no matching"),
    ("queue<int&> q(1);", "a queue carries values"),
    ("struct slow { slow(slow&&) {} }; queue<slow> q(1);", "must move without throwing"),
    ("queue<int> q;", "no matching"),
    ("auto f(tcp_stream& s, const std::vector<char>& v) { return s.read_some(v); }", "writable_bytes"),
    ("auto f(tcp_stream& s) { return s.read_some(std::vector<char>(4)); }", "writable_bytes"),
    ("auto f(tcp_stream& s, std::vector<int>& v) { return s.write_some(v); }", "bytes_view"),
    ("auto f(task<int>& t) { return when_all(t); }", "a task is handed over: std::move it"),
    ("auto f(std::vector<task<int>>& t) { return when_all(t); }", "a range of tasks is handed over: std::move it"),
    ("auto f(task<int> a, task<> b) { return join(joiners::quorum<int>(1), std::move(a), std::move(b)); }",
     "value_type is not what the child gives"),
    ("auto f(task<int&> t) { return all_settled(std::move(t)); }", "an outcome holds no reference"),
    ("task<> f(task<int> a, task<> b) { auto any = co_await when_any(std::move(a), std::move(b)); any.value(); }",
     "the children give different types"),
    ("task<> f(actor_ref<int> a) { co_await a.ask(1); }", "what is asked derives from rondo::request"),
    *((f"foreign f(tcp_stream& s, char (&c)[4]) {{ co_await {what}; }}", FOREIGN)
      for what in AWAITED_BY_OTHERS),
]


def first_error(said):
    return next((line for line in said.splitlines() if re.search(r"\berror: ", line)), said)


def main():
    root, compiler = Path(sys.argv[1]), sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        include = ["-I", str(root / "include")]
        prelude = Path(folder) / "prelude.hpp"
        prelude.write_text(PRELUDE)
        clang = "clang" in Path(compiler[-1]).name
        compiled = Path(folder) / ("prelude.pch" if clang else "prelude.hpp.gch")
        said = precompile(compiler, prelude, compiled, include)
        use = ["-include-pch", str(compiled)] if clang else ["-include", str(prelude)]
        said = said or try_compile(compiler, FINE, [*include, *use])
        stumbled = STUMBLED
        if try_compile(compiler, IS_GCC12, [*include, *use]):
            stumbled = STUMBLED + REFUSED_BY_GCC12
        else:
            said = said or "".join(try_compile(compiler, text, [*include, *use]) for text, _ in REFUSED_BY_GCC12)
        if said:
            print(f"what must compile does not:\n{said}")
            return 1

        failed = 0
        for (text, message), said in try_each(
            lambda case: try_compile(compiler, case[0], [*include, *use]), stumbled + REFUSED
        ):
            if (text, message) in stumbled:
                said = first_error(said)
            if message not in said:
                failed += 1
                print(f"{text}\nis not refused with '{message}', but: {said or 'compiles'}\n")
    print(f"{len(stumbled + REFUSED)} texts, {failed} of them not refused as they should be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
