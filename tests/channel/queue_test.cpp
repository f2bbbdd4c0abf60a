#include <rondo/channel/queue.hpp>

#include "support/every_step.hpp"
#include "support/parcel.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

using namespace rondo;
using namespace std::chrono_literals;
using test::no_parcel_left;
using test::parcel;

namespace {

template <class Queue>
task<> put_numbers(Queue& into, int from, int count) {
    for (int i = 0; i < count; ++i) co_await into.put(from + i);
}

template <class Queue>
task<std::vector<int>> get_all(Queue& from) {
    std::vector<int> all;
    while (auto item = co_await from.get()) all.push_back(*item);
    co_return all;
}

/// What is in it, in the order in which it comes out.
template <class Queue>
std::vector<int> drained(Queue& from) {
    std::vector<int> all;
    while (auto item = from.try_get()) all.push_back(*item);
    return all;
}

template <class Queue, class T>
task<> put_one(Queue& into, T value) {
    co_await into.put(std::move(value));
}
template <class Queue>
task<int> get_one(Queue& from) {
    auto item = co_await from.get();
    co_return item ? *item : -1;
}
template <class Queue>
task<> join(Queue& q) {
    co_await q.join();
}

using numbers = std::vector<int>;

}  // namespace

// --- what it does -----------------------------------------------------------------------------------------

TEST_CASE("queue: a pool of workers; join waits until all that was put is done") {
    test::run([]() -> task<> {
        queue<int> jobs(4, "jobs");
        int sum = 0;
        auto worker = [&]() -> task<> {
            while (auto job = co_await jobs.get()) {
                co_await sleep_for(1ms);
                sum += *job;
                jobs.task_done();
            }
        };
        auto body = [&](task_group& group) -> task<> {
            for (int i = 0; i < 3; ++i) group.spawn(worker).discard();
            for (int i = 1; i <= 20; ++i) co_await jobs.put(i);
            CHECK(sum < 210);
            co_await jobs.join();
            CHECK(sum == 210);
            CHECK(jobs.unfinished() == 0);
            jobs.shutdown();  // and so the workers end
        };
        co_await with_task_group(body);
        CHECK(jobs.finished());
    });
}

TEST_CASE("queue: the oldest first, the newest first, the smallest first (CPython: test_order)") {
    queue<int> fifo(3);
    lifo_queue<int> lifo(3);
    priority_queue<int> by_rank(3);
    for (const int i : {1, 3, 2}) {
        CHECK(fifo.try_put(i));
        CHECK(lifo.try_put(i));
        CHECK(by_rank.try_put(i));
    }
    CHECK(drained(fifo) == numbers{1, 3, 2});
    CHECK(drained(lifo) == numbers{2, 3, 1});
    CHECK(drained(by_rank) == numbers{1, 2, 3});
}

TEST_CASE("priority_queue: of equals the one that was put first, and the order is one's own") {
    struct ranked {
        ranked(int r, int n) : rank(r), number(n) {}
        int rank;
        int number;
    };
    struct higher_rank {
        bool operator()(const ranked& a, const ranked& b) const { return a.rank > b.rank; }
    };
    priority_queue<ranked, higher_rank> q(unbounded);
    test::dice dice(1);
    std::vector<ranked> expected;
    for (int i = 0; i < 1000; ++i) {
        expected.emplace_back(static_cast<int>(dice.below(5)), i);
        CHECK(q.try_put(expected.back()));
    }
    std::sort(expected.begin(), expected.end(), [](const ranked& a, const ranked& b) {
        return a.rank != b.rank ? higher_rank()(a, b) : a.number < b.number;
    });
    for (const ranked& e : expected) CHECK(q.try_get()->number == e.number);
    CHECK_FALSE(q.try_get());
}

TEST_CASE("queue: a capacity of 0 is refused, with a word on what to say instead") {
    const auto refused = [](auto make) {
        try {
            make();
        } catch (const std::invalid_argument& e) {
            return std::string(e.what());
        }
        return std::string("made");
    };
    CHECK(refused([] { queue<int> q(0, "jobs"); }).starts_with("queue 'jobs': a capacity of 0; say `unbounded`"));
    CHECK(refused([] { lifo_queue<int> q(0); }).starts_with("lifo_queue: a capacity of 0"));
    CHECK(refused([] { priority_queue<int> q(0); }).starts_with("priority_queue: a capacity of 0"));
    CHECK(refused([] { queue<int> q(1); }) == "made");
}

TEST_CASE("queue: an unbounded one never lets put wait, and keeps the order while it grows") {
    test::run([]() -> task<> {
        queue<int> fifo(unbounded);
        lifo_queue<int> lifo(unbounded);
        priority_queue<int> by_rank(unbounded);
        CHECK(fifo.capacity() == unbounded);
        int next = 0;
        // the ring is turned by some before it grows each time
        for (int i = 0; i < 1000; ++i) {
            co_await fifo.put(i);
            if (i % 3 == 0) CHECK(fifo.try_get() == next++);
        }
        CHECK(fifo.size() == 666);
        while (auto item = fifo.try_get()) CHECK(*item == next++);
        CHECK(next == 1000);
        for (int i = 0; i < 100; ++i) {
            co_await lifo.put(i);
            co_await by_rank.put((i * 37) % 100);
        }
        for (int i = 0; i < 100; ++i) {
            CHECK(lifo.try_get() == 99 - i);
            CHECK(by_rank.try_get() == i);
        }
    });
}

TEST_CASE("queue: values that only move; where the value is when it was not put") {
    no_parcel_left check;
    test::run([]() -> task<> {
        queue<parcel> q(1);
        parcel first(1), second(2), third(3);
        co_await q.put_from(first);
        CHECK(first.number() == -1);
        CHECK(q.try_put(std::move(second)).error() == std::errc::resource_unavailable_try_again);
        CHECK(second.number() == 2);
        auto waits = [&]() -> task<> { co_await q.put(std::move(second)); };
        auto cancelled_one = spawn(waits);
        co_await test::others_first();
        CHECK(q.waiting_putters() == 1);
        cancelled_one.cancel();
        const auto gone = co_await attempt(cancelled_one);
        CHECK_FALSE(gone);
        CHECK(second.number() == 2);
        auto refused = spawn(waits);
        co_await test::others_first();
        q.shutdown();
        const auto r = co_await attempt(refused);
        CHECK(r.error() == std::errc::broken_pipe);
        CHECK(second.number() == 2);
        const auto now = co_await attempt(q.put_from(third));
        CHECK(now.error() == std::errc::broken_pipe);
        CHECK(third.number() == 3);
        const auto made = co_await attempt(q.emplace(4));
        CHECK(made.error() == std::errc::broken_pipe);
        auto left = co_await q.get();
        CHECK(left->number() == 1);
    });
}

TEST_CASE("queue: values that are still in it go with it") {
    no_parcel_left check;
    {
        queue<parcel> fifo(4);
        lifo_queue<parcel> lifo(unbounded);
        priority_queue<parcel> by_rank(4);
        for (int i = 0; i < 4; ++i) {
            CHECK(fifo.try_put(parcel(i)));
            CHECK(lifo.try_put(parcel(i)));
            CHECK(by_rank.try_put(parcel(-i)));
        }
        static_cast<void>(fifo.try_get());
        CHECK(fifo.try_put(parcel(4)));
        CHECK(parcel::live == 12);
    }
}

TEST_CASE("queue: a guard says that a value is done, however its block is left") {
    test::run([]() -> task<> {
        queue<int> q(8);
        const auto work = [](queue<int>& from) -> task<> {
            while (auto next = co_await from.get()) {
                const auto done = from.done_at_exit();
                if (*next == 1) continue;
                if (*next == 2) throw std::runtime_error("two");
                co_await sleep_for(1h);
            }
        };
        for (int i = 1; i <= 3; ++i) co_await q.put(i);
        auto first = spawn(work, std::ref(q));
        bool failed = false;
        try {
            co_await first;
        } catch (const std::runtime_error&) {
            failed = true;
        }
        CHECK(failed);
        CHECK(q.unfinished() == 1);
        auto second = spawn(work, std::ref(q));
        co_await test::others_first();
        CHECK(q.size() == 0);
        CHECK(q.unfinished() == 1);
        second.cancel();
        co_await q.join();
        CHECK(q.unfinished() == 0);
        co_await q.put(1);
        static_cast<void>(q.try_get());
        {
            task_done_guard one = q.done_at_exit();
            const task_done_guard moved = std::move(one);
            CHECK(q.unfinished() == 1);
        }
        CHECK(q.unfinished() == 0);
    });
}

TEST_CASE("queue: errors say which queue") {
    test::run([]() -> task<> {
        queue<int> q(1, "jobs");
        std::string said;
        try {
            q.task_done();
        } catch (const std::logic_error& e) {
            said = e.what();
        }
        CHECK(said == "queue 'jobs': task_done() was called more often than values were got");
        q.shutdown();
        try {
            co_await q.put(1);
        } catch (const io_error& e) {
            said = e.what();
        }
        CHECK(said.find("queue 'jobs', which is shut down") != std::string::npos);
    });
}

TEST_CASE("queue: a deadlock names who waits for what") {
    std::string report;
    try {
        run([]() -> task<> {
            queue<int> empty(1, "empty");
            lifo_queue<int> full(2, "full");
            CHECK(full.try_put(1));
            CHECK(full.try_put(2));
            auto putter = spawn([&]() -> task<> { co_await full.put(3); });
            auto joiner = spawn([&]() -> task<> { co_await full.join(); });
            static_cast<void>(co_await empty.get());
        });
    } catch (const deadlock_error& e) {
        report = e.what();
    }
    CHECK(report.find("get from queue 'empty', 1 getting") != std::string::npos);
    CHECK(report.find("put into lifo_queue 'full' with 2 of 2 values, 1 putting") != std::string::npos);
    CHECK(report.find("join lifo_queue 'full', 2 unfinished") != std::string::npos);
}

TEST_CASE("queue: put, get and join are arms of select_one, and a losing one has done nothing") {
    no_parcel_left check;
    test::run([]() -> task<> {
        queue<parcel> q(1);
        parcel mine(1), other(2);
        {
            auto chosen = co_await select_one(q.get(), sleep_for(1ms));
            CHECK(chosen.index() == 1);
            CHECK(q.waiting_getters() == 0);
        }
        {
            auto chosen = co_await select_one(sleep_for(1h), q.put_from(mine));
            CHECK(chosen.index() == 1);
            CHECK(mine.number() == -1);
        }
        {
            auto chosen = co_await select_in_order(q.put_from(other), q.join(), sleep_for(1ms));
            CHECK(chosen.index() == 2);
            CHECK(other.number() == 2);
            CHECK(q.waiting_putters() + q.waiting_joiners() == 0);
        }
        {
            // both ways at once: it gets what others have put, and does not answer itself
            auto chosen = co_await select_in_order(q.put_from(other), q.get());
            REQUIRE(chosen.index() == 1);
            CHECK(chosen.get<1>()->number() == 1);
            CHECK(other.number() == 2);
            CHECK(q.size() == 0);
        }
        {
            auto chosen = co_await select_in_order(q.get(), q.put_from(other));
            CHECK(chosen.index() == 1);
            CHECK(q.size() == 1);
        }
        static_cast<void>(co_await q.get());
        q.task_done();
        q.task_done();
        auto chosen = co_await select_one(q.join(), sleep_for(1h));
        CHECK(chosen.index() == 0);
    });
}

TEST_CASE("queue: nothing is allocated for puts and gets, however many") {
    const auto allocations = [](int rounds) {
        const auto program = [rounds]() -> task<> {
            queue<int> fifo(2);
            priority_queue<int> by_rank(2);
            auto pass_on = [&]() -> task<> {
                while (auto item = co_await fifo.get()) {
                    co_await by_rank.put(*item);
                    fifo.task_done();
                }
                by_rank.shutdown();
            };
            auto sink = [&]() -> task<> {
                while (auto item = co_await by_rank.get()) by_rank.task_done();
            };
            auto body = [&](task_group& group) -> task<> {
                group.spawn(pass_on).discard();
                group.spawn(sink).discard();
                for (int i = 0; i < rounds; ++i) co_await fifo.put(i);
                co_await fifo.join();
                fifo.shutdown();
            };
            co_await with_task_group(body);
        };
        const testing::every_step_report report = testing::fail_each_allocation(program);
        CHECK_MESSAGE(report.ok(), report.text());
        return report.points;
    };
    CHECK(allocations(10) == allocations(1000));
}

TEST_CASE("queue: a task that never has to wait lets timers run all the same") {
    test::run([]() -> task<> {
        queue<int> q(1);
        bool fired = false;
        this_loop().set_timeout(0ms, [&] { fired = true; });
        long rounds = 0;
        while (!fired) {
            co_await q.put(1);
            static_cast<void>(co_await q.get());
            ++rounds;
            REQUIRE(rounds < 1'000'000);
        }
        CHECK(rounds > 1);
    });
}

// --- CPython's tests --------------------------------------------------------------------------------------
// Lib/test/test_asyncio/test_queues.py of 3.13. Left out: repr, str, format, generic alias, and maxsizes that
// are floats.

TEST_CASE_TEMPLATE("queue (CPython: test_empty, test_full, nonblocking put and get)", Queue, queue<int>,
                   lifo_queue<int>, priority_queue<int>) {
    Queue q(1);
    CHECK(q.size() == 0);
    CHECK_FALSE(q.try_get());
    CHECK(q.try_put(1));
    CHECK(q.size() == q.capacity());
    CHECK(q.try_put(2).error() == std::errc::resource_unavailable_try_again);
    CHECK(q.try_get() == 1);
    CHECK(q.size() == 0);
    CHECK_FALSE(q.try_get());
}

TEST_CASE_TEMPLATE("queue (CPython: test_maxsize, test_blocking_put_wait): a put waits for room", Queue, queue<int>,
                   lifo_queue<int>, priority_queue<int>) {
    test::run([]() -> task<> {
        Queue q(2);
        auto putter = spawn(put_numbers<Queue>, std::ref(q), 0, 3);
        co_await sleep_for(1ms);
        CHECK(q.size() == 2);
        CHECK(q.waiting_putters() == 1);
        CHECK_FALSE(putter.done());
        static_cast<void>(q.try_get());
        co_await sleep_for(1ms);
        CHECK(putter.done());
        CHECK(q.size() == 2);
    });
}

TEST_CASE_TEMPLATE("queue (CPython: test_blocking_get, test_blocking_get_wait): a get waits for a value", Queue,
                   queue<int>, lifo_queue<int>, priority_queue<int>) {
    test::run([]() -> task<> {
        Queue q(1);
        auto getter = spawn(get_one<Queue>, std::ref(q));
        co_await sleep_for(1ms);
        CHECK_FALSE(getter.done());
        CHECK(q.try_put(1));
        const int got = co_await getter;
        CHECK(got == 1);
    });
}

TEST_CASE("queue (CPython: test_get_with_putters, test_get_with_waiting_putters): a get lets the first put in" *
          doctest::test_suite("order")) {
    test::run([]() -> task<> {
        queue<std::string> q(1);
        auto a = spawn(put_one<queue<std::string>, std::string>, std::ref(q), "a");
        auto b = spawn(put_one<queue<std::string>, std::string>, std::ref(q), "b");
        auto first = co_await q.get();
        CHECK(first == "a");
        auto second = co_await q.get();
        CHECK(second == "b");
        co_await a;
        co_await b;
    });
}

TEST_CASE("queue (CPython: test_put_with_waiting_getters)") {
    test::run([]() -> task<> {
        queue<int> q(1);
        auto getter = spawn(get_one<queue<int>>, std::ref(q));
        co_await yield();
        co_await q.put(7);
        const int got = co_await getter;
        CHECK(got == 7);
    });
}

TEST_CASE("queue (CPython: test_why_are_getters_waiting, test_why_are_putters_waiting): nobody is forgotten" *
          doctest::test_suite("order")) {
    test::run([]() -> task<> {
        queue<int> q(1);
        auto producer = spawn(put_numbers<queue<int>>, std::ref(q), 0, 5);
        for (int i = 0; i < 5; ++i) {
            auto item = co_await q.get();
            CHECK(item == i);
        }
        co_await producer;

        queue<int> two(2);
        auto getter = spawn([&]() -> task<> {
            co_await yield();
            for (std::size_t i = two.size(); i > 0; --i) static_cast<void>(two.try_get());
        });
        std::vector<task_handle<>> putters;
        for (int i = 0; i < 4; ++i) putters.push_back(spawn(put_one<queue<int>, int>, std::ref(two), i));
        co_await getter;
        for (auto& each : putters) co_await each;
        CHECK(drained(two) == numbers{2, 3});
    });
}

TEST_CASE_TEMPLATE("queue (CPython: test_task_done): two workers, and join after all of them", Queue, queue<int>,
                   lifo_queue<int>, priority_queue<int>) {
    test::run([]() -> task<> {
        Queue q(unbounded);
        for (int i = 0; i < 100; ++i) CHECK(q.try_put(i));
        int sum = 0;
        auto worker = [&]() -> task<> {
            while (auto item = co_await q.get()) {
                sum += *item;
                co_await yield();
                q.task_done();
            }
        };
        auto one = spawn(worker);
        auto two = spawn(worker);
        co_await q.join();
        CHECK(sum == 99 * 100 / 2);
        q.shutdown();
        co_await one;
        co_await two;
    });
}

TEST_CASE_TEMPLATE("queue (CPython: test_task_done_underflow, test_join_empty_queue)", Queue, queue<int>,
                   lifo_queue<int>, priority_queue<int>) {
    test::run([]() -> task<> {
        Queue q(2);
        CHECK_THROWS_AS(q.task_done(), std::logic_error);
        co_await q.join();
        co_await q.join();
        // stricter than Python: what nobody has got cannot be done
        CHECK(q.try_put(1));
        CHECK_THROWS_AS(q.task_done(), std::logic_error);
        CHECK(q.unfinished() == 1);
        static_cast<void>(q.try_get());
        CHECK(q.unfinished() == 1);
        q.task_done();
        co_await q.join();
    });
}

TEST_CASE_TEMPLATE("queue (CPython: test_shutdown_empty)", Queue, queue<int>, lifo_queue<int>, priority_queue<int>) {
    test::run([]() -> task<> {
        Queue q(1);
        auto getter = spawn(get_one<Queue>, std::ref(q));
        co_await yield();
        CHECK(q.shutdown() == 0);
        co_await q.join();
        const int got = co_await getter;
        CHECK(got == -1);
        const auto put = co_await attempt(q.put(1));
        CHECK(put.error() == std::errc::broken_pipe);
        CHECK(q.try_put(1).error() == std::errc::broken_pipe);
        auto end = co_await q.get();
        CHECK_FALSE(end);
        CHECK_FALSE(q.try_get());
        CHECK(q.finished());
    });
}

TEST_CASE_TEMPLATE("queue (CPython: test_shutdown_nonempty)", Queue, queue<int>, lifo_queue<int>, priority_queue<int>) {
    test::run([]() -> task<> {
        Queue q(1);
        CHECK(q.try_put(1));
        auto joiner = spawn(join<Queue>, std::ref(q));
        auto putter = spawn(put_one<Queue, int>, std::ref(q), 2);
        co_await yield();
        CHECK_FALSE(putter.done());
        CHECK(q.shutdown() == 0);
        CHECK(q.size() == 1);
        const auto put = co_await attempt(putter);
        CHECK(put.error() == std::errc::broken_pipe);
        auto item = co_await q.get();
        CHECK(item == 1);
        co_await yield();
        CHECK_FALSE(joiner.done());
        CHECK(q.try_put(1).error() == std::errc::broken_pipe);
        auto end = co_await q.get();
        CHECK_FALSE(end);
        q.task_done();
        co_await joiner;
        CHECK_THROWS_AS(q.task_done(), std::logic_error);
    });
}

TEST_CASE_TEMPLATE("queue (CPython: test_shutdown_immediate)", Queue, queue<int>, lifo_queue<int>,
                   priority_queue<int>) {
    test::run([]() -> task<> {
        Queue q(2);
        CHECK(q.try_put(1));
        auto joiner = spawn(join<Queue>, std::ref(q));
        co_await yield();
        CHECK(q.shutdown(true) == 1);
        CHECK(q.size() == 0);
        co_await joiner;
        CHECK(q.try_put(1).error() == std::errc::broken_pipe);
        auto end = co_await q.get();
        CHECK_FALSE(end);
        CHECK_THROWS_AS(q.task_done(), std::logic_error);
    });
}

TEST_CASE_TEMPLATE("queue (CPython: test_shutdown_immediate_with_unfinished): join waits for what was got", Queue,
                   queue<int>, lifo_queue<int>, priority_queue<int>) {
    test::run([]() -> task<> {
        Queue q(2);
        CHECK(q.try_put(1));
        CHECK(q.try_put(1));
        auto joiner = spawn(join<Queue>, std::ref(q));
        auto item = co_await q.get();
        CHECK(item == 1);
        CHECK(q.shutdown() == 0);  // and may become stricter later
        CHECK(q.shutdown(true) == 1);
        CHECK(q.shutdown(true) == 0);
        co_await yield();
        CHECK_FALSE(joiner.done());
        q.task_done();
        CHECK_THROWS_AS(q.task_done(), std::logic_error);
        co_await joiner;
    });
}

// --- CPython's bugs ---------------------------------------------------------------------------------------

TEST_CASE(
    "queue (bpo-23812, CPython: test_get_cancelled_race): what a cancelled getter does not take, the next one "
    "gets") {
    test::run([]() -> task<> {
        queue<std::string> q(unbounded);
        auto t1 = spawn([&]() -> task<std::string> { co_return *(co_await q.get()); });
        auto t2 = spawn([&]() -> task<std::string> { co_return *(co_await q.get()); });
        co_await yield();
        t1.cancel();
        co_await q.put("a");
        const auto ended = co_await attempt(t1);
        CHECK_FALSE(ended);
        const std::string got = co_await t2;
        CHECK(got == "a");
    });
}

TEST_CASE(
    "queue (bpo-23812, the other order): a getter that was handed a value keeps it, also when it is cancelled in "
    "that turn" *
    doctest::test_suite("order")) {
    test::run([]() -> task<> {
        queue<int> q(unbounded);
        auto t1 = spawn(get_one<queue<int>>, std::ref(q));
        auto t2 = spawn(get_one<queue<int>>, std::ref(q));
        co_await yield();
        co_await q.put(1);
        t1.cancel();
        const int got = co_await t1;
        CHECK(got == 1);
        CHECK(q.waiting_getters() == 1);
        co_await q.put(2);
        const int next = co_await t2;
        CHECK(next == 2);
    });
}

TEST_CASE("queue (asyncio#269, CPython: test_put_cancelled_race): a cancelled putter blocks nobody behind it" *
          doctest::test_suite("order")) {
    test::run([]() -> task<> {
        queue<std::string> q(1);
        using strings = queue<std::string>;
        auto a = spawn(put_one<strings, std::string>, std::ref(q), "a");
        auto b = spawn(put_one<strings, std::string>, std::ref(q), "b");
        auto c = spawn(put_one<strings, std::string>, std::ref(q), "X");
        auto d = spawn(put_one<strings, std::string>, std::ref(q), "d");
        co_await yield();
        CHECK(a.done());
        c.cancel();
        CHECK(q.try_get() == "a");
        // woken and cancelled in one turn: it has put, and the next one is still in line
        b.cancel();
        co_await yield();
        CHECK(b.done());
        CHECK(q.try_get() == "b");
        CHECK(q.try_get() == "d");
        CHECK_FALSE(q.try_get());
        co_await d;
        CHECK(c.state() == task_state::cancelled);
    });
}

TEST_CASE(
    "queue (bpo-32574, CPython: test_cancelled_getters_not_being_held, test_cancelled_puts_not_being_held): who "
    "was cancelled stands in no line") {
    test::run([]() -> task<> {
        queue<int> q(1);
        const auto nothing = co_await move_on_after(1ms, get_one<queue<int>>, std::ref(q));
        CHECK_FALSE(nothing);
        CHECK(q.waiting_getters() == 0);
        CHECK(q.try_put(1));
        auto putter = spawn(put_one<queue<int>, int>, std::ref(q), 2);
        co_await test::others_first();
        CHECK(q.waiting_putters() == 1);
        putter.cancel();
        CHECK(q.waiting_putters() == 0);
        const auto ended = co_await attempt(putter);
        CHECK_FALSE(ended);
        CHECK(drained(q) == numbers{1});
        q.task_done();
        co_await q.join();  // what was not put is not waited for
    });
}

TEST_CASE("queue (gh-83055): a put that waits is not overtaken, neither by try_put nor by a later put") {
    test::run([]() -> task<> {
        queue<int> q(1);
        CHECK(q.try_put(1));
        auto second = spawn(put_one<queue<int>, int>, std::ref(q), 2);
        co_await test::others_first();
        CHECK(q.try_get() == 1);
        CHECK_FALSE(q.try_put(3));  // the room is that of 2, though its task has not run yet
        auto third = spawn(put_one<queue<int>, int>, std::ref(q), 3);
        CHECK(drained(q) == numbers{2});
        co_await second;
        co_await third;
        CHECK(drained(q) == numbers{3});
    });
}

TEST_CASE("queue: a get that waits is not overtaken by try_get") {
    test::run([]() -> task<> {
        priority_queue<int> q(2);
        auto getter = spawn(get_one<priority_queue<int>>, std::ref(q));
        co_await test::others_first();
        CHECK(q.try_put(5));
        CHECK(q.try_put(4));
        CHECK(q.try_get() == 4);  // 5 was handed over the moment it came
        CHECK_FALSE(q.try_get());
        const int got = co_await getter;
        CHECK(got == 5);
    });
}

TEST_CASE(
    "queue (CPython: test_get_cancel_drop_one/many_pending_readers, test_put_cancel_drop): many time limits, and "
    "every value once") {
    test::run([]() -> task<> {
        test::dice dice(7);
        queue<int> q(1);
        numbers got;
        int put = 0;
        auto putter = [&](int from) -> task<> {
            for (int i = 0; i < 20;) {
                const auto done = co_await move_on_after(delay(1us * static_cast<int>(dice.below(5))),
                                                         put_one<queue<int>, int>, std::ref(q), from + i);
                if (done) ++i, ++put;
                co_await yield();
            }
        };
        auto getter = [&]() -> task<> {
            while (!q.finished()) {
                const auto item = co_await move_on_after(delay(1us * static_cast<int>(dice.below(5))),
                                                         get_one<queue<int>>, std::ref(q));
                if (item && *item >= 0) {
                    got.push_back(*item);
                    q.task_done();
                }
                co_await yield();
            }
        };
        std::vector<task_handle<>> putters, getters;
        for (int i = 0; i < 3; ++i) getters.push_back(spawn(getter));
        for (int i = 0; i < 3; ++i) putters.push_back(spawn(putter, i * 20));
        for (auto& each : putters) co_await each;
        co_await q.join();
        q.shutdown();
        for (auto& each : getters) co_await each;
        std::sort(got.begin(), got.end());
        CHECK(put == 60);
        CHECK(got.size() == 60);
        CHECK(std::adjacent_find(got.begin(), got.end()) == got.end());
    });
}

// --- every step -------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("queue: cancel at every step", Queue, queue<parcel>, lifo_queue<parcel>, priority_queue<parcel>) {
    no_parcel_left check;
    static int put, done;
    const auto program = []() -> task<> {
        put = done = 0;
        Queue q(1);
        auto putter = [&](int from) -> task<> {
            for (int i = 0; i < 3; ++i) {
                co_await q.emplace(from + i);
                ++put;
                co_await sleep_for(1ms);
            }
        };
        auto worker = [&]() -> task<> {
            while (auto item = co_await q.get()) {
                ++done;
                q.task_done();
                co_await yield();
            }
        };
        auto body = [&](task_group& group) -> task<> {
            group.spawn(worker).discard();
            group.spawn(worker).discard();
            auto one = group.spawn(putter, 0);
            auto two = group.spawn(putter, 3);
            co_await one;
            co_await two;
            co_await q.join();
            q.shutdown();
        };
        co_await with_task_group(body);
        CHECK(done == 6);
    };
    // A put that ended by `cancelled` has put nothing; so of what was put at most one is not counted by the putters:
    // the one whose task was cancelled between the hand-over and its next step, and that one completes.
    const auto nothing_lost = [] { CHECK(done <= put); };
    const testing::every_step_report report = testing::cancel_at_every_step(program, nothing_lost);
    CHECK_MESSAGE(report.ok(), report.text());
    CHECK(report.points > 10);
}

namespace {

struct traffic {
    int put = 0, got = 0, left = 0;
};

/// Several tasks that put, get, select and give up at random; whatever is cut short, what was put is got or left.
template <class Queue>
task<> random_traffic(std::uint64_t seed, traffic& seen) {
    seen = {};
    test::dice dice(seed);
    {
        Queue q(1 + dice.below(3));
        auto puts = [&](std::uint64_t own) -> task<> {
            test::dice mine(own);
            for (int i = 0; i < 4; ++i) {
                parcel p(static_cast<int>(mine.below(3)));
                if (mine.one_in(2)) {
                    co_await q.put_from(p);
                    ++seen.put;
                } else {
                    auto chosen = co_await select_in_order(sleep_for(1us), q.put_from(p));
                    if (chosen.index() == 1) ++seen.put;
                    CHECK((chosen.index() == 1) == (p.number() == -1));
                }
                if (mine.one_in(2)) co_await yield();
            }
        };
        auto gets = [&](std::uint64_t own) -> task<> {
            test::dice mine(own);
            for (int i = 0; i < 4; ++i) {
                auto chosen = co_await select_in_order(q.get(), sleep_for(1us * static_cast<int>(mine.below(3))));
                if (chosen.index() == 0 && chosen.template get<0>()) {
                    ++seen.got;
                    q.task_done();
                }
                if (mine.one_in(2)) co_await yield();
            }
        };
        auto body = [&](task_group& group) -> task<> {
            for (int i = 0; i < 2; ++i) group.spawn(puts, dice.next()).discard();
            for (int i = 0; i < 2; ++i) group.spawn(gets, dice.next()).discard();
            co_await sleep_for(1ms);
            seen.left += static_cast<int>(q.shutdown(dice.one_in(2)));
        };
        try {
            co_await with_task_group(body);
        } catch (const std::exception&) {  // puts that were shut out
        } catch (const cancelled&) {
        }
        seen.left += static_cast<int>(q.shutdown(true));
        CHECK(q.waiting_putters() + q.waiting_getters() == 0);
        CHECK(q.unfinished() == 0);
    }
}

}  // namespace

TEST_CASE_TEMPLATE("queue: random traffic, cancelled at every step, loses and doubles nothing", Queue, queue<parcel>,
                   lifo_queue<parcel>, priority_queue<parcel>) {
    no_parcel_left check;
    static traffic seen;
    std::size_t points = 0;
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        CAPTURE(seed);
        const auto program = [seed]() { return random_traffic<Queue>(seed, seen); };
        const auto nothing_lost = [] { CHECK(seen.put == seen.got + seen.left); };
        const testing::every_step_report report = testing::cancel_at_every_step(program, nothing_lost);
        CHECK_MESSAGE(report.ok(), report.text());
        points += report.points;
    }
    CHECK(points > 500);
}

// --- random programs --------------------------------------------------------------------------------------

namespace {

/// What a queue does, said with a vector. `before(a, b)`: a comes out before b, of two that were put in this order.
template <class Before>
class model {
 public:
    model(std::size_t capacity, Before before) : capacity_(capacity), before_(before) {}

    /// True: put; false: refused; empty: it waits.
    std::optional<bool> put(int number) {
        if (ended) return false;
        if (!getters.empty()) {
            got[getters.front()] = number;
            getters.pop_front();
            ++in_hand;
            return true;
        }
        if (values.size() < capacity_) {
            values.push_back(number);
            return true;
        }
        putters.push_back(number);
        return std::nullopt;
    }
    /// 0: the end; empty: it waits.
    std::optional<int> get(int id) {
        if (values.empty()) {
            if (ended) return 0;
            getters.push_back(id);
            return std::nullopt;
        }
        auto best = values.begin();
        for (auto each = best + 1; each != values.end(); ++each)
            if (before_(*best, *each)) best = each;
        const int number = *best;
        values.erase(best);
        ++in_hand;
        if (!putters.empty()) {
            values.push_back(putters.front());
            put_ends[putters.front()] = true;
            putters.pop_front();
        }
        return number;
    }
    /// Of who joins: whether all is done.
    bool idle() const { return values.size() + in_hand == 0; }
    std::size_t shutdown(bool immediate) {
        ended = true;
        for (const int number : putters) put_ends[number] = false;
        for (const int id : getters) got[id] = 0;
        putters.clear();
        getters.clear();
        const std::size_t dropped = immediate ? values.size() : 0;
        if (immediate) values.clear();
        return dropped;
    }

    std::vector<int> values;  // in the order in which they were put
    std::deque<int> putters, getters;
    std::size_t in_hand = 0;
    bool ended = false;
    std::map<int, bool> put_ends;  // of those that waited: how that ended
    std::map<int, int> got;  // the same

 private:
    std::size_t capacity_;
    Before before_;
};

/// Twice, since a wait that is over at once may still go behind the others.
task<> let_run() {
    co_await yield();
    co_await yield();
}

// Numbers are n * 8 + rank, rank in [0, 8), so that many are equals.
int next_number(int n, test::dice& dice) { return n * 8 + static_cast<int>(dice.below(8)); }
struct by_rank {
    bool operator()(int a, int b) const { return a % 8 < b % 8; }
};

template <class Queue, class Before>
task<> random_program(std::uint64_t seed, long steps, Before before) {
    test::dice dice(seed);
    while (steps > 0) {
        const std::size_t capacity = dice.one_in(5) ? unbounded : 1 + dice.below(4);
        Queue q(capacity);
        model<Before> expected(capacity, before);
        std::map<int, bool> put_ends;
        std::map<int, int> got;
        std::map<int, task_handle<>> putters, getters, joiners;  // that wait
        const auto put = [&](int number) -> task<> {
            const auto r = co_await attempt(q.put(number));
            put_ends[number] = r.has_value();
        };
        const auto get = [&](int id) -> task<> {
            const auto item = co_await q.get();
            got[id] = item.value_or(0);
        };
        const auto join_it = [&]() -> task<> { co_await q.join(); };
        int n = 0;
        for (long round = 1 + static_cast<long>(dice.below(300)); round > 0 && steps > 0; --round, --steps) {
            const int number = next_number(++n, dice);
            const std::size_t what = dice.below(24);
            if (what < 7) {
                auto task = spawn(put, number);
                const auto r = expected.put(number);
                co_await let_run();
                REQUIRE(task.done() == r.has_value());
                if (r) {
                    REQUIRE(put_ends[number] == *r);
                } else {
                    putters[number] = std::move(task);
                }
            } else if (what < 13) {
                auto task = spawn(get, number);
                const auto r = expected.get(number);
                co_await let_run();
                REQUIRE(task.done() == r.has_value());
                if (r) {
                    REQUIRE(got[number] == *r);
                } else {
                    getters[number] = std::move(task);
                }
            } else if (what == 13) {
                const auto item = q.try_get();
                const auto r = expected.get(-1);
                if (!r) expected.getters.pop_back();
                REQUIRE(item.value_or(0) == r.value_or(0));
            } else if (what == 14) {
                const bool ok = q.try_put(int(number)).has_value();
                const auto r = expected.put(number);
                if (!r) expected.putters.pop_back();
                REQUIRE(ok == r.value_or(false));
            } else if (what == 15) {
                auto task = spawn(join_it);
                co_await let_run();
                REQUIRE(task.done() == expected.idle());
                if (!task.done()) joiners[number] = std::move(task);
            } else if (what < 18 && !expected.putters.empty()) {
                const auto at = expected.putters.begin() + static_cast<long>(dice.below(expected.putters.size()));
                putters.at(*at).cancel();
                co_await let_run();
                REQUIRE(putters.at(*at).state() == task_state::cancelled);
                putters.erase(*at);
                expected.putters.erase(at);
            } else if (what < 20 && !expected.getters.empty()) {
                const auto at = expected.getters.begin() + static_cast<long>(dice.below(expected.getters.size()));
                getters.at(*at).cancel();
                co_await let_run();
                REQUIRE(getters.at(*at).state() == task_state::cancelled);
                getters.erase(*at);
                expected.getters.erase(at);
            } else if (what == 20 && !joiners.empty()) {
                joiners.begin()->second.cancel();
                co_await let_run();
                REQUIRE(joiners.begin()->second.state() == task_state::cancelled);
                joiners.erase(joiners.begin());
            } else if (what > 20) {
                // a getter that was cancelled after the hand-over has its value in hand, too: it is known to the model
                if (expected.in_hand == 0) {
                    CHECK_THROWS_AS(q.task_done(), std::logic_error);
                } else {
                    q.task_done();
                    --expected.in_hand;
                }
            }
            if (round == 1 || dice.one_in(400)) {
                const bool immediate = dice.one_in(2);
                REQUIRE(q.shutdown(immediate) == expected.shutdown(immediate));
            }
            co_await let_run();
            for (const auto& [each, ok] : expected.put_ends) {
                REQUIRE(putters.at(each).done());
                REQUIRE(put_ends.at(each) == ok);
                putters.erase(each);
            }
            for (const auto& [id, value] : expected.got) {
                REQUIRE(getters.at(id).done());
                REQUIRE(got.at(id) == value);
                getters.erase(id);
            }
            for (auto& [id, task] : joiners) REQUIRE(task.done() == expected.idle());
            if (expected.idle()) joiners.clear();
            expected.put_ends.clear();
            expected.got.clear();
            put_ends.clear();
            got.clear();
            REQUIRE(q.size() == expected.values.size());
            REQUIRE(q.unfinished() == expected.values.size() + expected.in_hand);
            REQUIRE(q.waiting_putters() == expected.putters.size());
            REQUIRE(q.waiting_getters() == expected.getters.size());
            REQUIRE(q.waiting_joiners() == joiners.size());
        }
        q.shutdown(true);
        for (; expected.in_hand != 0; --expected.in_hand) q.task_done();
        for (auto& [number, task] : putters) static_cast<void>(co_await attempt(task));
        for (auto& [id, task] : getters) static_cast<void>(co_await attempt(task));
        for (auto& [id, task] : joiners) co_await task;
    }
}

#if defined(__SANITIZE_ADDRESS__) || !defined(__OPTIMIZE__)
constexpr long steps = 4'000;
#else
constexpr long steps = 50'000;
#endif

}  // namespace

TEST_CASE("queue: random programs end as the model says, of each kind" * doctest::test_suite("order")) {
    const auto older = [](int, int) { return false; };
    const auto newer = [](int, int) { return true; };
    const auto lower = [](int first, int then) { return by_rank()(then, first); };
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
        CAPTURE(seed);
        test::run(random_program<queue<int>, decltype(older)>, seed, steps, older);
        test::run(random_program<lifo_queue<int>, decltype(newer)>, seed + 10, steps, newer);
        test::run(random_program<priority_queue<int, by_rank>, decltype(lower)>, seed + 20, steps, lower);
    }
}
