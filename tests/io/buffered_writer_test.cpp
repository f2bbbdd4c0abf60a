// buffered_writer: marks, flushes, several writers, and what is left when one of them is cancelled.
#include "support/every_step.hpp"
#include "support/scripted_stream.hpp"

#include <rondo/io/buffered_writer.hpp>

#include <map>
#include <string>

using namespace rondo;
using namespace std::chrono_literals;
using test::scripted_stream;

namespace {

/// Not by `+` in a coroutine, where g++ 12 sees a copy that is too long.
std::string joined(std::string front, std::string_view back) {
    front += back;
    return front;
}

TEST_CASE("buffered_writer: many small writes are one large one") {
    test::run([]() -> task<> {
        scripted_stream stream;
        buffered_writer out(stream);
        for (int i = 0; i < 100; ++i) co_await out.write("word ");
        CHECK(stream.writes == 0);
        CHECK(out.buffered() == 500);
        co_await out.flush();
        CHECK(stream.writes == 1);
        CHECK(stream.taken.size() == 500);
        CHECK(out.buffered() == 0);
        CHECK(out.written() == 500);
        co_await out.flush();  // nothing to do
        CHECK(stream.writes == 1);
    });
}

TEST_CASE("buffered_writer: above the high mark who writes waits until the low mark is reached") {
    test::run([]() -> task<> {
        scripted_stream stream;
        stream.at_once = 10;
        buffered_writer out(stream, {.high = 100, .low = 20});
        co_await out.write(std::string(100, 'a'));
        CHECK(stream.taken.empty());  // not above it
        co_await out.write(std::string(50, 'b'));
        CHECK(stream.taken.empty());  // one piece on top
        co_await out.write("c");
        CHECK(stream.taken == joined(std::string(100, 'a'), std::string(50, 'b')));
        co_await out.flush();
        CHECK(stream.taken.back() == 'c');
    });
}

TEST_CASE("buffered_writer: try_write refuses above the mark, and takes what is alone") {
    test::run([]() -> task<> {
        scripted_stream stream;
        buffered_writer out(stream, {.high = 10, .low = 5});
        const bool large = out.try_write(std::string(50, 'x'));
        CHECK(large);
        const bool full = out.try_write("y");
        CHECK(!full);
        co_await out.flush();
        const bool fits = out.try_write("0123456789");
        CHECK(fits);
        const bool too_much = out.try_write("z");
        CHECK(!too_much);
        co_await out.flush();
        CHECK(stream.taken == joined(std::string(50, 'x'), "0123456789"));
    });
}

TEST_CASE(
    "buffered_writer: pieces of several tasks are not torn apart, and each task's keep their order (hazard D10)") {
    test::run([]() -> task<> {
        scripted_stream stream;
        stream.at_once = 7;
        buffered_writer out(stream, {.high = 30, .low = 10});
        auto writes = [&out](char who) -> task<> {
            for (int i = 0; i < 20; ++i) {
                const std::string piece = joined(joined(std::string(1, who), std::to_string(i)), ";");
                co_await out.write(piece);
            }
        };
        auto body = [&](task_group& group) -> task<> {
            for (const char who : {'a', 'b', 'c'}) group.spawn(writes, who).discard();
            co_return;
        };
        co_await with_task_group(body);
        co_await out.flush();
        std::map<char, int> next;
        std::size_t at = 0, count = 0;
        while (at < stream.taken.size()) {
            const std::size_t end = stream.taken.find(';', at);
            const std::string piece = stream.taken.substr(at, end - at);
            CHECK(std::stoi(piece.substr(1)) == next[piece[0]]++);
            at = end + 1;
            ++count;
        }
        CHECK(count == 60);
    });
}

TEST_CASE("buffered_writer: a flush waits for what was there, not for what comes later") {
    test::run([]() -> task<> {
        scripted_stream stream;
        stream.at_once = 1;
        buffered_writer out(stream);
        co_await out.write("0123456789");
        auto flushed = spawn([&]() -> task<std::uint64_t> {
            co_await out.flush();
            co_return out.written();
        });
        co_await immediate();
        co_await out.write(std::string(1000, 'x'));
        auto rest = spawn([&]() -> task<> { co_await out.flush(); });
        const std::uint64_t then = co_await flushed;
        CHECK(then < 100);
        co_await rest;
        CHECK(out.written() == 1010);
    });
}

TEST_CASE("buffered_writer: run() writes what comes, and ends after end()") {
    test::run([]() -> task<> {
        scripted_stream stream;
        buffered_writer out(stream);
        auto runs = spawn([&]() -> task<> { co_await out.run(); });
        for (const char* word : {"one ", "two ", "three"}) {
            const bool taken = out.try_write(word);
            CHECK(taken);
            for (int i = 0; i < 5; ++i) co_await immediate();
        }
        CHECK(stream.taken == "one two three");
        CHECK(!runs.done());
        CHECK(out.try_write(" and the last"));
        out.end();
        co_await runs;
        CHECK(stream.taken == "one two three and the last");
    });
}

TEST_CASE("buffered_writer: the stream's error meets everybody, now and later") {
    test::run([]() -> task<> {
        scripted_stream stream;
        stream.at_once = 2;
        stream.fails_after = 6;
        buffered_writer out(stream, {.high = 4, .low = 0});
        co_await out.write("12345678");
        auto flushes = spawn([&]() -> task<> { co_await out.flush(); });
        auto writes = spawn([&]() -> task<> { co_await out.write("x"); });
        auto runs = spawn([&]() -> task<> { co_await out.run(); });
        for (auto* each : {&flushes, &writes, &runs}) {
            const auto ended = co_await attempt(*each);
            CHECK(ended.error() == std::errc::broken_pipe);
        }
        CHECK(out.written() == 6);
        CHECK(!out.try_write("y"));
        const auto later = co_await attempt(out.flush());
        CHECK(later.error() == std::errc::broken_pipe);
        const auto once_more = co_await attempt(out.write("z"));
        CHECK(once_more.error() == std::errc::broken_pipe);
    });
}

TEST_CASE("buffered_writer: who is cancelled in the middle of a write leaves the rest to the others") {
    test::run([]() -> task<> {
        scripted_stream stream;
        stream.at_once = 1;
        buffered_writer out(stream);
        co_await out.write("0123456789");
        auto first = spawn([&]() -> task<> { co_await out.flush(); });
        auto second = spawn([&]() -> task<> { co_await out.flush(); });
        for (int i = 0; i < 4; ++i) co_await immediate();
        first.cancel();
        co_await second;
        CHECK(stream.taken == "0123456789");
    });
}

TEST_CASE("cancel at every step: a buffered_writer's bytes go out once and in order, or stay") {
    std::string went_out;
    const int points = test::cancel_at_every_step([&]() -> task<> {
        went_out.clear();
        scripted_stream stream;
        stream.at_once = 3;
        buffered_writer out(stream, {.high = 8, .low = 2});
        auto writes = [&](int from) -> task<> {
            for (int i = from; i < from + 3; ++i) co_await out.write(joined(joined("<", std::to_string(i)), ">"));
        };
        std::exception_ptr cut;
        try {
            auto body = [&](task_group& group) -> task<> {
                group.spawn(writes, 1).discard();
                group.spawn(writes, 4).discard();
                group.spawn([&]() -> task<> { co_await out.run(); }).discard();
                co_await sleep_for(1ms);
                out.end();
            };
            co_await with_task_group(body);
        } catch (const cancelled&) {
            cut = std::current_exception();
        }
        auto rest = [&] { return out.flush(); };
        co_await shield(rest);
        CHECK(out.buffered() == 0);
        int depth = 0;
        for (const char c : stream.taken) {
            if (c == '<') ++depth;
            if (c == '>') --depth;
            CHECK((depth == 0 || depth == 1));
        }
        CHECK(depth == 0);
        if (cut) std::rethrow_exception(cut);
    });
    CHECK(points > 10);
}

}  // namespace
