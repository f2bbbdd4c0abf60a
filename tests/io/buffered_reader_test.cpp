// buffered_reader: lines and other pieces, however the bytes arrive.
#include "support/every_step.hpp"
#include "support/scripted_stream.hpp"

#include <rondo/io/buffered_reader.hpp>

using namespace rondo;
using namespace std::chrono_literals;
using test::scripted_stream;

namespace {

using pieces = std::deque<std::string>;

/// All lines, each with a bar behind it.
task<std::string> all_lines(pieces script, std::size_t capacity = 16, std::size_t limit = 1000) {
    scripted_stream stream(std::move(script));
    buffered_reader in(stream, capacity);
    std::string all, line;
    for (;;) {
        const bool more = co_await in.read_line(line, limit);
        if (!more) break;
        all += line + '|';
    }
    co_return all;
}

static_assert(byte_reader<buffered_reader<tcp_stream>>);
static_assert(byte_reader<buffered_reader<buffered_reader<scripted_stream>>>);

TEST_CASE("buffered_reader: lines are the same however the bytes arrive") {
    const std::string text = "one\ntwo\r\n\r\n\nfive \r six\nseven\n";
    for (std::size_t size = 1; size <= text.size(); ++size) {
        CAPTURE(size);
        pieces script;
        for (std::size_t at = 0; at < text.size(); at += size) script.push_back(text.substr(at, size));
        for (const std::size_t capacity : {1, 2, 7, 4096}) {
            const std::string lines = test::run(all_lines, script, capacity, 1000);
            CHECK(lines == "one|two|||five \r six|seven|");
        }
    }
}

TEST_CASE("buffered_reader: the last line needs no end, and an empty stream has no line") {
    CHECK(test::run(all_lines, pieces{"a\nb"}, 16, 10) == "a|b|");
    CHECK(test::run(all_lines, pieces{"a\nb\r"}, 16, 10) == "a|b\r|");
    CHECK(test::run(all_lines, pieces{"\n"}, 16, 10) == "|");
    CHECK(test::run(all_lines, pieces{}, 16, 10) == "");
}

TEST_CASE("buffered_reader: a line of the limit is read, a longer one is an error and stays (hazard F6)") {
    CHECK(test::run(all_lines, pieces{"12345\n", "12345\r\n", "12345"}, 4, 5) == "12345|12345|12345|");
    for (const char* ending : {"\n", "\r\n", "", "7\n", "78901234567890\n"}) {
        CAPTURE(ending);
        test::run([ending]() -> task<> {
            scripted_stream stream({"ok\n123", std::string("456") + ending});
            buffered_reader in(stream, 4);
            const auto first = co_await in.read_line(5);
            CHECK(*first == "ok");
            const auto second = co_await attempt(in.read_line(5));
            CHECK(second.error() == std::errc::message_size);
            const auto again = co_await in.read_line(100);
            CHECK(again->starts_with("123456"));
        });
    }
}

TEST_CASE("buffered_reader: read_until gives the delimiter as well, but at the end") {
    test::run([]() -> task<> {
        scripted_stream stream({"a=1;", ";b;;;", ";rest"});
        buffered_reader in(stream, 2);
        const std::string first = co_await in.read_until(";;");
        CHECK(first == "a=1;;");
        const std::string second = co_await in.read_until(";;");
        CHECK(second == "b;;");
        const std::string third = co_await in.read_until(";;");
        CHECK(third == ";;");
        const std::string rest = co_await in.read_until(";;");
        CHECK(rest == "rest");
        const std::string nothing = co_await in.read_until(";;");
        CHECK(nothing.empty());
    });
}

TEST_CASE("buffered_reader: a delimiter ends within the limit, or it is an error") {
    test::run([]() -> task<> {
        scripted_stream stream({"12345;67890"});
        buffered_reader in(stream);
        const auto too_long = co_await attempt(in.read_until(";", 5));
        CHECK(too_long.error() == std::errc::message_size);
        const std::string fits = co_await in.read_until(";", 6);
        CHECK(fits == "12345;");
    });
}

TEST_CASE("buffered_reader: lines, counts and bytes can be mixed") {
    test::run([]() -> task<> {
        scripted_stream stream({"5\r", "\nhel", "lo\r\nab", "cdefghijklmnop", "q"});
        buffered_reader in(stream, 16);
        const auto count = co_await in.read_line();
        CHECK(*count == "5");
        const std::string body = co_await in.read_exactly(5);
        CHECK(body == "hello");
        const auto seen = co_await in.peek(2);
        CHECK(test::as_text(seen) == "\r\nab");
        in.drop(2);
        char two[2];
        const std::size_t n = co_await in.read_some(two);
        CHECK(std::string(two, n) == "ab");
        char large[64];
        const std::size_t past = co_await in.read_some(large);  // the buffer is empty, and smaller
        CHECK(std::string(large, past) == "cdefghijklmnop");
        const std::size_t end = co_await in.read_exactly(large);
        CHECK(std::string(large, end) == "q");
        const auto none = co_await in.peek();
        CHECK(none.empty());
    });
}

TEST_CASE("buffered_reader: an error of the stream comes out, and what came before is kept") {
    test::run([]() -> task<> {
        scripted_stream stream({"half a li", "!", "ne\n"});
        buffered_reader in(stream);
        const auto failed = co_await attempt(in.read_line());
        CHECK(failed.error() == std::errc::connection_reset);
        CHECK(test::as_text(in.buffered()) == "half a li");
        const auto line = co_await in.read_line();
        CHECK(*line == "half a line");
    });
}

TEST_CASE("buffered_reader: many short lines cost one read of the stream") {
    test::run([]() -> task<> {
        std::string text;
        for (int i = 0; i < 1000; ++i) text += "line\n";
        scripted_stream stream({text});
        buffered_reader in(stream);
        std::string line;
        for (int i = 0; i < 1000; ++i) co_await in.read_line(line);
        CHECK(line == "line");
        CHECK(stream.reads == 1);
    });
}

TEST_CASE("buffered_reader: a line that comes byte by byte is looked at once") {
    // Looking again at what was there would be 16 GB of comparing.
    test::run([]() -> task<> {
        pieces script;
        for (int i = 0; i < 60'000; ++i) script.push_back("xxx");
        script.push_back("\n");
        scripted_stream stream(std::move(script));
        buffered_reader in(stream);
        const auto line = co_await in.read_line(1'000'000);
        CHECK(line->size() == 180'000);
    });
}

TEST_CASE("buffered_reader: a time limit that cuts a line in two loses nothing of it") {
    test::run([]() -> task<> {
        test::connection c = co_await test::connected();
        buffered_reader in(c.server);
        co_await c.client.write_all("first ha");
        auto reads = [&] { return in.read_line(); };
        const auto in_time = co_await move_on_after(200ms, reads);
        CHECK(!in_time.has_value());
        co_await c.client.write_all("lf\n");
        const auto line = co_await in.read_line();
        CHECK(*line == "first half");
    });
}

TEST_CASE("cancel at every step: lines through a socket; none is lost or cut") {
    const int points = test::cancel_at_every_step([]() -> task<> {
        test::connection c = co_await test::connected();
        auto writes = [](tcp_stream& to) -> task<> {
            for (const char* part : {"a", "bc\nd", "\n", "ef\r", "\ng"}) {
                co_await to.write_all(part);
                co_await immediate();
            }
            to.shutdown();
        };
        auto body = [&](task_group& group) -> task<> {
            group.spawn(writes, std::ref(c.client)).discard();
            buffered_reader in(c.server, 2);
            std::string all, line;
            for (;;) {
                const bool more = co_await in.read_line(line);
                if (!more) break;
                all += line + '|';
            }
            CHECK(all == "abc|d|ef|g|");
        };
        co_await with_task_group(body);
    });
    CHECK(points > 5);
}

}  // namespace
