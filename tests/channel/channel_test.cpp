#include <rondo/channel/channel.hpp>

#include "support/every_step.hpp"
#include "support/parcel.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using namespace rondo;
using namespace std::chrono_literals;
using test::journal;
using test::no_parcel_left;
using test::parcel;

namespace {

struct letter {  // what users write first: an aggregate with a string
    std::string to;
    int pages = 0;
};

task<> send_numbers(channel<int>& into, int from, int count) {
    for (int i = 0; i < count; ++i) co_await into.send(from + i);
}

task<std::vector<int>> receive_all(channel<int>& from) {
    std::vector<int> all;
    while (auto item = co_await from.receive()) all.push_back(*item);
    co_return all;
}

template <class Awaitable>
task<std::error_code> failure_of(Awaitable operation) {
    return test::error_of(std::move(operation));
}

}  // namespace

TEST_CASE("channel: values arrive in the order in which they were sent") {
    test::run([]() -> task<> {
        for (const std::size_t capacity : {0u, 1u, 2u, 7u, 100u}) {
            CAPTURE(capacity);
            channel<int> numbers(capacity);
            auto producer = spawn(send_numbers, std::ref(numbers), 0, 20);
            auto consumer = spawn(receive_all, std::ref(numbers));
            co_await producer;
            numbers.close();
            const std::vector<int> all = co_await consumer;
            REQUIRE(all.size() == 20);
            for (int i = 0; i < 20; ++i) CHECK(all[static_cast<std::size_t>(i)] == i);
        }
    });
}

TEST_CASE("channel: unbuffered, a send ends only when its value is taken") {
    test::run([]() -> task<> {
        channel<int> c;
        journal seen;
        auto sender = spawn([&]() -> task<> {
            seen.add("sending");
            co_await c.send(1);
            seen.add("sent");
        });
        co_await test::others_first();
        CHECK(seen.text() == "sending");
        CHECK(c.waiting_senders() == 1);
        CHECK(c.size() == 0);
        const auto got = co_await c.receive();
        CHECK(got == 1);
        CHECK((seen.text() == "sending" || test::in_chaos()));  // a wake-up is queued, not run
        co_await sender;
        CHECK(seen.text() == "sending sent");
    });
}

TEST_CASE("channel: buffered, a send waits only for room") {
    test::run([]() -> task<> {
        channel<int> c(2);
        co_await c.send(1);
        co_await c.send(2);
        CHECK(c.size() == 2);
        auto third = spawn(send_numbers, std::ref(c), 3, 1);
        co_await test::others_first();
        CHECK(c.waiting_senders() == 1);
        const auto first = co_await c.receive();
        CHECK(first == 1);
        CHECK(c.size() == 2);  // the third took the room at once
        CHECK(c.waiting_senders() == 0);
        const auto second = co_await c.receive();
        CHECK(second == 2);
        co_await third;
        CHECK(c.try_receive() == 3);
    });
}

TEST_CASE("channel: who waits first is served first, on either side (Go: unbuffered waiters)" *
          doctest::test_suite("order")) {
    test::run([]() -> task<> {
        channel<int> c;
        journal seen;
        const auto receive_as = [&](std::string name) -> task<> {
            const auto item = co_await c.receive();
            seen.add(name + std::to_string(item.value_or(0)));
        };
        auto a = spawn(receive_as, "a");
        auto b = spawn(receive_as, "b");
        auto d = spawn(receive_as, "d");
        co_await yield();
        for (int i = 1; i <= 3; ++i) CHECK(c.try_send(int(i)));
        co_await a;
        co_await b;
        co_await d;
        CHECK(seen.text() == "a1 b2 d3");

        std::vector<task_handle<>> senders;
        for (int i = 0; i < 4; ++i) senders.push_back(spawn(send_numbers, std::ref(c), i, 1));
        co_await yield();
        for (int i = 0; i < 4; ++i) CHECK(c.try_receive() == i);
        for (auto& each : senders) co_await each;
    });
}

TEST_CASE("channel: several senders and receivers: every value once, and none else") {
    test::run([]() -> task<> {
        for (const std::size_t capacity : {0u, 1u, 3u, 64u}) {
            CAPTURE(capacity);
            channel<int> c(capacity);
            std::vector<task_handle<>> producers;
            std::vector<task_handle<std::vector<int>>> consumers;
            for (int i = 0; i < 3; ++i) consumers.push_back(spawn(receive_all, std::ref(c)));
            for (int i = 0; i < 5; ++i) producers.push_back(spawn(send_numbers, std::ref(c), i * 100, 100));
            for (auto& each : producers) co_await each;
            c.close();
            std::vector<int> all;
            for (auto& each : consumers) {
                const std::vector<int> part = co_await each;
                CHECK(part.size() > 0);
                all.insert(all.end(), part.begin(), part.end());
            }
            std::sort(all.begin(), all.end());
            REQUIRE(all.size() == 500);
            for (int i = 0; i < 500; ++i) CHECK(all[static_cast<std::size_t>(i)] == i);
        }
    });
}

// --- closing

TEST_CASE("channel: after close, buffered values are received first, then nothing (Go: receive from closed)") {
    test::run([]() -> task<> {
        channel<int> c(3);
        co_await c.send(1);
        co_await c.send(2);
        c.close();
        CHECK(c.closed());
        CHECK_FALSE(c.finished());
        const auto first = co_await c.receive();
        const auto second = co_await c.receive();
        CHECK(first == 1);
        CHECK(second == 2);
        CHECK(c.finished());
        for (int i = 0; i < 3; ++i) {  // and it never blocks
            const auto nothing = co_await c.receive();
            CHECK_FALSE(nothing);
        }
        CHECK_FALSE(c.try_receive());
    });
}

TEST_CASE("channel: sending on a closed one is an error, and the value stays (Go: panics)") {
    test::run([]() -> task<> {
        no_parcel_left check;
        channel<parcel> c(1);
        c.close();
        c.close();  // once more does no harm
        parcel mine(7);
        const auto error = co_await failure_of(c.send(std::move(mine)));
        CHECK(error == std::errc::broken_pipe);
        CHECK(mine.number() == 7);
        const auto r = co_await attempt(c.send_from(mine));
        CHECK(r.error() == std::errc::broken_pipe);
        CHECK(c.try_send(std::move(mine)).error() == std::errc::broken_pipe);
        CHECK(mine.number() == 7);
        try {
            co_await c.emplace(8);
            FAIL_CHECK("sent");
        } catch (const io_error& e) {
            CHECK(std::string(e.operation()) == "send");
            CHECK(e.subject() == "a closed channel");
        }
    });
}

TEST_CASE("channel: the cause of a close comes behind what is buffered (Kotlin: close(cause))") {
    test::run([]() -> task<> {
        channel<int> c(1);
        CHECK_FALSE(c.cause());
        co_await c.send(1);
        c.close(std::make_exception_ptr(io_error(std::make_error_code(std::errc::io_error), "read", "disk 3")));
        c.close(std::make_exception_ptr(std::runtime_error("later")));  // the first one stays
        CHECK(c.closed());
        CHECK(c.cause());
        const auto first = co_await c.receive();
        CHECK(first == 1);
        CHECK(c.finished());
        CHECK_FALSE(c.try_receive());
        CHECK(c.try_send(2).error() == std::errc::broken_pipe);
        for (int i = 0; i < 2; ++i) {  // each who asks gets it
            const auto got = co_await attempt(c.receive());
            CHECK(got.failure().message() == "read disk 3: Input/output error");
            const auto sent = co_await attempt(c.emplace(2));
            CHECK(sent.failure().message() == "read disk 3: Input/output error");
            const auto thrown = co_await failure_of(c.receive());
            CHECK(thrown == std::errc::io_error);
        }
        auto chosen = co_await attempt(select_one(c.receive(), sleep_for(1h)));
        CHECK(chosen.error() == std::errc::io_error);
    });
}

TEST_CASE("channel: a cause that is no system_error is thrown in both spellings; a plain close has none") {
    test::run([]() -> task<> {
        channel<int> c;
        c.close(std::make_exception_ptr(std::logic_error("odd")));
        int thrown = 0;
        const auto count_throw = [&](auto wait) -> task<> {
            try {
                static_cast<void>(co_await std::move(wait));
            } catch (const std::logic_error&) {
                ++thrown;
            }
        };
        co_await count_throw(c.receive());
        co_await count_throw(attempt(c.receive()));
        co_await count_throw(c.emplace(1));
        co_await count_throw(attempt(c.emplace(1)));
        CHECK(thrown == 4);
        channel<int> plain;
        plain.close(nullptr);
        const auto nothing = co_await plain.receive();
        CHECK_FALSE(nothing);
        CHECK_FALSE(plain.cause());
    });
}

TEST_CASE("channel: a cause reaches all who wait, on both sides, and leaves values with their senders") {
    test::run([]() -> task<> {
        no_parcel_left check;
        const auto cause =
            std::make_exception_ptr(io_error(std::make_error_code(std::errc::host_unreachable), "connect", "a feed"));
        for (const bool receiving : {true, false}) {
            channel<parcel> c;
            int told = 0;
            const auto receive = [](channel<parcel>& from, int& n) -> task<> {
                const auto r = co_await attempt(from.receive());
                n += r.error() == std::errc::host_unreachable;
            };
            const auto send = [](channel<parcel>& to, int& n) -> task<> {
                parcel mine(3);
                const auto r = co_await attempt(to.send_from(mine));
                n += r.error() == std::errc::host_unreachable && mine.number() == 3;
            };
            const auto body = [&](task_group& group) -> task<> {
                for (int i = 0; i < 3; ++i) {
                    if (receiving) group.spawn(receive, std::ref(c), std::ref(told)).discard();
                    if (!receiving) group.spawn(send, std::ref(c), std::ref(told)).discard();
                }
                co_await test::others_first();
                c.close(cause);
            };
            co_await with_task_group(body);
            CHECK(told == 3);
        }
    });
}

TEST_CASE("channel: closing wakes everyone who waits, on both sides") {
    test::run([]() -> task<> {
        no_parcel_left check;
        channel<parcel> c;
        int ended = 0;
        const auto receiver = [&]() -> task<> {
            const auto item = co_await c.receive();
            CHECK_FALSE(item);
            ++ended;
        };
        std::vector<task_handle<>> all;
        for (int i = 0; i < 3; ++i) all.push_back(spawn(receiver));
        co_await test::others_first();
        c.close();
        for (auto& each : all) co_await each;
        CHECK(ended == 3);

        channel<parcel> full(1);
        co_await full.emplace(0);
        const auto sender = [&](int number) -> task<> {
            parcel mine(number);
            const auto r = co_await attempt(full.send(std::move(mine)));
            CHECK(r.error() == std::errc::broken_pipe);
            CHECK(mine.number() == number);
            ++ended;
        };
        all.clear();
        for (int i = 1; i < 4; ++i) all.push_back(spawn(sender, i));
        co_await test::others_first();
        CHECK(full.waiting_senders() == 3);
        full.close();
        for (auto& each : all) co_await each;
        CHECK(ended == 6);
        const auto kept = co_await full.receive();
        CHECK(kept->number() == 0);
    });
}

TEST_CASE("channel: discarding closes and tells how many values nobody will receive (Kotlin: cancel)") {
    test::run([]() -> task<> {
        no_parcel_left check;
        channel<parcel> c(4);
        for (int i = 0; i < 3; ++i) co_await c.emplace(i);
        CHECK(parcel::live == 3);
        CHECK(c.discard() == 3);
        CHECK(parcel::live == 0);
        CHECK(c.finished());
        CHECK(c.discard() == 0);
        const auto r = co_await attempt(c.emplace(4));
        CHECK(r.error() == std::errc::broken_pipe);
    });
}

TEST_CASE("channel: values that are still buffered go with it") {
    test::run([]() -> task<> {
        no_parcel_left check;
        channel<parcel> c(3);
        for (int round = 0; round < 2; ++round) {  // so that the ring has wrapped
            for (int i = 0; i < 2; ++i) co_await c.emplace(i);
            if (round == 0) co_await c.receive();
            if (round == 0) co_await c.receive();
        }
        CHECK(parcel::live == 2);
    });
}

TEST_CASE("channel: the last share of the senders closes it (Trio: EndOfChannel)") {
    test::run([]() -> task<> {
        channel<int> c(1);
        const auto produce = [](channel_sender<int> out, int from) -> task<> {
            for (int i = 0; i < 3; ++i) co_await out->send(from + i);
        };
        auto consumer = spawn(receive_all, std::ref(c));
        {
            channel_sender<int> mine(c);
            spawn(produce, mine, 0).discard();
            spawn(produce, mine, 10).discard();
        }
        CHECK_FALSE(c.closed());
        const std::vector<int> all = co_await consumer;  // ends, though nobody said close()
        CHECK(all.size() == 6);
        CHECK(c.finished());
    });
}

TEST_CASE("channel: a sender that dies gives up its share") {
    test::run([]() -> task<> {
        channel<int> c;
        const auto failing = [](channel_sender<int> out) -> task<> {
            co_await out->send(1);
            throw std::runtime_error("ran out of numbers");
        };
        auto producer = spawn(failing, channel_sender<int>(c));
        const std::vector<int> all = co_await receive_all(c);
        CHECK(all == std::vector<int>{1});
        std::string said;
        try {
            co_await producer;
        } catch (const std::runtime_error& e) {
            said = e.what();
        }
        CHECK(said == "ran out of numbers");
    });
}

TEST_CASE("channel: the last share of the receivers discards it (Trio: BrokenResource)") {
    test::run([]() -> task<> {
        no_parcel_left check;
        channel<parcel> c(1);
        co_await c.emplace(1);
        auto waiting = spawn([&]() -> task<std::error_code> { return failure_of(c.emplace(2)); });
        channel_receiver<parcel> one(c);
        channel_receiver<parcel> other = one;
        co_await yield();
        one = {};
        CHECK_FALSE(c.closed());
        other = {};
        CHECK(c.finished());
        const auto error = co_await waiting;
        CHECK(error == std::errc::broken_pipe);
    });
}

// --- cancelling: where the value is

TEST_CASE("channel: a value handed to a receiver that is cancelled in the same turn is received (anyio #146, #728)") {
    test::run([]() -> task<> {
        no_parcel_left check;
        channel<parcel> c;
        int got = 0;
        auto receiver = spawn([&]() -> task<> {
            const auto item = co_await c.receive();
            got = item->number();
            co_await test::others_first();  // here the cancel is met
            got = -1;
        });
        co_await test::others_first();
        CHECK(c.try_send(parcel(5)));
        receiver.cancel();
        const auto ended = co_await attempt(receiver);
        CHECK(ended.error() == std::errc::operation_canceled);
        CHECK(got == 5);
    });
}

TEST_CASE("channel: a receiver that was cancelled before takes nothing") {
    test::run([]() -> task<> {
        no_parcel_left check;
        channel<parcel> c(1);
        auto first = spawn([&]() -> task<> { static_cast<void>(co_await c.receive()); });
        auto second = spawn([&]() -> task<int> {
            const auto item = co_await c.receive();
            co_return item->number();
        });
        co_await test::others_first();
        first.cancel();
        CHECK(c.try_send(parcel(6)));
        const int got = co_await second;
        CHECK(got == 6);
        co_await test::others_first();
        CHECK(first.state() == task_state::cancelled);
    });
}

TEST_CASE("channel: a cancelled send has not touched the value; a completed one is a success (tokio #6558)") {
    test::run([]() -> task<> {
        no_parcel_left check;
        channel<parcel> c;
        parcel mine(1);
        bool sent = false;
        const auto sender = [&]() -> task<> {
            co_await c.send(std::move(mine));
            sent = true;
        };
        auto first = spawn(sender);
        co_await test::others_first();
        first.cancel();
        CHECK_FALSE(c.try_receive());  // its place in the queue is gone already
        static_cast<void>(co_await attempt(first));
        CHECK_FALSE(sent);
        CHECK(mine.number() == 1);

        auto second = spawn(sender);
        co_await test::others_first();
        const auto got = c.try_receive();
        second.cancel();  // too late
        static_cast<void>(co_await attempt(second));
        CHECK(sent);
        CHECK(got->number() == 1);
        CHECK(mine.number() == -1);
    });
}

TEST_CASE("channel: one that leaves the queue leaves the others in order" * doctest::test_suite("order")) {
    test::run([]() -> task<> {
        channel<int> c;
        std::vector<task_handle<>> senders;
        for (int i = 0; i < 5; ++i) senders.push_back(spawn(send_numbers, std::ref(c), i, 1));
        co_await yield();
        senders[0].cancel();
        senders[3].cancel();
        CHECK(c.waiting_senders() == 3);
        for (const int expected : {1, 2, 4}) CHECK(c.try_receive() == expected);
        CHECK_FALSE(c.try_receive());
    });
}

TEST_CASE("channel: in a cancelled task every wait is refused, also one that would not have to wait") {
    test::run([]() -> task<> {
        channel<int> c(2);
        co_await c.send(1);
        auto victim = spawn([&]() -> task<> {
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
            }
            int refused = 0;
            try {
                static_cast<void>(co_await c.receive());
            } catch (const cancelled&) {
                ++refused;
            }
            try {
                co_await c.send(2);
            } catch (const cancelled&) {
                ++refused;
            }
            CHECK(refused == 2);
        });
        co_await yield();
        victim.cancel();
        static_cast<void>(co_await attempt(victim));
        CHECK(c.size() == 1);
    });
}

// --- not waiting

TEST_CASE("channel: try_send and try_receive never wait") {
    test::run([]() -> task<> {
        no_parcel_left check;
        channel<parcel> c(1);
        CHECK_FALSE(c.try_receive());
        CHECK(c.try_send(parcel(1)));
        parcel second(2);
        CHECK(c.try_send(std::move(second)).error() == std::errc::resource_unavailable_try_again);
        CHECK(second.number() == 2);
        CHECK(c.try_receive()->number() == 1);
        CHECK_FALSE(c.finished());

        channel<parcel> unbuffered;
        CHECK_FALSE(unbuffered.try_send(parcel(3)));
        auto sender = spawn([&]() -> task<> { co_await unbuffered.emplace(4); });
        co_await test::others_first();
        CHECK(unbuffered.try_receive()->number() == 4);
        co_await sender;
    });
}

TEST_CASE("channel: attempt gives results") {
    test::run([]() -> task<> {
        channel<std::string> c(1);
        const auto sent = co_await attempt(c.send("one"));
        CHECK(sent);
        auto got = co_await attempt(c.receive());
        CHECK(**got == "one");
        c.close();
        got = co_await attempt(c.receive());
        REQUIRE(got);  // the end is a value
        CHECK_FALSE(*got);
    });
}

// --- kinds of values

TEST_CASE("channel: an aggregate with a string, in every spelling that g++ 12 takes") {
    test::run([]() -> task<> {
        channel<letter> c(8);
        co_await c.emplace(std::string(40, 'a'), 1);
        const letter named{std::string(40, 'b'), 2};
        co_await c.send(named);  // a copy
        letter moved{std::string(40, 'c'), 3};
        co_await c.send_from(moved);
        letter tried{std::string(40, 'd'), 4};
        CHECK(c.try_send(std::move(tried)));
#if !RONDO_GCC12
        co_await c.send(letter{std::string(40, 'e'), 5});  // lint: allow - not for g++ 12
#else
        co_await c.emplace(std::string(40, 'e'), 5);
#endif
        for (int i = 1; i <= 5; ++i) {
            const auto got = co_await c.receive();
            CHECK(got->pages == i);
            CHECK(got->to == std::string(40, static_cast<char>('a' + i - 1)));
        }
        CHECK(named.to.size() == 40);
    });
}

TEST_CASE("channel: values that only move, small ones, and what converts") {
    test::run([]() -> task<> {
        channel<std::unique_ptr<int>> pointers(1);
        co_await pointers.send(std::make_unique<int>(3));
        const auto three = co_await pointers.receive();
        CHECK(**three == 3);
        channel<std::string> words(2);
        const char* const plain = "converted";
        co_await words.send(plain);
        std::string copied = "copied, not moved from";
        co_await words.send(copied);
        CHECK(copied == "copied, not moved from");
        const auto first = co_await words.receive();
        CHECK(*first == "converted");
        channel<std::array<char, 1>> bytes(3);
        co_await bytes.send(std::array<char, 1>{'x'});
        const auto x = bytes.try_receive();
        CHECK((*x)[0] == 'x');
    });
}

// --- the loop around it

TEST_CASE("channel: a deadlock names who waits on which side") {
    std::string report;
    try {
        run([]() -> task<> {
            channel<int> unbuffered;
            channel<int> full(2);
            CHECK(full.try_send(1));
            CHECK(full.try_send(2));
            auto sender = spawn([&]() -> task<> { co_await full.send(3); });
            static_cast<void>(co_await unbuffered.receive());
        });
    } catch (const deadlock_error& e) {
        report = e.what();
    }
    CHECK(report.find("receive from an unbuffered channel") != std::string::npos);
    CHECK(report.find("send to a channel with 2 of 2 values") != std::string::npos);
}

TEST_CASE("channel: a task that never has to wait lets timers run all the same") {
    test::run([]() -> task<> {
        channel<int> c(1);
        bool fired = false;
        this_loop().set_timeout(0ms, [&] { fired = true; });
        long rounds = 0;
        while (!fired) {
            co_await c.send(1);
            static_cast<void>(co_await c.receive());
            ++rounds;
            REQUIRE(rounds < 1'000'000);
        }
        CHECK(rounds > 50);  // most of them without a trip through the queue
    });
}

TEST_CASE("channel: cancel at every step") {
    for (const std::size_t capacity : {0u, 1u, 3u}) {
        CAPTURE(capacity);
        no_parcel_left check;
        const auto program = [capacity]() -> task<> {
            channel<parcel> c(capacity);
            int sum = 0;
            co_await with_task_group([&](task_group& group) -> task<> {
                channel_sender<parcel> mine(c);
                for (int p = 0; p < 2; ++p) {
                    group
                        .spawn(
                            [](channel_sender<parcel> out, int from) -> task<> {
                                for (int i = 0; i < 3; ++i) {
                                    co_await out->emplace(from + i);
                                    co_await sleep_for(1ms);
                                }
                            },
                            mine, p * 3)
                        .discard();
                }
                group
                    .spawn([&]() -> task<> {
                        while (auto item = co_await c.receive()) sum += item->number();
                    })
                    .discard();
                co_return;
            });
            CHECK(sum == 15);
        };
        CHECK(test::cancel_at_every_step(program) > 0);
    }
}
