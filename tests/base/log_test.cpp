// What the library says: one line a record, printable, and no flood.
#include "support/test.hpp"

#include <stdexcept>
#include <thread>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

/// Collects warnings and errors as long as it lives; a second passes when the test says so.
struct heard {
    struct line {
        std::string text;
        std::string file;
        log_level level;
        std::uint32_t task;
    };
    heard() {
        detail::hold_log_second(true);
        detail::pass_log_second();
        set_log_level(log_level::warning);  // a loop says at debug level which backend was refused
        set_log_sink(
            [](const log_record& r, void* to) noexcept {
                static_cast<heard*>(to)->lines.push_back(
                    {std::string(r.message), r.place.line() != 0 ? r.place.file_name() : "", r.level, r.task});
            },
            this);
    }
    ~heard() {
        detail::hold_log_second(false);
        set_log_sink(nullptr);
        set_log_level(detail::debug_enabled ? log_level::debug : log_level::warning);
    }
    std::vector<line> lines;
};

void say(const std::string& text) {
    static detail::log_gate gate(1000);
    detail::write_log(gate, log_level::warning, {}, "%s", text.c_str());
}

TEST_CASE("log: control characters are written out, so that a record is one harmless line") {
    heard log;
    say("peer said \x1b[31mred\n\tand\r\x7f more");
    say("grüße, 日本, \xf0\x9f\x8e\xb5");
    say("\xff bytes \xc3 that are no \xed\xa0 text \xc2\x9b");
    REQUIRE(log.lines.size() == 3);
    CHECK(log.lines[0].text == "peer said \\x1b[31mred\\n\\tand\\r\\x7f more");
    CHECK(log.lines[1].text == "grüße, 日本, \xf0\x9f\x8e\xb5");
    CHECK(log.lines[2].text == "\\xff bytes \\xc3 that are no \\xed\\xa0 text \\xc2\\x9b");
}

TEST_CASE("log: a record that was cut ends in dots, and in no half character") {
    heard log;
    say(std::string(511, 'a'));
    say(std::string(512, 'b'));
    say(std::string(505, 'c') + "日本日本日本");
    say(std::string(400, '\n'));
    REQUIRE(log.lines.size() == 4);
    CHECK(log.lines[0].text == std::string(511, 'a'));
    CHECK(log.lines[1].text == std::string(508, 'b') + "...");
    CHECK(log.lines[2].text == std::string(505, 'c') + "日...");
    CHECK(log.lines[3].text.size() <= 511);
    CHECK(log.lines[3].text.ends_with("\\n\\n..."));
}

/// A flood of `count` records at a place that lets one of them through.
void flood(detail::log_gate& gate, int count) {
    for (int i = 0; i < count; ++i)
        detail::write_log(gate, log_level::error, std::source_location::current(), "water %d, and more", i);
}

TEST_CASE("log: what was not shown is counted at last when a loop ends") {
    heard log;
    {
        const loop l;
        static detail::log_gate one(1), three(1);
        flood(one, 2);
        flood(three, 4);
        CHECK(log.lines.size() == 2);
    }
    REQUIRE(log.lines.size() == 4);
    CHECK(log.lines[0].text == "water 0, and more");
    std::string counts = log.lines[2].text + log.lines[3].text;
    CHECK(counts.find("1 more message like \"water ...\" was not shown (limit: 1 per second from one place)") !=
          std::string::npos);
    CHECK(counts.find("3 more messages like \"water ...\" were not shown (limit: 1 per second from one place)") !=
          std::string::npos);
    CHECK(log.lines[2].file.ends_with("log_test.cpp"));
    CHECK(log.lines[2].level == log_level::error);
}

TEST_CASE("log: what was not shown is counted before the next record of any place, a second later") {
    heard log;
    static detail::log_gate gate(1);
    flood(gate, 3);
    say("soon");
    CHECK(log.lines.size() == 2);
    detail::pass_log_second();
    say("later");
    REQUIRE(log.lines.size() == 4);
    CHECK(log.lines[2].text ==
          "2 more messages like \"water ...\" were not shown (limit: 1 per second from one place)");
    CHECK(log.lines[3].text == "later");
}

TEST_CASE("log: what was not shown is named without words if its message begins with a value") {
    heard log;
    static detail::log_gate gate(1);
    for (int i = 0; i < 3; ++i) detail::write_log(gate, log_level::warning, {}, "%d drops", i);
    detail::flush_log();
    CHECK(log.lines.back().text == "2 more messages were not shown (limit: 1 per second from one place)");
}

TEST_CASE("log: a session that fails is logged with its peer, and the line of serve") {
    heard log;
    std::string peer;
    test::run(
        [](std::string& client_address) -> task<> {
            tcp_listener listener = tcp_listener::bind("127.0.0.1", 0);
            serve_options options;
            options.stop_on_signals = false;
            auto fails = [](tcp_stream s) -> task<> {
                static_cast<void>(co_await s.receive());
                throw std::runtime_error("bad\nrequest");
            };
            auto server =
                spawn([](tcp_listener& l, auto session, serve_options o) -> task<> { co_await serve(l, session, o); },
                      std::ref(listener), fails, options);
            tcp_stream client = co_await tcp_stream::connect(listener.local());
            client_address = client.local().to_string();
            co_await client.write_all("x");
            static_cast<void>(co_await attempt(client.receive()));
            server.cancel();
            static_cast<void>(co_await attempt(server));
        },
        std::ref(peer));
    REQUIRE(log.lines.size() == 1);
    CHECK(log.lines[0].text.starts_with("session with " + peer +
                                        " ended: std::runtime_error: bad\\nrequest; at log_test.cpp:"));
    CHECK(log.lines[0].file.ends_with("log_test.cpp"));
    CHECK(log.lines[0].task != 0);
}

}  // namespace
