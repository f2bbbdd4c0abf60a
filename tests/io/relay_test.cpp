// relay: both ways, half-closes, resets, idle limits, and counts.
#include "support/every_step.hpp"
#include "support/scripted_stream.hpp"

#include <rondo/io/relay.hpp>

using namespace rondo;
using namespace std::chrono_literals;
using test::connection;
using test::scripted_stream;

namespace {

/// A client and a server with a relay between: client <-> (near, far) <-> server.
struct relayed {
    connection left;   // left.server is the near end
    connection right;  // right.client is the far end
    tcp_stream& client() { return left.client; }
    tcp_stream& server() { return right.server; }
};
task<relayed> in_between() {
    connection left = co_await test::connected();
    connection right = co_await test::connected();
    co_return relayed{std::move(left), std::move(right)};
}
task_handle<relay_result> start(relayed& r, relay_options options = {}) {
    auto runs = [](tcp_stream& a, tcp_stream& b, relay_options o) -> task<relay_result> {
        const relay_result result = co_await relay(a, b, o);
        co_await a.close();
        co_await b.close();
        co_return result;
    };
    return spawn(runs, std::ref(r.left.server), std::ref(r.right.client), options);
}

TEST_CASE("relay: bytes go both ways, each end is passed on, and all are counted") {
    test::run([]() -> task<> {
        relayed r = co_await in_between();
        auto relays = start(r);
        co_await r.client().write_all("question");
        const std::string question = co_await test::receive_text(r.server(), 8);
        CHECK(question == "question");
        r.client().shutdown();
        const buffer end = co_await r.server().receive();
        CHECK(end.empty());
        co_await r.server().write_all("an answer after the end");  // half-closed: this way is open
        const std::string answer = co_await test::receive_text(r.client(), 23);
        CHECK(answer == "an answer after the end");
        CHECK(!relays.done());
        r.server().shutdown();
        const buffer other_end = co_await r.client().receive();
        CHECK(other_end.empty());
        const relay_result result = co_await relays;
        CHECK(result.how == relay_end::both_ended);
        CHECK(!result.error);
        CHECK(result.first_to_second == 8);
        CHECK(result.second_to_first == 23);
    });
}

TEST_CASE("relay: megabytes each way at the same time arrive unchanged") {
    test::run([]() -> task<> {
        relayed r = co_await in_between();
        auto relays = start(r);
        static constexpr std::size_t size = 3'000'000;
        auto writes = [](tcp_stream& to, std::size_t which) -> task<> {
            const test::bytes all = test::make_pattern(which, 0, size);
            co_await to.write_all(all);
            to.shutdown();
        };
        auto reads = [](tcp_stream& from, std::size_t which) -> task<> {
            const test::bytes all = co_await test::read_to_end(from);
            CHECK(all.size() == size);
            CHECK(test::is_pattern(all, which));
        };
        auto body = [&](task_group& group) -> task<> {
            group.spawn(writes, std::ref(r.client()), 1).discard();
            group.spawn(writes, std::ref(r.server()), 2).discard();
            group.spawn(reads, std::ref(r.server()), 1).discard();
            group.spawn(reads, std::ref(r.client()), 2).discard();
            co_return;
        };
        co_await with_task_group(body);
        const relay_result result = co_await relays;
        CHECK(result.first_to_second == size);
        CHECK(result.second_to_first == size);
    });
}

TEST_CASE("relay: a reset of one side is a reset of the other") {
    for (const bool from_client : {true, false}) {
        CAPTURE(from_client);
        test::run([from_client]() -> task<> {
            relayed r = co_await in_between();
            auto relays = start(r);
            tcp_stream& resets = from_client ? r.client() : r.server();
            tcp_stream& other = from_client ? r.server() : r.client();
            co_await resets.write_all("half a mess");
            const std::string half = co_await test::receive_text(other, 11);
            CHECK(half == "half a mess");
            resets.reset_on_close();
            co_await resets.close();
            const std::error_code seen = co_await test::error_of(other.receive());
            CHECK(seen == std::errc::connection_reset);
            const relay_result result = co_await relays;
            CHECK(result.how == relay_end::failed);
            CHECK(result.error);
            CHECK(result.failed_on_first == from_client);
        });
    }
}

TEST_CASE("relay: a side that is gone while it is written to resets the other") {
    test::run([]() -> task<> {
        relayed r = co_await in_between();
        auto relays = start(r);
        co_await r.server().close();
        std::error_code seen;
        for (int i = 0; i < 1000 && !seen; ++i) {
            seen = co_await test::error_of(r.client().write_all("x"));
            co_await test::settle();
        }
        CHECK(seen);
        const relay_result result = co_await relays;
        CHECK(result.how == relay_end::failed);
        CHECK(!result.failed_on_first);
    });
}

TEST_CASE("relay: it ends when nothing has moved for the idle limit, and not before") {
    test::run([]() -> task<> {
        relayed r = co_await in_between();
        auto relays = start(r, {.idle = 500ms});
        for (int i = 0; i < 4; ++i) {
            co_await sleep_for(200ms);
            CHECK(!relays.done());
            tcp_stream& from = i % 2 == 0 ? r.client() : r.server();
            tcp_stream& to = i % 2 == 0 ? r.server() : r.client();
            co_await from.write_all("x");
            const std::string x = co_await test::receive_text(to, 1);
            CHECK(x == "x");
        }
        const relay_result result = co_await relays;
        CHECK(result.how == relay_end::idle);
        CHECK(result.first_to_second == 2);
        CHECK(result.second_to_first == 2);
    });
}

TEST_CASE("relay: streams that are no sockets, and lend no buffers, are as good") {
    test::run([]() -> task<> {
        scripted_stream a({"one ", "two"});
        scripted_stream b({"three"});
        b.at_once = 1;
        const relay_result result = co_await relay(a, b, {.chunk = 2});
        CHECK(result.how == relay_end::both_ended);
        CHECK(b.taken == "one two");
        CHECK(a.taken == "three");
        CHECK(a.ended);
        CHECK(b.ended);
        CHECK(!a.resets);
    });
}

TEST_CASE("relay: what went out before a failure is counted") {
    test::run([]() -> task<> {
        scripted_stream a({"0123456789"});
        scripted_stream b;
        b.fails_after = 4;
        const relay_result result = co_await relay(a, b);
        CHECK(result.how == relay_end::failed);
        CHECK(result.error == std::errc::broken_pipe);
        CHECK(!result.failed_on_first);
        CHECK(result.first_to_second == 4);
        CHECK(a.resets);
        CHECK(b.resets);
        CHECK(!b.ended);
    });
}

TEST_CASE("cancel at every step: a relay in the middle of everything") {
    const int points = test::cancel_at_every_step([]() -> task<> {
        relayed r = co_await in_between();
        auto relays = [&]() -> task<> {
            static_cast<void>(co_await relay(r.left.server, r.right.client, {.idle = 10s}));
        };
        auto body = [&](task_group& group) -> task<> {
            group.spawn(relays).discard();
            co_await r.client().write_all("ping");
            const std::string ping = co_await test::receive_text(r.server(), 4);
            co_await r.server().write_all(ping);
            r.server().shutdown();
            const std::string pong = co_await test::receive_text(r.client(), 4);
            CHECK(pong == "ping");
            r.client().shutdown();
        };
        co_await with_task_group(body);
    });
    CHECK(points > 10);
}

}  // namespace
