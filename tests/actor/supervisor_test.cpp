// Supervisors: order, restarts, limits, ends. Cases of OTP's supervisor_SUITE and Akka's SupervisionSpec are named.
#include <rondo/actor/supervisor.hpp>

#include "support/every_step.hpp"
#include "support/growth.hpp"

#include <algorithm>
#include <memory>
#include <random>
#include <variant>

using namespace rondo;
using test::journal;
using test::run;
using namespace std::chrono_literals;

namespace {

/// A child under remote control: says when it starts and ends, and fails or ends when told.
struct remote_child {
    std::string name;
    op* slot = nullptr;
    bool fails = false;
    bool ends = false;
    int starts = 0;
    void fail() {
        fails = true;
        detail::wake_slot(slot);
    }
    void end() {
        ends = true;
        detail::wake_slot(slot);
    }
};

task<> remote(remote_child* c, journal* j) {
    j->add(c->name + "+");
    ++c->starts;
    c->fails = c->ends = false;
    try {
        while (!c->fails && !c->ends) co_await detail::slot_wait(c->slot, "a command");
    } catch (const cancelled&) {
        j->add(c->name + "-");
        throw;
    }
    if (c->fails) {
        j->add(c->name + "!");
        throw std::runtime_error(c->name + " failed");
    }
    j->add(c->name + ".");
}

/// Long enough for everything that is ready.
task<> settle() {
    for (int i = 0; i < 20; ++i) co_await test::others_first();
}

struct three {
    journal j;
    remote_child a{.name = "a"}, b{.name = "b"}, c{.name = "c"};
    task<> start(supervisor& s, restart how = restart::permanent) {
        co_await s.start({.name = "a", .restart = how}, remote, &a, &j);
        co_await s.start({.name = "b", .restart = how}, remote, &b, &j);
        co_await s.start({.name = "c", .restart = how}, remote, &c, &j);
        co_await settle();
    }
};

template <class Body>
task<std::string> supervise(Body& body, supervisor_options options) {
    std::string ended = "normal";
    try {
        co_await with_supervisor(body, options);
    } catch (const supervisor_gave_up& e) {
        ended = e.what();
    }
    co_return ended;
}

TEST_CASE("supervisor: starts in order, one_for_one restarts the one that failed, stops in the reverse order" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            three t;
            const auto work = [&](supervisor& s) -> task<> {
                co_await t.start(s);
                t.b.fail();
                co_await settle();
                CHECK(t.j.text() == "a+ b+ c+ b! b+");
                const auto all = s.which_children();
                CHECK(all.size() == 3);
                CHECK(all[1].name == "b");
                CHECK(all[1].restarts == 1);
                CHECK(all[1].state == child_state::running);
            };
            const std::string ended = co_await supervise(work, {});
            CHECK(ended == "normal");
            CHECK(t.j.text() == "a+ b+ c+ b! b+ c- b- a-");
        }
    };
    run(local::body);
}

// --- OTP: supervisor_SUITE -----------------------------------------------------------------------------

TEST_CASE("supervisor: OTP one_for_all: all others stop in the reverse order, and all start in order" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            three t;
            const auto work = [&](supervisor& s) -> task<> {
                co_await t.start(s);
                t.b.fail();
                co_await settle();
            };
            const std::string ended = co_await supervise(work, {.how = strategy::one_for_all});
            CHECK(ended == "normal");
            CHECK(t.j.text() == "a+ b+ c+ b! c- a- a+ b+ c+ c- b- a-");
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: OTP rest_for_one: those started after the one that failed are restarted with it" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            three t;
            const auto work = [&](supervisor& s) -> task<> {
                co_await t.start(s);
                t.b.fail();
                co_await settle();
            };
            const std::string ended = co_await supervise(work, {.how = strategy::rest_for_one});
            CHECK(ended == "normal");
            CHECK(t.j.text() == "a+ b+ c+ b! c- b+ c+ c- b- a-");
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: OTP permanent, transient and temporary children, after an end and after a failure") {
    struct local {
        static task<int> starts_of(restart how, bool fails, std::size_t& known) {
            journal j;
            remote_child c{.name = "c"};
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start({.restart = how}, remote, &c, &j);
                co_await settle();
                if (fails) {
                    c.fail();
                } else {
                    c.end();
                }
                co_await settle();
                known = s.which_children().size();
            };
            co_await with_supervisor(work);
            co_return c.starts;
        }
        static task<> body() {
            struct row {
                restart how;
                bool fails;
                int starts;
                std::size_t known;
            };
            for (const row& r : std::vector<row>{{restart::permanent, false, 2, 1},
                                                 {restart::permanent, true, 2, 1},
                                                 {restart::transient, false, 1, 1},
                                                 {restart::transient, true, 2, 1},
                                                 {restart::temporary, false, 1, 0},
                                                 {restart::temporary, true, 1, 0}}) {
                std::size_t known = 9;
                const int starts = co_await starts_of(r.how, r.fails, known);
                CAPTURE(r.fails);
                CHECK(starts == r.starts);
                CHECK(known == r.known);
            }
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: OTP a temporary child that a sibling takes down is not restarted, and forgotten" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            three t;
            remote_child d{.name = "d"};
            const auto work = [&](supervisor& s) -> task<> {
                co_await t.start(s);
                co_await s.start({.name = "d", .restart = restart::temporary}, remote, &d, &t.j);
                co_await settle();
                t.a.fail();
                co_await settle();
                CHECK(s.which_children().size() == 3);
            };
            static_cast<void>(co_await supervise(work, {.how = strategy::one_for_all}));
            CHECK(t.j.text() == "a+ b+ c+ d+ a! d- c- b- a+ b+ c+ c- b- a-");
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: OTP intensity: more restarts than that within the period, and it gives up" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            three t;
            bool body_cancelled = false;
            const auto work = [&](supervisor& s) -> task<> {
                co_await t.start(s);
                try {
                    for (int i = 0; i < 3; ++i) {
                        t.b.fail();
                        co_await settle();
                    }
                } catch (const cancelled&) {
                    body_cancelled = true;
                    throw;
                }
            };
            const std::string ended = co_await supervise(work, {.intensity = 2, .period = 1h, .name = "test"});
            CHECK(ended ==
                  "supervisor test gave up on b: more than 2 restarts within 1 h 0 min; the last error: "
                  "std::runtime_error: b failed");
            CHECK(body_cancelled);
            CHECK(t.j.text() == "a+ b+ c+ b! b+ b! b+ b! c- a-");
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: OTP intensity 0 gives up at the first failure; the error is the child's") {
    struct local {
        static task<> fails() {
            co_await yield();
            throw std::system_error(std::make_error_code(std::errc::io_error));
        }
        static task<> body() {
            bool cause = false;
            try {
                co_await with_supervisor(
                    [](supervisor& s) -> task<> {
                        co_await s.start({}, fails);
                        co_await sleep_for(1h);
                    },
                    {.intensity = 0});
            } catch (const supervisor_gave_up& e) {
                try {
                    std::rethrow_exception(e.cause());
                } catch (const std::system_error& inner) {
                    cause = inner.code() == std::errc::io_error;
                }
            }
            CHECK(cause);
        }
    };
    run(local::body);
}

// Only in virtual time can a restart fall on the boundary.
TEST_CASE("supervisor: OTP the period's end is still in the period" * doctest::skip(!test::on_sim())) {
    struct local {
        static task<std::string> fail_after(duration d) {
            journal j;
            remote_child c{.name = "c"};
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start({.name = "c"}, remote, &c, &j);
                co_await settle();
                c.fail();
                co_await sleep_for(d);
                c.fail();
                co_await settle();
            };
            co_return co_await supervise(work, {.intensity = 1, .period = 5h});
        }
        static task<> body() {
            const std::string inside = co_await fail_after(5h);
            CHECK(inside.find("gave up on c") != std::string::npos);
            const std::string outside = co_await fail_after(5h + 1ns);
            CHECK(outside == "normal");
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: OTP a failed start is thrown, and the children started before stop in the reverse order" *
          doctest::test_suite("order")) {
    struct local {
        static task<> never_ready(supervised&) {
            co_await yield();
            throw std::runtime_error("cannot start");
        }
        static task<> body() {
            three t;
            std::string said;
            const auto work = [&](supervisor& s) -> task<> {
                co_await t.start(s);
                co_await s.start({.name = "bad"}, never_ready);
                t.j.add("unreachable");
            };
            try {
                co_await with_supervisor(work);
            } catch (const std::runtime_error& e) {
                said = e.what();
            }
            CHECK(said == "cannot start");
            CHECK(t.j.text() == "a+ b+ c+ c- b- a-");
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: a child that says when it is ready is waited for") {
    struct local {
        static task<> slow(supervised& self, journal& j) {
            j.add("slow+");
            co_await sleep_for(1ms);
            j.add("ready");
            self.ready();
            co_await sleep_for(1h);
        }
        static task<> next(journal& j) {
            j.add("next+");
            co_await sleep_for(1h);
        }
        static task<> body() {
            journal j;
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start({.shutdown = duration::zero()}, slow, std::ref(j));
                co_await s.start({}, next, std::ref(j));
                co_await settle();
            };
            co_await with_supervisor(work);
            CHECK(j.text() == "slow+ ready next+");
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: OTP a restart whose start fails counts again, and is tried again") {
    struct local {
        static task<> flaky(supervised& self, int* starts, remote_child* c, journal* j) {
            ++*starts;
            if (*starts == 2 || *starts == 3) throw std::runtime_error("not yet");
            self.ready();
            co_await remote(c, j);
        }
        static task<std::string> with_intensity(std::uint32_t n, int& starts) {
            journal j;
            remote_child c{.name = "c"};
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start({.name = "c", .shutdown = duration::zero()}, flaky, &starts, &c, &j);
                co_await settle();
                c.fail();
                co_await settle();
            };
            co_return co_await supervise(work, {.intensity = n, .period = 1h});
        }
        static task<> body() {
            int starts = 0;
            const std::string enough = co_await with_intensity(3, starts);
            CHECK(enough == "normal");
            CHECK(starts == 4);
            starts = 0;
            const std::string too_few = co_await with_intensity(2, starts);
            CHECK(too_few.find("not yet") != std::string::npos);
            CHECK(starts == 3);
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: OTP hanging_restart_loop: it can be stopped while a restart hangs, or fails for ever") {
    struct local {
        static task<> hangs(supervised& self, int* starts) {
            if (++*starts == 1) {
                self.ready();
                co_await yield();
                throw std::runtime_error("once");
            }
            co_await sleep_for(1h);
        }
        static task<> fails(supervised& self, int* starts) {
            if (++*starts == 1) self.ready();
            co_await yield();
            throw std::runtime_error("again");
        }
        static task<> stop_meanwhile(task<> (*child)(supervised&, int*), strategy how, int& starts) {
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start({.shutdown = duration::zero()}, child, &starts);
                for (int i = 0; i < 50; ++i) co_await yield();
            };
            co_await with_supervisor(work, {.how = how, .intensity = 1'000'000});
        }
    };
    for (strategy how : {strategy::one_for_one, strategy::one_for_all, strategy::rest_for_one}) {
        int starts = 0;
        run(local::stop_meanwhile, &local::hangs, how, std::ref(starts));
        CHECK(starts == 2);
        starts = 0;
        run(local::stop_meanwhile, &local::fails, how, std::ref(starts));
        CHECK(starts > 3);
    }
}

TEST_CASE("supervisor: a restart storm ends after as many restarts as are allowed (hazard F10: elle#1211)") {
    struct local {
        static task<> dies(int& starts) {
            ++starts;
            throw std::runtime_error("at once");
            co_return;
        }
        static task<> body() {
            int starts = 0;
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start({.name = "mayfly"}, dies, std::ref(starts));
                co_await sleep_for(1h);
            };
            const std::string ended = co_await supervise(work, {.intensity = 100, .period = 1h});
            CHECK(ended.find("gave up on mayfly") != std::string::npos);
            CHECK(starts == 101);
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: OTP shutdown: a child is asked to stop, and after its time cancelled") {
    struct local {
        static task<> obeys(supervised& self, journal& j) {
            self.ready();
            co_await self.stop_asked();
            CHECK(self.stopping());
            j.add("obeyed");
        }
        static task<> ignores(supervised& self, journal& j) {
            self.ready();
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
                j.add(self.stopping() ? "cancelled after its time" : "cancelled at once");
                throw;
            }
        }
        static task<> body() {
            journal j;
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start({.shutdown = duration::zero()}, ignores, std::ref(j));
                co_await s.start({.shutdown = 1ms}, ignores, std::ref(j));
                co_await s.start({.shutdown = duration::max()}, obeys, std::ref(j));
            };
            co_await with_supervisor(work);
            CHECK(j.text() == "obeyed cancelled after its time cancelled at once");
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: OTP auto_shutdown: any or all significant children that end end it" *
          doctest::test_suite("order")) {
    struct local {
        static task<std::string> end(auto_shutdown when, bool both) {
            journal j;
            remote_child a{.name = "a"}, b{.name = "b"}, c{.name = "c"};
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start({.restart = restart::transient, .significant = true}, remote, &a, &j);
                co_await s.start({.restart = restart::transient, .significant = true}, remote, &b, &j);
                co_await s.start({}, remote, &c, &j);
                co_await settle();
                a.end();
                co_await settle();
                if (both) b.end();
                co_await settle();
                j.add("body");
            };
            co_await with_supervisor(work, {.shutdown = when});
            co_return j.text();
        }
        static task<> body() {
            const std::string any = co_await end(auto_shutdown::any_significant, false);
            CHECK(any == "a+ b+ c+ a. c- b-");
            const std::string not_all = co_await end(auto_shutdown::all_significant, false);
            CHECK(not_all == "a+ b+ c+ a. body c- b-");
            const std::string all = co_await end(auto_shutdown::all_significant, true);
            CHECK(all == "a+ b+ c+ a. b. c-");
            const std::string off = co_await end(auto_shutdown::off, true);
            CHECK(off == "a+ b+ c+ a. b. body c-");
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: OTP simple_one_for_one: children come and go, and each is known") {
    struct local {
        static task<> body() {
            journal j;
            std::vector<std::unique_ptr<remote_child>> all;
            const auto work = [&](supervisor& s) -> task<> {
                std::vector<child_handle> handles;
                for (int i = 0; i < 100; ++i) {
                    all.push_back(std::make_unique<remote_child>(remote_child{.name = std::to_string(i)}));
                    auto h = co_await s.start({.name = all.back()->name, .restart = restart::temporary}, remote,
                                              all.back().get(), &j);
                    handles.push_back(std::move(h));
                }
                co_await settle();
                CHECK(s.which_children().size() == 100);
                co_await s.remove(handles[50]);
                CHECK(handles[50].state() == child_state::removed);
                co_await s.remove(handles[50]);
                all[51]->end();
                all[52]->fail();
                co_await settle();
                CHECK(s.which_children().size() == 97);
                co_await s.remove(handles[51]);  // forgotten already, as it was temporary
                CHECK(s.which_children().size() == 97);
                CHECK(handles[52].name() == "52");
            };
            co_await with_supervisor(work);
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: OTP terminate_child, restart_child, delete_child: stopped and kept, started again, forgotten" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            journal j;
            remote_child a{.name = "a"}, b{.name = "b"};
            const auto work = [&](supervisor& s) -> task<> {
                auto first = co_await s.start({.name = "a"}, remote, &a, &j);
                auto second = co_await s.start({.name = "b"}, remote, &b, &j);
                co_await settle();
                co_await s.terminate_child(first);
                CHECK(first.state() == child_state::terminated);
                CHECK(s.which_children().size() == 2);
                co_await s.terminate_child(first);  // no effect
                co_await settle();
                CHECK(j.text() == "a+ b+ a-");

                const auto running = co_await attempt(s.restart_child(second));
                CHECK(running.error() == std::errc::device_or_resource_busy);
                const auto in_use = co_await attempt(s.delete_child(second));
                CHECK(in_use.error() == std::errc::device_or_resource_busy);

                co_await s.restart_child(first);
                co_await settle();
                CHECK(first.state() == child_state::running);
                CHECK(first.restarts() == 1);
                CHECK(s.which_children()[0].name == "a");  // in its old place
                a.fail();                                   // and supervised as before
                co_await settle();
                CHECK(a.starts == 3);

                co_await s.terminate_child(first);
                co_await s.delete_child(first);
                CHECK(first.state() == child_state::removed);
                CHECK(s.which_children().size() == 1);
                co_await s.delete_child(first);  // no effect
                co_await s.terminate_child(first);
                const auto gone = co_await attempt(s.restart_child(first));
                CHECK(gone.error() == std::errc::no_such_process);
                const auto empty = co_await attempt(s.restart_child(child_handle()));
                CHECK(empty.error() == std::errc::no_such_process);
            };
            co_await with_supervisor(work, {.intensity = 1});  // what is done by hand is no failure
            CHECK(j.text() == "a+ b+ a- a+ a! a+ a- b-");
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: OTP terminate_child of a temporary one forgets it; one that has ended can be started again" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            journal j;
            remote_child a{.name = "a"}, b{.name = "b"};
            const auto work = [&](supervisor& s) -> task<> {
                auto passing = co_await s.start({.name = "a", .restart = restart::temporary}, remote, &a, &j);
                auto ending = co_await s.start({.name = "b", .restart = restart::transient}, remote, &b, &j);
                co_await settle();
                co_await s.terminate_child(passing);
                CHECK(passing.state() == child_state::removed);
                b.end();
                co_await settle();
                CHECK(ending.state() == child_state::ended);
                co_await s.restart_child(ending);
                co_await settle();
                CHECK(b.starts == 2);
                b.end();
                co_await settle();
                co_await s.delete_child(ending);
                CHECK(s.which_children().empty());
            };
            co_await with_supervisor(work);
            CHECK(j.text() == "a+ b+ a- b. b+ b.");
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: OTP one that was terminated is started again with the others, if that is the strategy") {
    struct local {
        static task<std::string> with(strategy how) {
            three t;
            remote_child d{.name = "d"};
            const auto work = [&](supervisor& s) -> task<> {
                co_await t.start(s);
                auto extra = co_await s.start({.name = "d"}, remote, &d, &t.j);
                co_await settle();
                co_await s.terminate_child(extra);
                t.b.fail();
                for (int i = 0; i < 4; ++i) co_await settle();
                t.j.add(extra.state() == child_state::running ? "again" : "still down");
            };
            co_await with_supervisor(work, {.how = how, .intensity = 5});
            co_return t.j.text();
        }
        static task<> body() {
            const std::string one = co_await with(strategy::one_for_one);
            CHECK(one.find("still down") != std::string::npos);
            const std::string rest = co_await with(strategy::rest_for_one);
            CHECK(rest.find("again") != std::string::npos);
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: restart_child throws what the start fails with, and the child is as before") {
    struct local {
        static task<> flaky(supervised& self, int* starts) {
            if (++*starts == 2) throw std::runtime_error("not yet");
            if (*starts == 3) co_return;
            self.ready();
            co_await self.stop_asked();
        }
        static task<> body() {
            int starts = 0;
            const auto work = [&](supervisor& s) -> task<> {
                auto c = co_await s.start({.name = "c"}, flaky, &starts);
                co_await s.terminate_child(c);
                std::string said;
                try {
                    co_await s.restart_child(c);
                } catch (const std::runtime_error& e) {
                    said = e.what();
                }
                CHECK(said == "not yet");
                CHECK(c.state() == child_state::terminated);
                const auto not_ready = co_await attempt(s.restart_child(c));
                CHECK(not_ready.error() == std::errc::operation_canceled);
                CHECK(c.state() == child_state::terminated);
                co_await s.restart_child(c);
                CHECK(c.state() == child_state::running);
                CHECK(starts == 4);
            };
            co_await with_supervisor(work, {.intensity = 0});
        }
    };
    run(local::body);
}

// Only in virtual time: it takes an hour.
TEST_CASE("supervisor: terminating one whose restart others wait for leaves them theirs" *
          doctest::skip(!test::on_sim())) {
    struct local {
        static task<> body() {
            three t;
            const auto work = [&](supervisor& s) -> task<> {
                auto first = co_await s.start({.name = "a", .backoff_min = 1h, .backoff_max = 1h}, remote, &t.a, &t.j);
                auto second = co_await s.start({.name = "b"}, remote, &t.b, &t.j);
                co_await settle();
                t.a.fail();
                co_await settle();
                CHECK(second.state() == child_state::waiting_to_restart);
                const auto waiting = co_await attempt(s.restart_child(first));
                CHECK(waiting.error() == std::errc::device_or_resource_busy);
                co_await s.terminate_child(first);
                CHECK(first.state() == child_state::terminated);
                co_await sleep_for(2h);
                CHECK(second.state() == child_state::running);
                CHECK(first.state() == child_state::terminated);
            };
            co_await with_supervisor(work, {.how = strategy::one_for_all, .intensity = 5});
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: a tree: one that gives up is restarted by the one above it, or takes that along") {
    struct local {
        static task<> subtree(remote_child* c, journal* j) {
            const auto work = [&](supervisor& s) -> task<> {
                j->add("sub+");
                co_await s.start({.name = c->name}, remote, c, j);
                co_await sleep_for(1h);
            };
            co_await with_supervisor(work, {.intensity = 1, .name = "inner"});
        }
        static task<> body() {
            journal j;
            remote_child c{.name = "c"};
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start({.name = "sub"}, subtree, &c, &j);
                co_await settle();
                for (int i = 0; i < 2; ++i) {
                    c.fail();
                    co_await settle();
                }
                CHECK(j.text() == "sub+ c+ c! c+ c! sub+ c+");
                for (int i = 0; i < 2; ++i) {
                    c.fail();
                    co_await settle();
                }
            };
            const std::string ended = co_await supervise(work, {.intensity = 1, .name = "outer"});
            CHECK(ended.find("supervisor outer gave up on sub") == 0);
            CHECK(ended.find("supervisor inner gave up on c") != std::string::npos);
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: what() of one that gave up keeps both ends of a long error: it does not grow with the levels") {
    struct local {
        static task<> level(int left) {
            if (left == 0) throw std::runtime_error("the first of all");
            const std::string name = "level-" + std::to_string(left);
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start(level, left - 1);
                co_await sleep_for(1h);
            };
            co_await with_supervisor(work, {.intensity = 0, .name = name.c_str()});
        }
        static task<> body() {
            std::size_t longest = 0;
            for (const int levels : {3, 10, 50}) {
                std::string said;
                try {
                    co_await level(levels);
                } catch (const supervisor_gave_up& e) {
                    said = e.what();
                }
                CHECK(said.starts_with("supervisor level-" + std::to_string(levels) +
                                       " gave up on a child: more than 0"));
                CHECK(said.ends_with("std::runtime_error: the first of all"));
                longest = std::max(longest, said.size());
            }
            CHECK(longest < 600);
        }
    };
    run(local::body);
}

// --- what it says --------------------------------------------------------------------------------------

/// What the library logs, and where, as long as this lives.
struct heard {
    heard() {
        detail::flush_log();  // what earlier tests have flooded is not this one's
        detail::pass_log_second();
        set_log_sink(
            [](const log_record& r, void* to) noexcept {
                auto& self = *static_cast<heard*>(to);
                self.text += std::string(name_of(r.level)) + ": " + std::string(r.message) + "\n";
                self.lines.push_back(r.place.line());
            },
            this);
    }
    ~heard() { set_log_sink(nullptr); }
    std::string text;
    std::vector<unsigned> lines;
};

task<> fails() {
    co_await yield();
    throw std::runtime_error("no luck");
}
task<> ends() { co_await yield(); }

TEST_CASE("supervisor: a restart is warned of, with the child's name and line, the error, the delay and the limit" *
          doctest::skip(!test::on_sim())) {
    struct local {
        static task<> body() {
            heard log;
            unsigned line = 0;
            const auto work = [&](supervisor& s) -> task<> {
                line = __LINE__ + 1;
                co_await s.start({.name = "w1", .backoff_min = 2s, .backoff_max = 2s}, fails);
                co_await sleep_for(1h);
            };
            const std::string ended = co_await supervise(work, {.intensity = 2, .period = 5min, .name = "top"});
            CHECK(log.text ==
                  "warning: supervisor top: restarts w1 in 2.0 s, 1 of 2 within 5 min 0 s, since it failed: "
                  "std::runtime_error: no luck\n"
                  "warning: supervisor top: restarts w1 in 2.0 s, 2 of 2 within 5 min 0 s, since it failed: "
                  "std::runtime_error: no luck\n");
            CHECK(log.lines == std::vector<unsigned>{line, line});
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: so is one at once, of a child without a name that has ended") {
    struct local {
        static task<> body() {
            heard log;
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start(ends);
                co_await sleep_for(1h);
            };
            static_cast<void>(co_await supervise(work, {}));
            CHECK(log.text ==
                  "warning: supervisor: restarts a child at once, 1 of 1 within 5.0 s, since it has ended\n");
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: on_restart is told instead of the log: a function, or a lambda with state" *
          doctest::skip(!test::on_sim())) {
    struct local {
        static task<> body() {
            heard log;
            std::vector<std::string> told;
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start({.name = "w1", .backoff_min = 2s, .backoff_max = 2s}, fails);
                co_await sleep_for(1h);
            };
            const auto note = [&told](const restart_notice& n) {
                told.push_back(std::string(n.supervisor) + " " + std::string(n.child) + " " +
                               std::to_string(n.delay / 1s) + " " + std::to_string(n.count) + "/" +
                               std::to_string(n.intensity) + " " + std::to_string(n.period / 1s) + " " +
                               detail::message_of(n.error));
                CHECK(n.place.line() != 0);
            };
            static_cast<void>(
                co_await supervise(work, {.intensity = 2, .period = 5min, .name = "top", .on_restart = note}));
            CHECK(log.text == "");
            CHECK(told == std::vector<std::string>{"top w1 2 1/2 300 std::runtime_error: no luck",
                                                   "top w1 2 2/2 300 std::runtime_error: no luck"});
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: decide may be a lambda with state") {
    struct local {
        static task<> body() {
            int asked = 0;
            const auto work = [&](supervisor& s) -> task<> {
                const auto stops = [&asked](const std::exception_ptr&) {
                    ++asked;
                    return decision::stop;
                };
                auto c = co_await s.start({.decide = stops}, fails);
                co_await settle();
                CHECK(c.state() == child_state::ended);
            };
            co_await with_supervisor(work);
            CHECK(asked == 1);
        }
    };
    run(local::body);
}

struct add {
    int n;
};
struct crash : request<> {};
struct sum : request<int> {};

struct adder {
    using message = std::variant<add, crash, sum>;
    void on(add& a) { total += a.n; }
    void on(crash&) { throw std::runtime_error("crash"); }
    int on(sum&) { return total; }
    explicit adder(int first) : total(first) {}
    int total;
};

// --- what may be a child -------------------------------------------------------------------------------

struct crew {
    int worked = 0;
    int asked = 0;
    task<> work(int by) {
        worked += by;
        co_await sleep_for(1h);
    }
    task<> attend(supervised& self, const int& by) {
        worked += by;
        self.ready();
        co_await self.stop_asked();
        ++asked;
    }
};

TEST_CASE(
    "supervisor: a member function may be a child, behind its object a supervised&; and options may be left out") {
    struct local {
        static task<> body() {
            crew all;
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start({.name = "work"}, &crew::work, &all, 1);
                co_await s.start(&crew::attend, std::ref(all), 10);
                auto copied = co_await s.start(&crew::work, crew(), 100);
                auto a = co_await s.start_actor<adder>(7);
                auto b = co_await s.start_actor(
                    [](mailbox<int>& box, int) -> task<> { static_cast<void>(co_await box.receive()); }, 1);
                const int total = co_await a.ask<sum>();
                CHECK(total == 7);
                CHECK(b.alive());
                co_await settle();
                CHECK(s.which_children().size() == 5);
            };
            co_await with_supervisor(work);
            CHECK(all.worked == 11);
            CHECK(all.asked == 1);
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: a cancel from outside stops the children in the reverse order, too, level by level" *
          doctest::test_suite("order")) {
    struct local {
        static task<> tree(three* t, remote_child* d) {
            const auto inner = [&](supervisor& s) -> task<> {
                co_await t->start(s);
                co_await sleep_for(1h);
            };
            const auto outer = [&](supervisor& s) -> task<> {
                co_await s.start({.name = "d"}, remote, d, &t->j);
                co_await s.start({.name = "sub"}, [&](int) -> task<> { co_await with_supervisor(inner); }, 0);
                co_await sleep_for(1h);
            };
            co_await with_supervisor(outer);
        }
        static task<> body() {
            three t;
            remote_child d{.name = "d"};
            auto running = spawn(tree, &t, &d);
            co_await settle();
            co_await settle();
            running.cancel();
            const auto ended = co_await attempt(running);
            CHECK_FALSE(ended);
            CHECK(t.j.text() == "d+ a+ b+ c+ c- b- a- d-");
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: in an ending one nothing is started any more") {
    struct local {
        static task<> late(supervisor& s, std::error_code& said) {
            co_await sleep_for(1ms);
            said = {};
            try {
                co_await shield([&]() -> task<> {
                    static_cast<void>(co_await s.start({}, [](supervised& self) -> task<> {
                        self.ready();
                        co_await self.stop_asked();
                    }));
                });
            } catch (const io_error& e) {
                said = e.code();
            }
        }
        static task<> starts_another(supervised& self, supervisor& s, std::error_code& said) {
            self.ready();
            co_await self.stop_asked();
            try {
                static_cast<void>(co_await s.start({}, late, std::ref(s), std::ref(said)));
            } catch (const io_error& e) {
                said = e.code();
            }
        }
        static task<> body() {
            std::error_code said;
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start({}, starts_another, std::ref(s), std::ref(said));
            };
            co_await with_supervisor(work);
            CHECK(said == std::errc::operation_canceled);
        }
    };
    run(local::body);
}

// --- back-off ------------------------------------------------------------------------------------------

TEST_CASE("supervisor: Akka restartWithBackoff: each wait is twice the last, up to a bound; others go on meanwhile" *
          doctest::skip(!test::on_sim())) {
    struct local {
        static task<> dies(std::vector<duration>& at) {
            at.push_back(now().time_since_epoch());
            co_await yield();
            throw std::runtime_error("again");
        }
        static task<> body() {
            std::vector<duration> at;
            journal j;
            remote_child other{.name = "o"};
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start({.name = "o"}, remote, &other, &j);
                co_await s.start({.backoff_min = 1h, .backoff_max = 5h}, dies, std::ref(at));
                co_await sleep_for(90min);
                other.fail();
                co_await settle();
                CHECK(j.text() == "o+ o! o+");
                co_await sleep_for(20h);
            };
            co_await with_supervisor(work, {.intensity = 100});
            REQUIRE(at.size() >= 6);
            std::vector<duration> waits;
            for (std::size_t i = 1; i < 6; ++i) waits.push_back(at[i] - at[i - 1]);
            CHECK(waits == std::vector<duration>{1h, 2h, 4h, 5h, 5h});
        }
    };
    run(local::body);
}

TEST_CASE("supervisor: back-off: the jitter comes from the loop's random numbers, so a seed replays it" *
          doctest::skip(!test::on_sim())) {
    struct local {
        static task<> dies(std::vector<duration>& at) {
            at.push_back(now().time_since_epoch());
            throw std::runtime_error("again");
            co_return;
        }
        static task<> body(std::vector<duration>& at) {
            const auto work = [&](supervisor& s) -> task<> {
                co_await s.start({.backoff_min = 1h, .backoff_max = 1h, .jitter = 0.5}, dies, std::ref(at));
                co_await sleep_for(20h);
            };
            co_await with_supervisor(work, {.intensity = 100});
        }
    };
    std::vector<duration> first, second;
    run(local::body, std::ref(first));
    run(local::body, std::ref(second));
    CHECK(first == second);
    CHECK(first.size() > 10);
    for (std::size_t i = 1; i < first.size(); ++i) {
        CHECK(first[i] - first[i - 1] >= 1h);
        CHECK(first[i] - first[i - 1] <= 90min);
    }
}

// Each look for the next one that is due went through all children, for each of them: with 10,000 in back-off
// the loop stood still for seconds.
TEST_CASE("supervisor: many children in back-off cost each as much as few") {
    struct local {
        static task<> fails() {
            co_await yield();
            throw std::runtime_error("again");
        }
        static task<> body(int n) {
            const auto work = [n](supervisor& s) -> task<> {
                for (int i = 0; i < n; ++i) co_await s.start({.backoff_min = 1h}, fails);
                while (!s.which_children().empty() &&
                       s.which_children().back().state != child_state::waiting_to_restart)
                    co_await immediate();
            };
            co_await with_supervisor(work, {.intensity = 1'000'000});
        }
    };
    CHECK(test::growth([](int n) { run(local::body, n); }, 500) < 30);
}

TEST_CASE("supervisor: of those due at one moment the one that was started first comes first; one removed does not" *
          doctest::test_suite("order") * doctest::skip(!test::on_sim())) {
    struct local {
        static task<> fails_once(int n, std::vector<int>& starts, std::vector<int>& order) {
            if (starts[static_cast<std::size_t>(n)]++ != 0) order.push_back(n);
            co_await sleep_for(std::chrono::milliseconds(1 + (n * 7) % 10));
            if (starts[static_cast<std::size_t>(n)] == 1) throw std::runtime_error("once");
            co_await sleep_for(10h);
        }
        static task<> body() {
            constexpr int many = 40;
            std::vector<int> starts(many), order, expected;
            const auto work = [&](supervisor& s) -> task<> {
                std::vector<child_handle> all;
                for (int n = 0; n < many; ++n) {
                    // due one second after the failure, which comes within ten milliseconds; every third in half of it
                    const duration wait = n % 3 == 0 ? 500ms : 1s;
                    all.push_back(
                        co_await s.start({.backoff_min = wait}, fails_once, n, std::ref(starts), std::ref(order)));
                }
                co_await sleep_for(100ms);
                for (int n = 0; n < many; n += 5) co_await s.remove(all[static_cast<std::size_t>(n)]);
                co_await sleep_for(5s);
            };
            co_await with_supervisor(work, {.intensity = 1000});
            const auto due = [](int n) { return (n % 3 == 0 ? 500 : 1000) + 1 + (n * 7) % 10; };
            for (int n = 0; n < many; ++n)
                if (n % 5 != 0) expected.push_back(n);
            std::sort(expected.begin(), expected.end(),
                      [&](int a, int b) { return std::pair(due(a), a) < std::pair(due(b), b); });
            CHECK(order == expected);
        }
    };
    run(local::body);
}

// Each restart looked at all of the period.
TEST_CASE("supervisor: a restart costs the same after many within the period, and so does a back-off of zero") {
    struct local {
        static task<> fails(int& left) {
            if (--left < 0) co_await sleep_for(24h);
            throw std::runtime_error("again");
        }
        static task<> body(int n) {
            const auto work = [&n](supervisor& s) -> task<> {
                co_await s.start({.backoff_max = 1h}, fails, std::ref(n));
                while (n >= 0) co_await immediate();
            };
            co_await with_supervisor(work, {.intensity = 1'000'000, .period = 24h});
        }
    };
    CHECK(test::growth([](int n) { run(local::body, n); }, 2000) < 30);
}

TEST_CASE("supervisor: many significant children that end one by one are counted, not looked at") {
    struct local {
        static task<> ends(event& at) { co_await at.wait(); }
        static task<> body(int n) {
            event at;
            const auto work = [&](supervisor& s) -> task<> {
                for (int i = 0; i < n; ++i)
                    co_await s.start({.restart = restart::transient, .significant = true}, ends, std::ref(at));
                at.set();
                co_await sleep_for(24h);
            };
            const auto started = now();
            static_cast<void>(co_await move_on_after(48h, [&]() -> task<> {
                co_await with_supervisor(work, {.shutdown = auto_shutdown::all_significant});
            }));
            CHECK(now() - started < 1h);  // the last one ended it
        }
    };
    CHECK(test::growth([](int n) { run(local::body, n); }, 2000) < 30);
}

// --- actors: Akka's SupervisionSpec --------------------------------------------------------------------

TEST_CASE("supervised actor: Akka restart: fresh state, same address, the failing message dropped, the others kept") {
    struct local {
        static task<> body() {
            const auto work = [](supervisor& s) -> task<> {
                auto a = co_await s.start_actor<adder>({.name = "adder"}, 100);
                co_await a.tell<add>(1);
                const int before = co_await a.ask<sum>();
                CHECK(before == 101);
                co_await a.tell<crash>();
                co_await a.tell<add>(2);
                const int after = co_await a.ask<sum>();
                CHECK(after == 102);
                CHECK(s.which_children()[0].restarts == 1);
                const auto asked = co_await attempt(a.ask<crash>());
                CHECK(asked.error() == std::errc::no_message_available);
            };
            co_await with_supervisor(work, {.intensity = 10});
        }
    };
    run(local::body);
}

TEST_CASE("supervised actor: Akka resume: the state is kept, the message is dropped") {
    struct local {
        static decision resume(const std::exception_ptr&) noexcept { return decision::resume; }
        static task<> body() {
            const auto work = [](supervisor& s) -> task<> {
                auto a = co_await s.start_actor<adder>({.decide = resume}, 0);
                for (int i = 0; i < 10; ++i) {
                    co_await a.tell<add>(1);
                    const auto asked = co_await attempt(a.ask<crash>());
                    CHECK(asked.error() == std::errc::no_message_available);
                }
                const int total = co_await a.ask<sum>();
                CHECK(total == 10);
                CHECK(s.which_children()[0].restarts == 0);
            };
            co_await with_supervisor(work);
        }
    };
    run(local::body);
}

TEST_CASE("supervised actor: Akka stop: it has ended, asks are answered at once; escalate: the supervisor has, too") {
    struct local {
        static decision stop(const std::exception_ptr&) noexcept { return decision::stop; }
        static decision escalate(const std::exception_ptr&) noexcept { return decision::escalate; }
        static task<> body() {
            const auto stops = [](supervisor& s) -> task<> {
                auto a = co_await s.start_actor<adder>({.decide = stop}, 0);
                co_await a.tell<crash>();
                const actor_exit exit = co_await a.ended();
                CHECK(exit.how == actor_exit::kind::failed);
                const auto asked = co_await attempt(a.ask<sum>());
                CHECK(asked.error() == std::errc::no_such_process);
                CHECK(s.which_children()[0].state == child_state::ended);
            };
            co_await with_supervisor(stops);
            const auto escalates = [](supervisor& s) -> task<> {
                auto a = co_await s.start_actor<adder>({.name = "adder", .decide = escalate}, 0);
                co_await a.tell<crash>();
                co_await sleep_for(1h);
            };
            const std::string ended = co_await supervise(escalates, {.intensity = 10});
            CHECK(ended.find("to be escalated") != std::string::npos);
        }
    };
    run(local::body);
}

TEST_CASE("supervised actor: messages wait while it is to be restarted, up to its capacity") {
    struct local {
        static task<> body() {
            const auto work = [](supervisor& s) -> task<> {
                auto a = co_await s.start_actor<adder>(
                    {.backoff_min = 1ms, .backoff_max = 1ms, .capacity = 2, .when_full = overflow::reject}, 0);
                co_await a.tell<crash>();
                co_await settle();
                int refused = 0;
                for (int i = 0; i < 5; ++i) {
                    const auto told = co_await attempt(a.tell<add>(1));
                    refused += !told;
                }
                CHECK(refused == 3);
                a.kill();  // nothing runs that could be
                co_await sleep_for(5ms);
                const int total = co_await a.ask<sum>();
                CHECK(total == 2);
            };
            co_await with_supervisor(work);
        }
    };
    run(local::body);
}

TEST_CASE("supervised actor: at the end it handles what it had got; removed, it is gone for good") {
    struct local {
        static task<> counts(mailbox<int>& box, int& count) {
            for (;;) {
                auto got = co_await box.receive();
                if (!got) co_return;
                co_await yield();
                ++count;
            }
        }
        static task<> body() {
            int count = 0, other = 0;
            actor_ref<int> kept;
            const auto work = [&](supervisor& s) -> task<> {
                kept = co_await s.start_actor({}, counts, std::ref(count));
                auto b = co_await s.start_actor({}, counts, std::ref(other));
                for (int i = 0; i < 10; ++i) {
                    co_await kept.tell(i);
                    co_await b.tell(i);
                }
                co_await s.remove(b);
                CHECK(other == 10);
                CHECK_FALSE(b.alive());
                co_await s.remove(b);
                CHECK(s.which_children().size() == 1);
            };
            co_await with_supervisor(work);
            CHECK(count == 10);
            CHECK_FALSE(kept.alive());
            CHECK(this_loop().stats().dead_letters == 0);
        }
    };
    run(local::body);
}

TEST_CASE("supervised actor: terminated, its address takes nothing; restarted, it goes on with what was left") {
    struct local {
        static task<> slow(mailbox<int>& box, std::vector<int>& seen) {
            for (;;) {
                auto got = co_await box.receive();
                if (!got) co_return;
                seen.push_back(*got);
                co_await sleep_for(1h);
            }
        }
        static task<> body() {
            std::vector<int> seen;
            const auto work = [&](supervisor& s) -> task<> {
                auto a = co_await s.start_actor({.name = "a", .shutdown = duration::zero()}, slow, std::ref(seen));
                for (int i = 1; i <= 3; ++i) co_await a.tell(i);
                co_await settle();
                co_await s.terminate_child(a);
                CHECK(a.alive());
                CHECK(a.size() == 2);
                const auto before = this_loop().stats().dead_letters;
                co_await a.tell(4);
                CHECK(this_loop().stats().dead_letters == before + 1);
                CHECK_FALSE(a.try_tell(5));
                co_await s.restart_child(a);
                co_await a.tell(6);
                co_await settle();
                CHECK(seen == std::vector<int>{1, 2});
                CHECK(a.size() == 2);
                co_await s.terminate_child(a);
                co_await s.delete_child(a);
                CHECK_FALSE(a.alive());
                CHECK(this_loop().stats().dead_letters == before + 3);
                const auto gone = co_await attempt(s.restart_child(a));
                CHECK(gone.error() == std::errc::no_such_process);
            };
            co_await with_supervisor(work);
        }
    };
    run(local::body);
}

TEST_CASE("supervised actor: killed, or stopped by its own, a permanent one is restarted") {
    struct local {
        static task<> body() {
            const auto work = [](supervisor& s) -> task<> {
                auto a = co_await s.start_actor<adder>({}, 7);
                co_await a.tell<add>(1);
                co_await settle();
                a.kill();
                const int fresh = co_await a.ask<sum>();
                CHECK(fresh == 7);
                a.stop();
                co_await settle();
                const int again = co_await a.ask<sum>();
                CHECK(again == 7);
                CHECK(s.which_children()[0].restarts == 2);
            };
            co_await with_supervisor(work, {.intensity = 10});
        }
    };
    run(local::body);
}

// --- cancel at every step ------------------------------------------------------------------------------

task<> a_tree_at_work() {
    struct local {
        static task<> flaky(supervised& self, int& starts) {
            co_await yield();
            if (++starts % 2 == 0) throw std::runtime_error("not this time");
            self.ready();
            co_await self.stop_asked();
        }
        static task<> inner(int& starts) {
            const auto work = [&](supervisor& s) -> task<> {
                auto a = co_await s.start_actor<adder>({.name = "adder", .shutdown = 1ms}, 0);
                co_await a.tell<crash>();
                static_cast<void>(co_await s.start({.shutdown = 1ms}, flaky, std::ref(starts)));
                const int total = co_await a.ask<sum>();
                if (total != 0) throw std::runtime_error("it has kept its state");
                co_await sleep_for(2ms);
            };
            co_await with_supervisor(work, {.how = strategy::one_for_all, .intensity = 100});
        }
    };
    int starts = 0;
    const auto work = [&](supervisor& s) -> task<> {
        auto h = co_await s.start({.restart = restart::transient}, local::inner, std::ref(starts));
        co_await sleep_for(1ms);
        co_await s.terminate_child(h);
        co_await s.restart_child(h);
        co_await s.terminate_child(h);
        co_await s.delete_child(h);
    };
    co_await with_supervisor(work, {.intensity = 100});
}

TEST_CASE("cancel at every step: a supervision tree") { CHECK(test::cancel_at_every_step(a_tree_at_work) > 0); }

// --- random programs -----------------------------------------------------------------------------------

// Children end and fail at random; a model says which of them run afterwards, and how often each has started.
struct model_child {
    restart how;
    int starts = 1;
    bool running = true;
    bool known = true;
    bool terminated = false;
};

void apply(std::vector<model_child>& all, strategy how, std::size_t at, bool failed) {
    model_child& c = all[at];
    if (c.how == restart::temporary || (c.how == restart::transient && !failed)) {
        c.running = false;
        if (c.how == restart::temporary) c.known = false;
        return;
    }
    ++c.starts;
    if (how == strategy::one_for_one) return;
    for (std::size_t i = 0; i < all.size(); ++i) {
        model_child& other = all[i];
        if (i == at || !(other.running || other.terminated) || (how == strategy::rest_for_one && i < at)) continue;
        if (other.how == restart::temporary) {
            other.running = other.known = false;
        } else {
            ++other.starts;
            other.running = true;
            other.terminated = false;
        }
    }
}

/// Terminates, restarts or deletes a child, by hand.
task<> by_hand(supervisor& s, const child_handle& c, model_child& model, std::size_t what) {
    if (what == 0) {
        co_await s.terminate_child(c);
        if (!model.running) co_return;
        model.running = false;
        model.terminated = model.how != restart::temporary;
        model.known = model.terminated;
    } else if (what == 1) {
        const auto r = co_await attempt(s.restart_child(c));
        CHECK(r.has_value() == (model.known && !model.running));
        CHECK((r || r.error() == (model.known ? std::errc::device_or_resource_busy : std::errc::no_such_process)));
        if (!r) co_return;
        ++model.starts;
        model.running = true;
        model.terminated = false;
    } else {
        const auto r = co_await attempt(s.delete_child(c));
        CHECK(r.has_value() == !model.running);
        if (!r) co_return;
        model.known = model.terminated = false;
    }
}

TEST_CASE("supervisor: random ends, failures and commands leave the children that the model says") {
    struct local {
        static task<> body(unsigned seed) {
            std::minstd_rand random(seed);
            const auto how = static_cast<strategy>(random() % 3);
            const std::size_t n = 1 + random() % 6;
            std::vector<std::unique_ptr<remote_child>> all;
            std::vector<model_child> model;
            std::vector<child_handle> handles;
            journal j;
            const auto work = [&](supervisor& s) -> task<> {
                for (std::size_t i = 0; i < n; ++i) {
                    all.push_back(std::make_unique<remote_child>(remote_child{.name = std::to_string(i)}));
                    model.push_back({static_cast<restart>(random() % 3)});
                    auto handle =
                        co_await s.start({.name = all[i]->name, .restart = model[i].how}, remote, all[i].get(), &j);
                    handles.push_back(std::move(handle));
                }
                co_await settle();
                for (int step = 0; step < 40; ++step) {
                    const std::size_t at = random() % n;
                    const std::size_t what = random() % 8;
                    if (what < 3) {
                        co_await by_hand(s, handles[at], model[at], what);
                    } else if (model[at].running) {
                        const bool fails = random() % 2 == 0;
                        if (fails) {
                            all[at]->fail();
                        } else {
                            all[at]->end();
                        }
                        apply(model, how, at, fails);
                    }
                    for (int i = 0; i < 4; ++i) co_await settle();
                    for (std::size_t i = 0; i < n; ++i) {
                        CHECK(all[i]->starts == model[i].starts);
                        CHECK((all[i]->slot != nullptr) == model[i].running);
                    }
                    CHECK(s.which_children().size() ==
                          std::size_t(
                              std::count_if(model.begin(), model.end(), [](const model_child& c) { return c.known; })));
                }
            };
            const auto say_nothing = [](const restart_notice&) {};
            co_await with_supervisor(work, {.how = how, .intensity = 1000, .on_restart = say_nothing});
            for (auto& each : all) CHECK(each->slot == nullptr);
        }
    };
    for (unsigned seed = 1; seed <= 150; ++seed) {
        CAPTURE(seed);
        run(local::body, seed);
    }
}

}  // namespace
