// Actors: messages, mailboxes, addresses and ends.
#include <rondo/actor/actor.hpp>

#include "support/every_step.hpp"
#include "support/growth.hpp"

#include <deque>
#include <memory>
#include <random>
#include <variant>

using namespace rondo;
using test::journal;
using test::run;
using namespace std::chrono_literals;

namespace {

/// For groups whose children are meant to fail.
void quiet(const std::exception_ptr&, std::source_location, void*) {}

struct deposit {
    int amount;
};
struct withdraw : request<bool> {
    int amount;
};
struct get_balance : request<int> {};

struct account {
    using message = std::variant<deposit, withdraw, get_balance>;
    void on(deposit& d) {
        if (d.amount < 0) throw std::runtime_error("a negative deposit");
        balance += d.amount;
    }
    bool on(withdraw& w) {
        if (w.amount > balance) return false;
        balance -= w.amount;
        return true;
    }
    int on(get_balance&) { return balance; }
    int balance = 0;
};

// --- telling and asking --------------------------------------------------------------------------------

TEST_CASE("actor: a behaviour handles what is told, and answers what is asked") {
    struct local {
        static task<> body() {
            auto alice = spawn_actor<account>();
            co_await alice.tell<deposit>(100);
            const bool enough = co_await alice.ask<withdraw>(30);
            CHECK(enough);
            const bool too_much = co_await alice.ask<withdraw>(100);
            CHECK_FALSE(too_much);
            const int left = co_await alice.ask<get_balance>();
            CHECK(left == 70);
        }
    };
    run(local::body);
}

// The Erlang form: a coroutine and its mailbox.
struct increment {
    int by;
};
struct get : request<int> {};
using count_message = std::variant<increment, get>;

task<> counter(mailbox<count_message>& box, int count) {
    for (;;) {
        auto got = co_await box.receive();
        if (!got) co_return;
        if (auto* i = std::get_if<increment>(&*got)) count += i->by;
        if (auto* g = std::get_if<get>(&*got)) g->reply(count);
    }
}

TEST_CASE("actor: a coroutine with a mailbox is one") {
    struct local {
        static task<> body() {
            auto c = spawn_actor({.name = "counter"}, counter, 40);
            CHECK(std::string(c.name()) == "counter");
            co_await c.tell<increment>(1);
            co_await c.tell<increment>(1);
            const int count = co_await c.ask<get>();
            CHECK(count == 42);
        }
    };
    run(local::body);
}

// Messages that are moved, and handlers that wait.
struct say {
    std::string text;
};
struct recite : request<std::string> {
    std::string title;
};
struct flush : request<> {};
struct poet {
    using message = std::variant<say, recite, flush>;
    task<> on(say& s) {
        co_await sleep_for(1ms);
        said += s.text;
    }
    task<std::string> on(recite& r) {
        co_await sleep_for(1ms);
        co_return r.title + ": " + said;
    }
    void on(flush&) { said += '.'; }
    explicit poet(std::string first) : said(std::move(first)) {}
    std::string said;
};

TEST_CASE("actor: a handler may wait; the next message waits for it") {
    struct local {
        static task<> body() {
            auto p = spawn_actor<poet>(std::string("a long beginning, on the heap "));
            co_await p.tell<say>("of something ");
            co_await p.tell<say>("still longer");
            co_await p.ask<flush>();
            const std::string said = co_await p.ask<recite>("poem");
            CHECK(said == "poem: a long beginning, on the heap of something still longer.");
        }
    };
    run(local::body);
}

TEST_CASE("actor: a reply may come later, and from elsewhere") {
    struct later {
        using message = get;
        void on(get& g) { kept = std::move(g); }
        std::optional<get>& kept;
        explicit later(std::optional<get>& k) : kept(k) {}
    };
    struct local {
        static task<> answer(std::optional<get>& kept) {
            co_await sleep_for(1ms);
            REQUIRE(kept);
            CHECK(kept->wanted());
            kept->reply(7);
            CHECK_FALSE(kept->wanted());
            kept->reply(8);  // nobody waits any more
        }
        static task<> body() {
            std::optional<get> kept;
            auto a = spawn_actor<later>(std::ref(kept));
            auto answering = spawn(answer, std::ref(kept));
            const int reply = co_await a.ask();
            CHECK(reply == 7);
            co_await answering;
        }
    };
    run(local::body);
}

TEST_CASE("actor: messages of one sender arrive in order, whatever the others do") {
    struct numbered {
        int sender, number;
    };
    struct local {
        static task<> sink(mailbox<numbered>& box, std::vector<int>& next, int& count) {
            for (;;) {
                auto got = co_await box.receive();
                if (!got) co_return;
                CHECK(next[std::size_t(got->sender)]++ == got->number);
                if (++count % 3 == 0) co_await yield();
            }
        }
        static task<> send(actor_ref<numbered> to, int sender) {
            for (int i = 0; i < 200; ++i) {
                co_await to.tell(sender, i);
                if ((i + sender) % 5 == 0) co_await yield();
            }
        }
        static task<> body() {
            std::vector<int> next(4);
            int count = 0;
            auto to = spawn_actor({.capacity = 3}, sink, std::ref(next), std::ref(count));
            {
                std::vector<task_handle<>> senders;
                for (int s = 0; s < 4; ++s) senders.push_back(spawn(send, to, s));
                for (auto& each : senders) co_await each;
            }
            to.stop();
            const actor_exit exit = co_await to.ended();
            CHECK(exit.how == actor_exit::kind::normal);
            CHECK(count == 800);
        }
    };
    run(local::body);
}

// --- asking in vain ------------------------------------------------------------------------------------

template <class E, class Ask>
task<bool> fails_with(Ask ask) {
    try {
        static_cast<void>(co_await ask());
    } catch (const E&) {
        co_return true;
    }
    co_return false;
}

TEST_CASE("ask: an actor that has ended answers `no such actor` at once") {
    struct local {
        static task<> body() {
            auto a = spawn_actor<account>();
            a.stop();
            co_await a.ended();
            CHECK_FALSE(a.alive());
            const time_point before = now();
            const auto reply = co_await attempt(a.ask<get_balance>());
            CHECK(reply.error() == std::errc::no_such_process);
            CHECK(now() == before);
            const auto ask = [&] { return a.ask<get_balance>(); };
            const bool thrown = co_await fails_with<no_such_actor>(ask);
            CHECK(thrown);
        }
    };
    run(local::body);
}

TEST_CASE("ask: what is in the mailbox when the actor ends is answered `no such actor`") {
    struct local {
        static task<> ask(actor_ref<account::message> a, journal& j) {
            const auto reply = co_await attempt(a.ask<get_balance>());
            j.add(reply.error() == std::errc::no_such_process ? "no-such-actor" : "?");
        }
        static task<> stubborn(mailbox<account::message>&) { co_await sleep_for(1h); }
        static task<> body() {
            journal j;
            // two fit, the third waits for room
            auto a = spawn_actor({.capacity = 2}, stubborn);
            auto one = spawn(ask, a, std::ref(j));
            auto two = spawn(ask, a, std::ref(j));
            auto three = spawn(ask, a, std::ref(j));
            co_await test::others_first();
            co_await test::others_first();
            CHECK(a.size() == 2);
            CHECK(a.box().waiting() == 1);
            a.kill();
            co_await one;
            co_await two;
            co_await three;
            CHECK(j.text() == "no-such-actor no-such-actor no-such-actor");
            CHECK(this_loop().stats().dead_letters == 0);
        }
    };
    run(local::body);
}

TEST_CASE("ask: an actor that lets go of the request, or fails in it, gives `no reply`") {
    struct fails {
        using message = get;
        int on(get&) { throw std::runtime_error("cannot"); }
    };
    struct ignores {
        using message = get;
        void on(get&) {}
    };
    struct local {
        static task<> body(supervisor_group& group) {
            auto f = spawn_actor<fails>({.in = &group});
            const auto failed = co_await attempt(f.ask());
            CHECK(failed.error() == std::errc::no_message_available);
            auto i = spawn_actor<ignores>({.in = &group});
            const auto ask = [&] { return i.ask(); };
            const bool ignored = co_await fails_with<no_reply>(ask);
            CHECK(ignored);
            CHECK(i.alive());
        }
        static task<> main() { co_await with_supervisor_group(body, {.on_error = quiet}); }
    };
    run(local::main);
}

TEST_CASE("ask: its deadline is that of a scope; the reply that comes too late is dropped") {
    struct slow {
        using message = get;
        task<int> on(get& g) {
            co_await sleep_for(5ms);
            wanted.push_back(g.wanted());
            co_return 1;
        }
        std::vector<bool>& wanted;
        explicit slow(std::vector<bool>& w) : wanted(w) {}
    };
    struct local {
        static task<int> ask(actor_ref<get> s) { co_return co_await s.ask(); }
        static task<> body() {
            std::vector<bool> wanted;
            auto s = spawn_actor<slow>(std::ref(wanted));
            const auto late = co_await move_on_after(1ms, ask, s);
            CHECK_FALSE(late);
            const auto in_time = co_await move_on_after(1h, ask, s);
            CHECK(in_time == 1);
            CHECK(wanted == std::vector<bool>{false, true});
        }
    };
    run(local::body);
}

// --- full mailboxes ------------------------------------------------------------------------------------

task<> drain(mailbox<int>& box, std::vector<int>& got, bool& open) {
    while (!open) co_await sleep_for(1ms);
    for (;;) {
        auto m = co_await box.receive();
        if (!m) co_return;
        got.push_back(*m);
    }
}

TEST_CASE("mailbox: with back-pressure a sender waits for room, and nobody overtakes" * doctest::test_suite("order")) {
    struct local {
        static task<> send(actor_ref<int> to, int from, int n, journal& j) {
            for (int i = 0; i < n; ++i) co_await to.tell(from + i);
            j.add(std::to_string(from));
        }
        static task<> body() {
            journal j;
            std::vector<int> got;
            bool open = false;
            auto a = spawn_actor({.capacity = 2}, drain, std::ref(got), std::ref(open));
            auto first = spawn(send, a, 10, 3, std::ref(j));
            auto second = spawn(send, a, 20, 1, std::ref(j));
            co_await sleep_for(2ms);
            CHECK(j.text().empty());
            CHECK(a.size() == 2);
            CHECK_FALSE(a.try_tell(30));
            open = true;
            co_await first;
            co_await second;
            a.stop();
            co_await a.ended();
            CHECK(got == std::vector{10, 11, 12, 20});
            CHECK(this_loop().stats().dead_letters == 0);
        }
    };
    run(local::body);
}

// What was moved into the message was destroyed with it, and its sender had nothing to try again with.
TEST_CASE("mailbox: a message that try_tell() cannot send is untouched") {
    struct parcel {
        std::unique_ptr<int> content;
    };
    struct local {
        static task<> sleep_on(mailbox<std::unique_ptr<int>>&) { co_await sleep_for(1h); }
        static task<> sleep_on_parcels(mailbox<std::variant<int, parcel>>&) { co_await sleep_for(1h); }
        static task<> body() {
            auto plain = spawn_actor({.capacity = 1}, sleep_on);
            auto chosen = spawn_actor({.capacity = 1}, sleep_on_parcels);
            auto value = std::make_unique<int>(1);
            CHECK(plain.try_tell(std::make_unique<int>(0)));
            CHECK(chosen.try_tell<int>(0));
            CHECK_FALSE(plain.try_tell(std::move(value)));
            REQUIRE(value != nullptr);
            parcel sent{std::move(value)};
            CHECK_FALSE(chosen.try_tell<parcel>(std::move(sent)));
            REQUIRE(sent.content != nullptr);
            plain.kill();
            chosen.kill();
            co_await plain.ended();
            co_await chosen.ended();
            CHECK_FALSE(plain.try_tell(std::move(sent.content)));  // it has ended
            CHECK_FALSE(chosen.try_tell<parcel>(std::move(sent)));
            CHECK(sent.content != nullptr);
        }
    };
    run(local::body);
}

TEST_CASE("mailbox: drop_newest, drop_oldest and reject keep what they say") {
    struct local {
        static task<std::vector<int>> fill(overflow policy, int& refused) {
            std::vector<int> got;
            bool open = false;
            auto a = spawn_actor({.capacity = 3, .when_full = policy}, drain, std::ref(got), std::ref(open));
            for (int i = 0; i < 6; ++i) {
                const auto told = co_await attempt(a.tell(i));
                if (told.error() == std::errc::no_buffer_space) ++refused;
            }
            open = true;
            a.stop();
            co_await a.ended();
            co_return got;
        }
        static task<> body() {
            const auto dead = [] { return this_loop().stats().dead_letters; };
            int refused = 0;
            std::vector<int> got = co_await fill(overflow::drop_newest, refused);
            CHECK(got == std::vector{0, 1, 2});
            CHECK(dead() == 3);
            got = co_await fill(overflow::drop_oldest, refused);
            CHECK(got == std::vector{3, 4, 5});
            CHECK(dead() == 6);
            CHECK(refused == 0);
            got = co_await fill(overflow::reject, refused);
            CHECK(got == std::vector{0, 1, 2});
            CHECK(dead() == 6);
            CHECK(refused == 3);
            bool open = false;
            auto full =
                spawn_actor({.capacity = 0, .when_full = overflow::reject}, drain, std::ref(got), std::ref(open));
            bool thrown = false;
            try {
                co_await full.tell(1);
            } catch (const mailbox_full&) {
                thrown = true;
            }
            full.kill();
            co_await full.ended();
            CHECK(thrown);
        }
    };
    run(local::body);
}

TEST_CASE("mailbox: an ask that is dropped is refused to who asked") {
    struct local {
        static task<> stubborn(mailbox<get>&) { co_await sleep_for(1h); }
        static task<> ask(actor_ref<get> a, std::error_code& said) { said = (co_await attempt(a.ask())).error(); }
        static task<> body() {
            for (overflow policy : {overflow::drop_newest, overflow::drop_oldest}) {
                std::error_code first, second;
                auto a = spawn_actor({.capacity = 1, .when_full = policy}, stubborn);
                auto one = spawn(ask, a, std::ref(first));
                co_await test::others_first();
                auto two = spawn(ask, a, std::ref(second));
                co_await test::others_first();
                co_await test::others_first();
                const std::error_code dropped = policy == overflow::drop_newest ? second : first;
                CHECK(dropped == std::errc::no_buffer_space);
                a.kill();
                co_await one;
                co_await two;
                CHECK(this_loop().stats().dead_letters == 0);
            }
        }
    };
    run(local::body);
}

TEST_CASE("mailbox: without room a message goes from hand to hand") {
    struct local {
        static task<> body() {
            std::vector<int> got;
            bool open = true;
            auto a = spawn_actor({.capacity = 0}, drain, std::ref(got), std::ref(open));
            for (int i = 0; i < 5; ++i) co_await a.tell(i);
            CHECK(got.size() >= 4);
            a.stop();
            co_await a.ended();
            CHECK(got == std::vector{0, 1, 2, 3, 4});
        }
    };
    run(local::body);
}

TEST_CASE("mailbox: of a million messages to a slow actor each is handled, refused or counted dead (hazard F10)") {
    struct local {
        static task<> slow(mailbox<int>& box, long& handled) {
            for (;;) {
                auto got = co_await box.receive();
                if (!got) co_return;
                if (++handled % 16 == 0) co_await sleep_for(10us);
            }
        }
        static task<> flood(overflow policy) {
            constexpr long all = 250'000;
            const std::uint64_t dead_before = this_loop().stats().dead_letters;
            long handled = 0, refused = 0;
            auto a = spawn_actor({.capacity = 100, .when_full = policy}, slow, std::ref(handled));
            for (long i = 0; i < all; ++i) {
                const auto told = co_await attempt(a.tell(1));
                refused += !told;
                CHECK(a.size() <= 100);
                if (i % 50 == 0) co_await yield();
            }
            a.stop();
            co_await a.ended();
            const long dead = long(this_loop().stats().dead_letters - dead_before);
            CHECK(handled + refused + dead == all);
            if (policy == overflow::wait) CHECK(handled == all);
            if (policy == overflow::reject) CHECK(dead == 0);
            if (policy != overflow::wait) CHECK(refused + dead > 0);
        }
        static task<> body() {
            for (overflow policy : {overflow::wait, overflow::drop_newest, overflow::drop_oldest, overflow::reject})
                co_await flood(policy);
        }
    };
    run(local::body);
}

// --- dead letters --------------------------------------------------------------------------------------

TEST_CASE("dead letters: what is told to an actor that has ended, or left when it ends; the hook sees each") {
    struct local {
        static void note(const dead_letter& letter, void* context) noexcept {
            auto& j = *static_cast<journal*>(context);
            j.add(letter.actor);
            CHECK(letter.message.find("deposit") != std::string_view::npos);
            CHECK(std::string(letter.why) == "the actor has ended");
        }
        static task<> never_reads(mailbox<account::message>&) { co_return; }
        static task<> body() {
            journal j;
            this_loop().on_dead_letter(note, &j);
            auto a = spawn_actor({.name = "alice"}, never_reads);
            co_await a.tell<deposit>(1);
            const actor_exit exit = co_await a.ended();
            CHECK(exit.how == actor_exit::kind::normal);
            CHECK(j.text() == "alice");
            co_await a.tell<deposit>(2);
            CHECK_FALSE(a.try_tell<deposit>(3));  // its sender knows
            CHECK(this_loop().stats().dead_letters == 2);
            this_loop().on_dead_letter(nullptr);
        }
    };
    run(local::body);
}

// --- receiving -----------------------------------------------------------------------------------------

TEST_CASE("receive: selective, by type or by a condition; what is skipped stays in order") {
    struct urgent {
        int n;
    };
    using message = std::variant<int, urgent>;
    struct local {
        static task<> actor(mailbox<message>& box, journal& j) {
            co_await sleep_for(1ms);
            auto first = co_await box.receive<urgent>();
            j.add("u" + std::to_string(first->n));
            const auto is_three = [](const message& m) {
                const int* n = std::get_if<int>(&m);
                return n != nullptr && *n == 3;
            };
            auto third = co_await box.receive_if(is_three);
            j.add(std::to_string(std::get<int>(*third)));
            for (;;) {
                auto any = co_await box.receive();
                if (!any) break;
                const int* n = std::get_if<int>(&*any);
                j.add(n != nullptr ? std::to_string(*n) : "u" + std::to_string(std::get<urgent>(*any).n));
            }
            auto none = co_await box.receive<urgent>();
            CHECK_FALSE(none);
            CHECK(box.stopping());
        }
        static task<> body(std::uint32_t capacity, journal& j) {
            auto a = spawn_actor({.capacity = capacity}, actor, std::ref(j));
            auto sender = spawn(
                [](actor_ref<message> to) -> task<> {
                    co_await to.tell<int>(1);
                    co_await to.tell<int>(2);
                    co_await to.tell<urgent>(1);
                    co_await to.tell<int>(3);
                    co_await to.tell<urgent>(2);
                },
                a);
            co_await sender;
            a.stop();
            co_await a.ended();
        }
    };
    journal j;
    run(local::body, 10u, std::ref(j));
    CHECK(j.text() == "u1 3 1 2 u2");
}

TEST_CASE("receive: what the predicate throws is thrown to who receives, and the message stays") {
    // It is asked in the step of who sends, in functions that cannot fail: the process ended.
    struct local {
        static bool refuses_two(int n) {
            if (n == 2) throw std::runtime_error("two");
            return n == 3;
        }
        static task<> actor(mailbox<int>& box, journal& j) {
            for (int round = 0; round < 2; ++round) {  // the message comes later, or is there already
                try {
                    static_cast<void>(co_await box.receive_if(refuses_two));
                } catch (const std::runtime_error& e) {
                    j.add(e.what());
                }
            }
            for (;;) {
                auto got = co_await box.receive();
                if (!got) co_return;
                j.add(std::to_string(*got));
            }
        }
        static task<> body(journal& j) {
            auto a = spawn_actor({.capacity = 10}, actor, std::ref(j));
            co_await test::others_first();
            for (int n = 1; n < 4; ++n) co_await a.tell(n);  // the sender hears nothing of it
            a.stop();
            co_await a.ended();
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "two two 1 2 3");
}

TEST_CASE("receive: a selective one reaches a sender that waits behind a full mailbox" * doctest::test_suite("order")) {
    struct local {
        static task<> actor(mailbox<int>& box, journal& j) {
            co_await sleep_for(1ms);
            const auto is_nine = [](int n) { return n == 9; };
            auto nine = co_await box.receive_if(is_nine);
            j.add(std::to_string(*nine));
            for (;;) {
                auto got = co_await box.receive();
                if (!got) co_return;
                j.add(std::to_string(*got));
            }
        }
        static task<> send(actor_ref<int> to, int n) { co_await to.tell(n); }
        static task<> body(journal& j) {
            auto a = spawn_actor({.capacity = 1}, actor, std::ref(j));
            auto one = spawn(send, a, 1);
            auto two = spawn(send, a, 2);
            auto nine = spawn(send, a, 9);
            co_await nine;
            co_await one;
            a.stop();  // behind the one that still waits
            co_await two;
            co_await a.ended();
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "9 1 2");
}

TEST_CASE("receive_for: empty when the time is over; later messages are not lost") {
    struct local {
        static task<> actor(mailbox<int>& box, journal& j) {
            auto none = co_await box.receive_for(1ms);
            CHECK_FALSE(none);
            CHECK_FALSE(box.stopping());
            j.add("after");
            auto one = co_await box.receive_for(1h);
            j.add(std::to_string(*one));
            CHECK_FALSE(box.try_receive());
            auto end = co_await box.receive_for(1h);
            CHECK_FALSE(end);
            CHECK(box.stopping());
        }
        static task<> body(journal& j) {
            auto a = spawn_actor(actor, std::ref(j));
            co_await sleep_for(5ms);
            co_await a.tell(1);
            co_await sleep_for(1ms);
            a.stop();
            co_await a.ended();
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "after 1");
}

// --- ends ----------------------------------------------------------------------------------------------

TEST_CASE("stop: what was sent before is handled, what comes later is refused") {
    struct local {
        static task<> body() {
            auto a = spawn_actor<account>();
            co_await a.tell<deposit>(1);
            const auto ask = [](actor_ref<account::message> to) -> task<int> {
                co_return co_await to.ask<get_balance>();
            };
            auto asking = spawn(ask, a);
            co_await test::others_first();
            a.stop();
            a.stop();
            co_await a.tell<deposit>(1);
            const int balance = co_await asking;
            CHECK(balance == 1);
            CHECK(this_loop().stats().dead_letters == 1);
            co_await a.ended();
            CHECK_FALSE(a.alive());
        }
    };
    run(local::body);
}

TEST_CASE("ended: tells how, each waiter once; `no such actor` at once afterwards") {
    using kind = actor_exit::kind;
    struct local {
        static task<> watch_end(actor_ref<account::message> a, kind expected, int& told) {
            const actor_exit exit = co_await a.ended();
            CHECK(exit.how == expected);
            if (expected == kind::failed) {
                CHECK_THROWS_WITH(std::rethrow_exception(exit.error), "a negative deposit");
            } else {
                CHECK_FALSE(exit.error);
            }
            ++told;
        }
        static task<> body(supervisor_group& group) {
            for (kind how : {kind::normal, kind::failed, kind::cancelled}) {
                auto a = spawn_actor<account>({.in = &group});
                int told = 0;
                auto one = spawn(watch_end, a, how, std::ref(told));
                auto two = spawn(watch_end, a, how, std::ref(told));
                co_await test::others_first();
                co_await test::others_first();
                if (how == kind::normal) a.stop();
                if (how == kind::failed) co_await a.tell<deposit>(-1);
                if (how == kind::cancelled) a.kill();
                co_await one;
                co_await two;
                CHECK(told == 2);
                const actor_exit late = co_await a.ended();
                CHECK(late.how == kind::no_such_actor);
            }
        }
        static task<> main() { co_await with_supervisor_group(body, {.on_error = quiet}); }
    };
    run(local::main);
}

TEST_CASE("actor_watch: its message comes once, behind what the actor had sent, and whatever the bound") {
    struct down {
        actor_exit exit;
    };
    using message = std::variant<int, down>;
    struct local {
        static task<> child(mailbox<int>&, actor_ref<message> parent) {
            co_await parent.tell<int>(1);
            co_await parent.tell<int>(2);
        }
        static task<> parent(mailbox<message>& box, journal& j) {
            auto c = spawn_actor(child, box.self());
            actor_watch<down, message> w(box, c);
            co_await c.ended();
            CHECK(box.size() == 2);  // full
            for (int i = 0; i < 3; ++i) {
                auto got = co_await box.receive();
                const int* n = std::get_if<int>(&*got);
                j.add(n != nullptr ? std::to_string(*n) : "down");
            }
            {
                actor_watch<down, message> dead(box, c);
                auto noproc = co_await box.receive<down>();
                CHECK(noproc->exit.how == actor_exit::kind::no_such_actor);
            }
            auto more = co_await box.receive_for(1ms);
            CHECK_FALSE(more);
        }
        static task<> body(journal& j) {
            auto p = spawn_actor({.capacity = 2}, parent, std::ref(j));
            co_await p.ended();
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "1 2 down");
}

TEST_CASE("actor_watch: given up, its message does not come, and one that waits in the mailbox is gone") {
    struct down {
        actor_exit exit;
    };
    using message = std::variant<int, down>;
    struct local {
        static task<> child(mailbox<int>&) { co_await sleep_for(1ms); }
        static task<> parent(mailbox<message>& box) {
            auto c = spawn_actor(child);
            {
                actor_watch<down, message> before(box, c);
            }
            {
                actor_watch<down, message> after(box, c);
                co_await c.ended();
            }
            auto none = co_await box.receive_for(1ms);
            CHECK_FALSE(none);
        }
        static task<> body() {
            auto p = spawn_actor(parent);
            co_await p.ended();
        }
    };
    run(local::body);
}

TEST_CASE("actor_watch: between messages that a selective receive takes out, it keeps its place") {
    struct down {
        actor_exit exit;
    };
    using message = std::variant<int, down>;
    struct local {
        static task<> child(mailbox<int>&) { co_return; }
        static task<> parent(mailbox<message>& box, journal& j) {
            auto self = box.self();
            for (int i = 1; i <= 3; ++i) co_await self.tell<int>(i);
            auto c = spawn_actor(child);
            actor_watch<down, message> w(box, c);
            co_await c.ended();
            for (int i = 4; i <= 6; ++i) co_await self.tell<int>(i);
            for (int wanted : {5, 2}) {
                const auto is_it = [wanted](const message& m) {
                    const int* n = std::get_if<int>(&m);
                    return n != nullptr && *n == wanted;
                };
                static_cast<void>(co_await box.receive_if(is_it));
            }
            for (int i = 0; i < 5; ++i) {
                auto got = co_await box.receive();
                const int* n = std::get_if<int>(&*got);
                j.add(n != nullptr ? std::to_string(*n) : "down");
            }
        }
        static task<> body(journal& j) {
            auto p = spawn_actor(parent, std::ref(j));
            co_await p.ended();
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "1 3 down 4 6");
}

// Each message that was taken had all watches told so, and each look for one went on behind the one it found.
TEST_CASE("actor_watch: the ends of many actors, and messages between them, cost each as much as few") {
    using notice = std::variant<int, actor_exit>;
    struct local {
        static task<> ends_when_told(mailbox<int>& box) { static_cast<void>(co_await box.receive()); }
        static task<> watches(mailbox<notice>& box, int n, event& done) {
            std::vector<actor_ref<int>> watched;
            std::vector<std::unique_ptr<actor_watch<actor_exit, notice>>> watches;
            const auto others = [&](task_group& g) -> task<> {
                for (int i = 0; i < n; ++i) {
                    watched.push_back(spawn_actor({.in = &g}, ends_when_told));
                    watches.push_back(std::make_unique<actor_watch<actor_exit, notice>>(box, watched.back()));
                }
                for (auto& each : watched) {
                    each.stop();
                    co_await box.self().tell<int>(1);
                }
                while (watched.back().alive()) co_await immediate();
                for (int i = 0; i < 2 * n; ++i) static_cast<void>(co_await box.receive());
            };
            co_await with_task_group(others);
            done.set();
        }
        static task<> body(int n) {
            event done;
            const auto a = spawn_actor({.capacity = 1'000'000}, watches, n, std::ref(done));
            co_await done.wait();
        }
    };
    CHECK(test::growth([](int n) { run(local::body, n); }, 2000) < 30);
}

// It was put into the mailbox, which went, and then taken out of it.
TEST_CASE("actor_watch: one that outlives the actor it belongs to tells nobody") {
    struct gone {
        actor_exit exit;
    };
    using message = std::variant<int, gone>;
    struct local {
        static task<> watched(mailbox<int>& box) { static_cast<void>(co_await box.receive()); }
        static task<> watches(mailbox<message>& box, actor_ref<int> of,
                              std::unique_ptr<actor_watch<gone, message>>& kept) {
            kept = std::make_unique<actor_watch<gone, message>>(box, of);
            co_return;
        }
        static task<> body() {
            const auto of = spawn_actor(watched);
            std::unique_ptr<actor_watch<gone, message>> kept;
            {
                const auto a = spawn_actor(watches, of, std::ref(kept));
                co_await a.ended();
                of.stop();
                co_await of.ended();
            }
            kept.reset();
        }
    };
    run(local::body);
}

TEST_CASE("actor: it ends with its scope, which does not wait for it") {
    struct local {
        static task<> body(task_group& group, actor_ref<account::message>& kept) {
            kept = spawn_actor<account>({.in = &group});
            auto child =
                group.spawn([](actor_ref<account::message> a) -> task<> { co_await a.tell<deposit>(5); }, kept);
            co_await child;
            const int balance = co_await kept.ask<get_balance>();
            CHECK(balance == 5);
        }
        static task<> main() {
            actor_ref<account::message> kept;
            co_await with_task_group([&](task_group& group) { return body(group, kept); });
            CHECK_FALSE(kept.alive());
            const auto reply = co_await attempt(kept.ask<get_balance>());
            CHECK(reply.error() == std::errc::no_such_process);
        }
    };
    run(local::main);
}

TEST_CASE("actor: in a task group actors are linked: the failure of one ends them all") {
    struct local {
        static task<> body(task_group& group) {
            auto good = spawn_actor<account>({.in = &group});
            auto bad = spawn_actor<account>({.in = &group});
            co_await bad.tell<deposit>(-1);
            const actor_exit exit = co_await good.ended();
            CHECK(exit.how == actor_exit::kind::cancelled);
        }
        static task<> main() {
            bool failed = false;
            try {
                co_await with_task_group(body);
            } catch (const exception_group& g) {
                failed = g.errors().size() == 1;
            }
            CHECK(failed);
        }
    };
    run(local::main);
}

TEST_CASE("actor: may spawn actors, in a scope of its own that ends with it") {
    struct local {
        static task<> parent(mailbox<get>& box, bool& child_gone) {
            actor_ref<count_message> kept;
            co_await with_task_group([&](task_group& children) { return serve(children, box, kept); });
            child_gone = !kept.alive();
        }
        static task<> serve(task_group& children, mailbox<get>& box, actor_ref<count_message>& kept) {
            kept = spawn_actor({.in = &children}, counter, 1);
            for (;;) {
                auto got = co_await box.receive();
                if (!got) co_return;
                co_await kept.tell<increment>(1);
                const int count = co_await kept.ask<get>();
                got->reply(count);
            }
        }
        static task<> body() {
            bool child_gone = false;
            auto p = spawn_actor(parent, std::ref(child_gone));
            const int count = co_await p.ask();
            CHECK(count == 2);
            p.stop();
            co_await p.ended();
            CHECK(child_gone);
        }
    };
    run(local::body);
}

TEST_CASE("actor: an address may outlive the loop") {
    actor_ref<account::message> kept;
    const std::size_t before = detail::frames_live();
    rondo::run(
        [](actor_ref<account::message>& out) -> task<> {
            out = spawn_actor<account>();
            co_return;
        },
        std::ref(kept));
    CHECK_FALSE(kept.alive());
    kept = {};
    CHECK(detail::frames_live() == before);
}

TEST_CASE("actor: cancelled before its first step it never runs, and what it got is refused") {
    struct local {
        static task<> body() {
            journal j;
            auto a = spawn_actor(
                [](mailbox<int>&, journal& note) -> task<> {
                    note.add("ran");
                    co_return;
                },
                std::ref(j));
            co_await a.tell(1);
            a.kill();
            const actor_exit exit = co_await a.ended();
            CHECK(exit.how == actor_exit::kind::cancelled);
            CHECK(j.text().empty());
            CHECK(this_loop().stats().dead_letters == 1);
        }
    };
    run(local::body);
}

TEST_CASE("actor: one whose first coroutine cannot be made has failed" * doctest::test_suite("order")) {
    struct local {
        static task<> body(supervisor_group& group) {
            auto a = spawn_actor({.in = &group}, counter, 0);
            detail::fail_allocation(1);
            co_await yield();
            detail::fail_allocation(0);
            CHECK_FALSE(a.alive());
            const auto reply = co_await attempt(a.ask<get>());
            CHECK(reply.error() == std::errc::no_such_process);
        }
        static task<> main() { co_await with_supervisor_group(body, {.on_error = quiet}); }
    };
    run(local::main);
}

TEST_CASE("tell: without memory for a larger mailbox it fails, and the message was not sent") {
    struct local {
        static task<> body() {
            std::vector<int> got;
            bool open = false;
            auto a = spawn_actor(drain, std::ref(got), std::ref(open));
            co_await sleep_for(1ms);
            detail::fail_allocation(1);
            bool failed = false;
            try {
                co_await a.tell(1);
            } catch (const std::bad_alloc&) {
                failed = true;
            }
            detail::fail_allocation(0);
            CHECK(failed);
            co_await a.tell(2);
            open = true;
            a.stop();
            co_await a.ended();
            CHECK(got == std::vector{2});
        }
    };
    run(local::body);
}

TEST_CASE("actor: what keeps the loop alive names the actor") {
    struct local {
        static task<> body() {
            auto a = spawn_actor<account>({.name = "alice"});
            co_await test::others_first();
            bool named = false;
            for (const auto& entry : this_loop().why_alive())
                named |= entry.what.find("a message for alice") != std::string::npos;
            CHECK(named);
        }
    };
    run(local::body);
}

// --- cancel at every step ------------------------------------------------------------------------------

task<> asks_in_turn() {
    struct local {
        static task<> relay(mailbox<get>& box, actor_ref<count_message> next) {
            for (;;) {
                auto got = co_await box.receive();
                if (!got) co_return;
                got->reply(co_await next.ask<get>());
            }
        }
    };
    auto c = spawn_actor({.capacity = 1}, counter, 0);
    auto r = spawn_actor({.capacity = 1}, local::relay, c);
    for (int i = 0; i < 3; ++i) {
        co_await c.tell<increment>(1);
        co_await sleep_for(1ms);
        const int count = co_await r.ask();
        if (count != i + 1) throw std::runtime_error("a message was lost");
    }
    c.stop();
    co_await c.ended();
}

task<> tells_into_full_mailboxes() {
    struct local {
        static task<> slow(mailbox<std::unique_ptr<int>>& box) {
            for (;;) {
                co_await sleep_for(1ms);
                auto got = co_await box.receive();
                if (!got) co_return;
            }
        }
        static task<> send(actor_ref<std::unique_ptr<int>> to) {
            for (int i = 0; i < 3; ++i) co_await to.tell(std::make_unique<int>(i));
        }
    };
    auto a = spawn_actor({.capacity = 1}, local::slow);
    auto one = spawn(local::send, a);
    auto two = spawn(local::send, a);
    co_await one;
    co_await two;
    a.stop();
    co_await a.ended();
}

// (g++ 12 without optimisation crashes over a message type that is local to a coroutine)
struct down {
    actor_exit exit;
};

task<> watches() {
    using message = std::variant<int, down>;
    struct local {
        static task<> child(mailbox<int>&, actor_ref<message> parent) {
            co_await parent.tell<int>(1);
            co_await sleep_for(1ms);
        }
        static task<> parent(mailbox<message>& box) {
            auto c = spawn_actor(child, box.self());
            actor_watch<down, message> w(box, c);
            auto end = co_await box.receive<down>();
            auto one = co_await box.receive_for(1ms);
            if (!end || !one) throw std::runtime_error("a message was lost");
        }
    };
    auto p = spawn_actor({.capacity = 1}, local::parent);
    co_await p.ended();
}

TEST_CASE("cancel at every step: asking through actors") { CHECK(test::cancel_at_every_step(asks_in_turn) > 2); }
TEST_CASE("cancel at every step: telling into full mailboxes") {
    CHECK(test::cancel_at_every_step(tells_into_full_mailboxes) > 2);
}
TEST_CASE("cancel at every step: watching and receiving selectively") {
    CHECK(test::cancel_at_every_step(watches) > 0);
}

// --- random programs -----------------------------------------------------------------------------------

// Tells, asks, cancels, stops and kills at random, against what a plain count of messages says.
struct tally {
    long sent = 0, handled = 0, refused = 0, withdrawn = 0;
    std::vector<int> last = std::vector<int>(3, -1);  // the latest that was handled, of each sender
};

struct numbered : request<int> {
    int sender;
    int number;
    bool asked;
};

task<> random_actor(mailbox<numbered>& box, unsigned seed, tally& t) {
    std::minstd_rand random(seed);
    std::optional<numbered> kept;
    for (;;) {
        std::optional<numbered> got;
        if (random() % 8 == 0) {
            const int wanted = int(random() % 3);
            const auto of_sender = [wanted](const numbered& m) { return m.sender == wanted; };
            got = co_await box.receive_if(of_sender);
        } else if (random() % 8 == 0) {
            got = co_await box.receive_for(10us);
        } else {
            got = co_await box.receive();
        }
        if (!got && box.stopping()) {
            if (box.size() == 0) co_return;
            continue;
        }
        if (!got) continue;
        ++t.handled;
        int& last = t.last[std::size_t(got->sender)];
        CHECK(last < got->number);  // order per sender
        last = got->number;
        if (random() % 6 == 0) co_await yield();
        if (random() % 50 == 0) throw std::runtime_error("by chance");
        if (random() % 4 == 0) {
            kept = std::move(*got);  // and the one kept before goes without a reply
        } else {
            got->reply(got->number);
        }
    }
}

task<> random_sender(actor_ref<numbered> to, unsigned seed, int sender, int count, tally& t) {
    std::minstd_rand random(seed);
    struct local {
        static task<> tell(actor_ref<numbered> a, int from, int n, tally& sent) {
            const auto told = co_await attempt(a.tell(from, n, false));
            if (!told) ++sent.refused;
        }
        static task<> ask(actor_ref<numbered> a, int from, int n, tally& sent) {
            const auto reply = co_await attempt(a.ask(from, n, true));
            if (reply) CHECK(*reply == n);
            if (reply.error() == std::errc::no_such_process || reply.error() == std::errc::no_buffer_space)
                ++sent.refused;
        }
    };
    for (int i = 0; i < count; ++i) {
        ++t.sent;
        const delay limit = random() % 3 == 0 ? delay(10us) : delay(1h);
        const long before = t.refused;
        bool completed;
        if (random() % 2 == 0) {
            completed = co_await move_on_after(limit, local::tell, to, sender, i, t);
            // cut short while it waited for room: it was not sent
            if (!completed && t.refused == before) ++t.withdrawn;
        } else {
            completed = co_await move_on_after(200us, local::ask, to, sender, i, t);
        }
        if (random() % 5 == 0) co_await yield();
    }
}

struct random_traffic {
    static task<> body(supervisor_group& group, unsigned seed, int messages, tally& t) {
        std::minstd_rand random(seed);
        const auto policy = static_cast<overflow>(random() % 4);
        const auto capacity = std::uint32_t(random() % 4);
        auto a = spawn_actor({.capacity = capacity, .when_full = policy, .in = &group}, random_actor,
                             unsigned(random()), std::ref(t));
        std::vector<task_handle<>> senders;
        for (int s = 0; s < 3; ++s)
            senders.push_back(group.spawn(random_sender, a, unsigned(random()), s, messages, std::ref(t)));
        for (int i = int(random() % 40); i > 0; --i) co_await yield();
        if (random() % 3 == 0) a.stop();
        if (random() % 3 == 0) a.kill();
        for (auto& each : senders) co_await each;
        a.stop();
        co_await a.ended();
    }
    static task<> main(unsigned seed, int messages, tally& t) {
        const auto with_seed = [&](supervisor_group& group) { return body(group, seed, messages, t); };
        co_await with_supervisor_group(with_seed, {.on_error = quiet});
        t.refused += long(this_loop().stats().dead_letters);
    }
};

TEST_CASE("actors: random programs handle, refuse or count every message, in order per sender") {
    for (unsigned seed = 1; seed <= 200; ++seed) {
        CAPTURE(seed);
        tally t;
        test::run(random_traffic::main, seed, 60, std::ref(t));
        CHECK(t.sent == t.handled + t.refused + t.withdrawn);
    }
}

TEST_CASE("cancel at every step: random programs of actors handle nothing twice, and leave nothing") {
    int points = 0;
    for (unsigned seed = 1; seed <= 25; ++seed) {
        CAPTURE(seed);
        tally t;
        const auto program = [seed, &t]() {
            t = tally();
            return random_traffic::main(seed, 5, t);
        };
        points += test::cancel_at_every_step(program);
        CHECK(t.handled + t.refused + t.withdrawn <= t.sent);
    }
    CHECK(points > 500);
}

}  // namespace
