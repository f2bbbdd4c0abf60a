#include <rondo/channel/broadcast.hpp>

#include "support/every_step.hpp"

#include <string>
#include <vector>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

task<std::vector<int>> read_all(subscription<int>& from) {
    std::vector<int> all;
    while (auto item = co_await from.receive()) all.push_back(*item);
    co_return all;
}

}  // namespace

TEST_CASE("broadcast: every value to everyone who had subscribed") {
    test::run([]() -> task<> {
        broadcast<int> news(4);
        co_await news.send(0);  // nobody listens
        subscription<int> a = news.subscribe();
        subscription<int> b = news.subscribe();
        co_await news.send(1);
        subscription<int> late = news.subscribe();
        co_await news.send(2);
        news.close();
        const auto by_a = co_await read_all(a);
        const auto by_b = co_await read_all(b);
        const auto by_late = co_await read_all(late);
        CHECK(by_a == std::vector<int>{1, 2});
        CHECK(by_b == std::vector<int>{1, 2});
        CHECK(by_late == std::vector<int>{2});
        CHECK(a.missed() == 0);
    });
}

TEST_CASE("broadcast: who is slow loses the oldest, and is told how many (tokio: lagged)") {
    test::run([]() -> task<> {
        broadcast<int> news(3, when_slow::skip);
        subscription<int> slow = news.subscribe();
        subscription<int> quick = news.subscribe();
        for (int i = 0; i < 10; ++i) {
            CHECK(news.try_send(i));
            const auto item = co_await quick.receive();
            CHECK(item == i);
        }
        CHECK(slow.missed() == 7);
        news.close();
        const auto rest = co_await read_all(slow);
        CHECK(rest == std::vector<int>{7, 8, 9});
        CHECK(slow.missed() == 7);
        CHECK(quick.missed() == 0);
    });
}

TEST_CASE("broadcast: or senders wait for the slowest, who loses nothing") {
    test::run([]() -> task<> {
        broadcast<int> news(2, when_slow::wait);
        subscription<int> slow = news.subscribe();
        subscription<int> quick = news.subscribe();
        auto sender = spawn([&]() -> task<> {
            for (int i = 0; i < 6; ++i) co_await news.send(i);
            news.close();
        });
        auto reads = spawn([&]() -> task<std::vector<int>> { return read_all(quick); });
        for (int i = 0; i < 5; ++i) co_await test::others_first();
        CHECK_FALSE(news.try_send(99));
        CHECK_FALSE(sender.done());
        const auto by_slow = co_await read_all(slow);
        CHECK(by_slow == std::vector<int>{0, 1, 2, 3, 4, 5});
        const auto by_quick = co_await reads;
        CHECK(by_quick == by_slow);
        CHECK(slow.missed() == 0);
        co_await sender;
    });
}

TEST_CASE("broadcast: a subscriber that leaves is not waited for") {
    test::run([]() -> task<> {
        broadcast<std::string> news(1, when_slow::wait);
        subscription<std::string> stays = news.subscribe();
        auto leaves = std::make_unique<subscription<std::string>>(news.subscribe());
        co_await news.send("one");
        auto sender = spawn([&]() -> task<> { co_await news.send("two"); });
        const auto one = co_await stays.receive();
        CHECK(one == "one");
        co_await yield();
        CHECK_FALSE(sender.done());
        leaves.reset();
        co_await sender;
        const auto two = co_await stays.receive();
        CHECK(two == "two");
        CHECK(news.subscribers() == 1);
    });
}

TEST_CASE("broadcast: closing wakes both sides; sending then fails") {
    test::run([]() -> task<> {
        broadcast<int> news(1, when_slow::wait);
        subscription<int> never_reads = news.subscribe();
        subscription<int> reads = news.subscribe();
        co_await news.send(1);
        auto sender = spawn([&]() -> task<std::error_code> { return test::error_of(news.send(2)); });
        auto reader = spawn([&]() -> task<std::vector<int>> { return read_all(reads); });
        co_await yield();
        co_await yield();
        news.close();
        const std::error_code error = co_await sender;
        CHECK(error == std::errc::broken_pipe);
        const auto all = co_await reader;
        CHECK(all == std::vector<int>{1});
        const auto again = co_await attempt(news.send(3));
        CHECK(again.error() == std::errc::broken_pipe);
        CHECK_FALSE(news.try_send(4));
    });
}

TEST_CASE("broadcast: a receive that was cancelled, or lost in a select, leaves the subscription to the next") {
    test::run([]() -> task<> {
        broadcast<int> b(4);
        auto s = b.subscribe();
        const auto receive = [&]() -> task<> { static_cast<void>(co_await s.receive()); };
        const bool in_time = co_await move_on_after(1ms, receive);
        CHECK_FALSE(in_time);
        for (int i = 0; i < 2; ++i) {
            const auto chosen = co_await select_in_order(s.receive(), immediate());
            CHECK(chosen.index() == 1);
        }
        CHECK(b.try_send(7));
        const auto chosen = co_await select_in_order(immediate(), s.receive());
        CHECK(chosen.index() == 1);
        CHECK(b.try_send(8));
        const auto lost = co_await select_in_order(sleep_until(now()), s.receive());
        CHECK(lost.index() == 0);
        const auto got = co_await s.receive();
        CHECK(got == 8);
    });
}

// The slot of a value was filled again while its destructor ran.
TEST_CASE("broadcast: the destructor of a value that is given up may send another") {
    struct last_words {
        explicit last_words(broadcast<last_words>* b, std::string t) : to(b), text(std::move(t)) {}
        last_words(const last_words& from) : text(from.text) {}
        last_words(last_words&& from) noexcept : to(std::exchange(from.to, nullptr)), text(std::move(from.text)) {}
        last_words& operator=(last_words&&) = delete;
        ~last_words() {
            if (to != nullptr) static_cast<void>(to->try_send(last_words(nullptr, "the last words of " + text)));
        }
        broadcast<last_words>* to = nullptr;
        std::string text;
    };
    for (const when_slow choice : {when_slow::skip, when_slow::wait}) {
        test::run(
            [](when_slow slow) -> task<> {
                broadcast<last_words> b(2, slow);
                auto s = b.subscribe();
                for (int i = 0; i < 5; ++i) {
                    static_cast<void>(b.try_send(last_words(&b, "a value that is too long for a short string")));
                    if (slow == when_slow::wait) static_cast<void>(co_await s.receive());
                }
                b.close();
                std::size_t left = 0;
                while (auto value = co_await s.receive()) {
                    CHECK(value->text.find("short string") != std::string::npos);
                    ++left;
                }
                CHECK(left <= 2);
            },
            choice);
    }
}

TEST_CASE("broadcast: cancel at every step") {
    for (const when_slow choice : {when_slow::skip, when_slow::wait}) {
        const auto program = [choice]() -> task<> {
            broadcast<int> news(2, choice);
            co_await with_task_group([&](task_group& group) -> task<> {
                for (int r = 0; r < 2; ++r) {
                    group
                        .spawn(
                            [](subscription<int> from) -> task<> {
                                int next = 0;
                                while (auto item = co_await from.receive()) {
                                    CHECK(*item >= next);
                                    next = *item + 1;
                                    co_await sleep_for(1ms);
                                }
                                CHECK(next == 5);
                            },
                            news.subscribe())
                        .discard();
                }
                for (int i = 0; i < 5; ++i) co_await news.send(i);
                news.close();
            });
        };
        CHECK(test::cancel_at_every_step(program) > 0);
    }
}
