// Supervisors: order, restarts, limits, ends. Cases of OTP's supervisor_SUITE and Akka's SupervisionSpec are named.
#include "support/every_step.hpp"

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
    for (int i = 0; i < 20; ++i) co_await yield();
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

TEST_CASE("supervisor: starts in order, one_for_one restarts the one that failed, stops in the reverse order") {
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

}  // namespace
