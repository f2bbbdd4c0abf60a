// Values from other threads. Run under ThreadSanitizer too.
#include "support/eventful.hpp"
#include "support/every_step.hpp"

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;

TEST_SUITE_BEGIN("threads");

namespace {

/// Knows how many of it are alive, on whatever thread.
struct counted {
    static inline std::atomic<int> alive{0};
    explicit counted(int v) : value(v) { ++alive; }
    counted(counted&& other) noexcept : value(std::exchange(other.value, -1)) { ++alive; }
    counted& operator=(counted&&) = delete;
    ~counted() { --alive; }
    int value;
};

TEST_CASE("thread channel: four threads send through three places; all arrives, each thread's in order") {
    struct local {
        static task<> body() {
            constexpr int threads = 4, each = 5000;
            thread_channel<int> in(3);
            std::vector<std::thread> all;
            for (int t = 0; t < threads; ++t)
                all.emplace_back([t, out = in.make_sender()] {
                    for (int i = 0; i < each; ++i)
                        if (!out.send(t * each + i)) return;
                });
            int last[threads] = {-1, -1, -1, -1};
            int count = 0;
            bool in_order = true;
            while (auto value = co_await in.receive()) {
                const int t = *value / each;
                in_order = in_order && *value % each == last[t] + 1;
                last[t] = *value % each;
                ++count;
            }
            for (auto& t : all) t.join();
            CHECK(in_order);
            CHECK(count == threads * each);
        }
    };
    test::run(local::body);
}

TEST_CASE("thread channel: full and closed are told, and the value stays with who could not send it") {
    struct local {
        static task<> body() {
            thread_channel<std::unique_ptr<int>> in(1);
            auto out = in.make_sender();
            auto first = std::make_unique<int>(1);
            auto second = std::make_unique<int>(2);
            CHECK(out.try_send(std::move(first)) == send_status::sent);
            CHECK(out.try_send(std::move(second)) == send_status::full);
            CHECK(second != nullptr);
            auto got = co_await in.receive();
            CHECK(**got == 1);
            CHECK(out.try_send(std::move(second)) == send_status::sent);
            in.close();
            auto third = std::make_unique<int>(3);
            CHECK(out.try_send(std::move(third)) == send_status::closed);
            CHECK_FALSE(out.send(std::move(third)));
            CHECK(third != nullptr);
            got = co_await in.receive();  // what was sent is received
            CHECK(**got == 2);
            got = co_await in.receive();
            CHECK_FALSE(got.has_value());
        }
    };
    test::run(local::body);
}

TEST_CASE("thread channel: closing it wakes blocked senders; nothing that was sent is lost") {
    struct local {
        static task<> body() {
            thread_channel<counted> in(2);
            std::atomic<int> sent{0};
            std::vector<std::thread> all;
            for (int t = 0; t < 4; ++t)
                all.emplace_back([&sent, out = in.make_sender()] {
                    for (;;) {
                        if (!out.send(counted(1))) return;
                        ++sent;
                    }
                });
            int received = 0;
            for (; received < 100; ++received) static_cast<void>(co_await in.receive());
            in.close();
            while (auto value = co_await in.receive()) ++received;
            for (auto& t : all) t.join();
            CHECK(sent == received);
        }
    };
    test::run(local::body);
    CHECK(counted::alive == 0);
}

TEST_CASE("thread channel: dropped with senders at work, it destroys what had arrived and refuses the rest") {
    struct local {
        static task<> body(std::vector<std::thread>& all) {
            thread_channel<counted> in(3);
            for (int t = 0; t < 3; ++t)
                all.emplace_back([out = in.make_sender()] {
                    while (out.send(counted(1))) {
                    }
                    CHECK(out.closed());
                });
            for (int i = 0; i < 50; ++i) static_cast<void>(co_await in.receive());
        }
    };
    std::vector<std::thread> all;
    test::run(local::body, std::ref(all));
    for (auto& t : all) t.join();
    CHECK(counted::alive == 0);
}

TEST_CASE("thread channel: the end comes when the last copy of its sender goes, after all values") {
    struct local {
        static task<> body(journal& j) {
            thread_channel<int> in(8);
            auto out = in.make_sender();
            auto copy = out;
            auto reader = [&]() -> task<> {
                while (auto value = co_await in.receive()) j.add(std::to_string(*value));
                j.add("end");
            };
            auto reading = spawn(reader);
            CHECK(out.send(1));
            co_await sleep_for(1ms);
            out = {};
            CHECK(copy.send(2));
            co_await sleep_for(1ms);
            copy = {};
            co_await reading;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "1 2 end");
}

TEST_CASE("thread channel: senders that are gone before the next is made end nothing in the same turn") {
    struct local {
        static task<> body(journal& j) {
            thread_channel<int> in(8);
            for (int i = 1; i <= 3; ++i) {
                std::thread quick([i, out = in.make_sender()] { REQUIRE(out.send(i)); });
                quick.join();
            }
            auto last = in.make_sender();
            co_await sleep_for(1ms);  // the notices of the others arrive
            CHECK(last.send(4));
            last = {};
            while (auto value = co_await in.receive()) j.add(std::to_string(*value));
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "1 2 3 4");
}

TEST_CASE("thread channel: senders made again and again while others go lose nothing") {
    struct local {
        static task<> body(int& total) {
            thread_channel<int> in(4);
            auto reader = [&]() -> task<> {
                while (auto value = co_await in.receive()) total += *value;
            };
            auto reading = spawn(reader);
            auto kept = in.make_sender();
            std::vector<std::thread> all;
            for (int i = 0; i < 50; ++i) {
                all.emplace_back([out = in.make_sender()] { static_cast<void>(out.send(1)); });
                if (i == 25) kept = {};  // from here on there is none but those of the threads: no wait until the end
            }
            co_await reading;
            for (auto& t : all) t.join();
        }
    };
    int total = 0;
    test::run(local::body, std::ref(total));
    CHECK(total == 50);
}

TEST_CASE("thread channel: a sender outlives its loop, and is told") {
    struct local {
        static task<> body(thread_channel<int>::sender& out) {
            thread_channel<int> in(4);
            out = in.make_sender();
            CHECK(out.send(1));
            co_return;
        }
    };
    thread_channel<int>::sender out;
    test::run(local::body, std::ref(out));
    CHECK(out.closed());
    CHECK_FALSE(out.send(2));
    CHECK(out.try_send(3) == send_status::closed);
}

TEST_CASE("thread channel: a value whose constructor throws costs no place") {
    struct choosy {
        explicit choosy(int v) : value(v) {
            if (v < 0) throw std::invalid_argument("negative");
        }
        choosy(choosy&&) noexcept = default;
        int value;
    };
    struct local {
        static task<> body() {
            thread_channel<choosy> in(1);
            auto out = in.make_sender();
            for (int i = 0; i < 5; ++i) {
                CHECK_THROWS_AS(out.try_send(-1), std::invalid_argument);
                co_await immediate();  // the place comes home through the inbox: a pending phase lies between
            }
            CHECK(out.try_send(7) == send_status::sent);
            auto got = co_await in.receive();
            CHECK(got->value == 7);
            out = {};
            const auto end = co_await in.receive();
            CHECK_FALSE(end.has_value());
        }
    };
    test::run(local::body);
}

TEST_CASE("thread channel: receivers are served in turn; a cancelled one takes nothing") {
    struct local {
        static task<> reader(thread_channel<int>& in, journal& j, const char* name) {
            const auto value = co_await in.receive();
            j.add(name + std::to_string(*value));
        }
        static task<> body(journal& j) {
            thread_channel<int> in(4);
            auto out = in.make_sender();
            auto a = spawn(reader, std::ref(in), std::ref(j), "a");
            co_await test::others_first();
            auto b = spawn(reader, std::ref(in), std::ref(j), "b");
            co_await test::others_first();
            auto c = spawn(reader, std::ref(in), std::ref(j), "c");
            co_await test::others_first();
            a.cancel();
            co_await test::others_first();
            for (int i = 1; i <= 3; ++i) CHECK(out.send(i));
            co_await b;
            co_await c;
            co_await immediate();  // each value is a callback of its own of the pending phase
            CHECK(in.size() == 1);
            CHECK(in.try_receive() == 3);
            CHECK_FALSE(in.try_receive().has_value());
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "b1 c2");
}

TEST_CASE("thread channel: one that blocks on the loop's own thread would never end: a capacity of 0 neither") {
    struct local {
        static task<> body() {
            CHECK_THROWS_AS(thread_channel<int>(0), std::invalid_argument);
            co_return;
        }
    };
    test::run(local::body);
}

// --- what is refused goes back -----------------------------------------------------------------------------------

// The first send after the loop's end found a free place, moved the value into it, and then nobody took it.
TEST_CASE("thread channel: a value that a loop that is gone does not take is untouched, from the first one on") {
    std::optional<thread_channel<std::unique_ptr<int>>> in;
    thread_channel<std::unique_ptr<int>>::sender out;
    {
        loop l;
        struct local {
            static task<> body(decltype(in)& in, decltype(out)& out) {
                in.emplace(4);
                out = in->make_sender();
                co_return;
            }
        };
        run_on(l, local::body, std::ref(in), std::ref(out));
    }
    auto value = std::make_unique<int>(1);
    CHECK_FALSE(out.send(std::move(value)));
    REQUIRE(value != nullptr);
    CHECK(out.try_send(std::move(value)) == send_status::closed);
    REQUIRE(value != nullptr);
    CHECK(out.closed());
    in.reset();
    CHECK_FALSE(out.send(std::move(value)));
    CHECK(value != nullptr);
}

namespace {

using test::eventful;
// What a channel makes of it does not turn back into it.
struct converted {
    explicit converted(eventful&& from) noexcept : of(std::move(from)) {}
    converted(converted&&) noexcept = default;
    eventful of;
};

}  // namespace

TEST_CASE_TEMPLATE("thread channel: the loop goes while the value is on its way: refused and back, or sent", T,
                   eventful, converted) {
    auto l = std::make_unique<loop>();
    std::optional<thread_channel<T>> in;
    typename thread_channel<T>::sender out;
    auto body = [&]() -> task<> {
        in.emplace(1);
        out = in->make_sender();
        co_return;
    };
    run_on(*l, body);
    std::function<void()> end;
    eventful value(end);
    end = [&] { l.reset(); };
    const send_status status = out.try_send(std::move(value));
    CHECK(l == nullptr);
    CHECK((status == send_status::closed) == (value.value != nullptr));
    CHECK((status == send_status::closed) == std::is_same_v<T, eventful>);
}

TEST_CASE("thread channel: while loops die, a value is received, goes with its loop, or is still its sender's") {
    for (int round = 0; round < 30; ++round) {
        std::atomic<bool> lost{false};
        std::vector<std::thread> all;
        std::optional<thread_channel<std::unique_ptr<int>>> in;
        {
            loop l;
            auto body = [&]() -> task<> {
                in.emplace(8);
                for (int t = 0; t < 2; ++t)
                    all.emplace_back([&, out = in->make_sender()] {
                        for (;;) {
                            auto value = std::make_unique<int>(1);
                            const send_status status = out.try_send(std::move(value));
                            if ((status == send_status::sent) != (value == nullptr)) lost = true;
                            if (status == send_status::closed) return;
                        }
                    });
                for (int i = 0; i < 100; ++i) co_await in->receive();
            };
            run_on(l, body);
        }
        for (auto& t : all) t.join();
        CHECK_FALSE(lost);
    }
}

TEST_CASE("cancel at every step: a receiver and a thread that sends") {
    struct local {
        static task<> body() {
            thread_channel<counted> in(1);
            std::thread other([out = in.make_sender()] {
                for (int i = 0; i < 5; ++i)
                    if (!out.send(counted(i))) return;
            });
            struct join {
                std::thread& t;
                thread_channel<counted>& in;
                ~join() {
                    in.close();
                    t.join();
                }
            } last{other, in};
            int expected = 0;
            while (auto value = co_await in.receive()) {
                CHECK(value->value == expected);
                ++expected;
            }
            CHECK(expected == 5);
        }
    };
    if (test::on_sim()) return;  // its clock would run ahead of a real thread, to the harness's watchdog
    CHECK(test::cancel_at_every_step(local::body) > 0);
    CHECK(counted::alive == 0);
}

}  // namespace

TEST_SUITE_END();
