// relay between descriptors, both ways: through pipes of the kernel's, and by copying. What comes out must be
// the same.
#include "support/every_step.hpp"
#include "support/refusing_backend.hpp"
#include "support/relayed.hpp"

#include <rondo/io/relay.hpp>
#include <rondo/net/unix.hpp>

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace rondo;
using namespace std::chrono_literals;
using test::both_ways;
using test::connection;
using test::gets;
using test::in_between;
using test::one_buffer;
using test::relayed;
using test::run_relay;
using test::sends;

static_assert(detail::bare_descriptor_stream<tcp_stream> && detail::bare_descriptor_stream<unix_stream>);
static_assert(std::is_trivially_copyable_v<relay_options>);

namespace {

/// A stream that is a descriptor, and more: what it gives is not what the descriptor gives.
struct upper_case : tcp_stream {
    explicit upper_case(tcp_stream&& under) : tcp_stream(std::move(under)) {}
    task<std::size_t> write_all(bytes_view from, std::size_t* written = nullptr) {
        std::string text(static_cast<const char*>(from.data()), from.size());
        for (char& c : text) c = static_cast<char>(std::toupper(c));
        const std::size_t n = co_await tcp_stream::write_all(text, written);
        co_return n;
    }
};
static_assert(byte_stream<upper_case> && !detail::bare_descriptor_stream<upper_case>);

/// Relays `size` bytes there, and twice as many back.
task<relay_result> moves(relayed& r, std::size_t size, relay_options options) {
    relay_result result;
    auto relays = [&]() -> task<> { result = co_await relay(r.near_end(), r.far_end(), options); };
    auto body = [&](task_group& group) -> task<> {
        group.spawn(relays).discard();
        group.spawn(sends, std::ref(r.client()), 1, size).discard();
        group.spawn(sends, std::ref(r.server()), 2, 2 * size).discard();
        group.spawn(gets, std::ref(r.server()), 1, size).discard();
        group.spawn(gets, std::ref(r.client()), 2, 2 * size).discard();
        co_return;
    };
    co_await with_task_group(body);
    co_return result;
}

TEST_CASE("relay: spliced or copied, the same bytes arrive, of every size") {
    for (const bool splice : both_ways)
        for (const std::size_t size : {0ul, 1ul, 8'191ul, 8'192ul, 16'385ul, 65'537ul, 1'000'003ul}) {
            CAPTURE(splice);
            CAPTURE(size);
            run_relay([&]() -> task<> {
                relayed r = co_await in_between();
                const relay_result result = co_await moves(r, size, {.splice = splice});
                CHECK(result.how == relay_end::both_ended);
                CHECK(result.first_to_second == size);
                CHECK(result.second_to_first == 2 * size);
                if (!splice || size <= 1) CHECK(result.spliced == 0);
                if (splice && size > 1'000'000) CHECK(result.spliced != 0);
            });
        }
}

TEST_CASE("relay: small messages are copied") {
    run_relay([]() -> task<> {
        relayed r = co_await in_between();
        const relay_result result = co_await moves(r, 2'000, {});
        CHECK(result.spliced == 0);
    });
}

TEST_CASE("relay: Unix sockets are spliced as well, and to TCP") {
    run_relay([]() -> task<> {
        auto [near_client, near_end] = unix_stream::pair();
        connection right = co_await test::connected();
        relay_result result;
        auto relays = [&]() -> task<> { result = co_await relay(near_end, right.client); };
        const test::bytes all = test::make_pattern(1, 0, 400'000);
        auto writes = [&]() -> task<> {
            co_await near_client.write_all(all);
            near_client.shutdown();
        };
        auto body = [&](task_group& group) -> task<> {
            group.spawn(relays).discard();
            group.spawn(writes).discard();
            co_await gets(right.server, 1, all.size());
            co_await right.server.write_all(all);
            right.server.shutdown();
        };
        auto back = [&]() -> task<> {
            test::bytes got(all.size());
            const std::size_t n = co_await near_client.read_exactly(got);
            CHECK(n == all.size());
            CHECK(got == all);
        };
        auto everything = [&](task_group& group) -> task<> {
            group.spawn(back).discard();
            co_await with_task_group(body);
        };
        co_await with_task_group(everything);
        CHECK(result.how == relay_end::both_ended);
        CHECK(result.spliced > 0);
    });
}

TEST_CASE("relay: a stream with verbs of its own is not passed by") {
    run_relay([]() -> task<> {
        relayed r = co_await in_between();
        upper_case far_end(std::move(r.far_end()));
        auto relays = spawn([&]() -> task<relay_result> { return relay(r.near_end(), far_end); });
        const std::string text(100'000, 'x');
        auto writes = spawn([&]() -> task<> {
            co_await r.client().write_all(text);
            r.client().shutdown();
        });
        const test::bytes got = co_await test::read_to_end(r.server());
        CHECK(got.size() == text.size());
        CHECK(std::count(got.begin(), got.end(), std::byte{'X'}) == 100'000);
        r.server().shutdown();
        co_await writes;
        const relay_result result = co_await relays;
        CHECK(result.spliced == 0);
    });
}

/// Everything that a reader who is slow has not seen yet, wherever it was stopped.
task<> goes_on_after_a_stop(bool splice, bool by_idle) {
    relayed r = co_await in_between();
    test::keep_small(r.left);
    test::keep_small(r.right);
    constexpr std::size_t size = 2'000'000;
    auto writes = spawn(sends, std::ref(r.client()), 1, size);
    relay_options options{.splice = splice};
    if (by_idle) options.idle = 300ms;
    auto relays = spawn([&]() -> task<relay_result> { return relay(r.near_end(), r.far_end(), options); });
    if (by_idle) {
        const relay_result stopped = co_await relays;
        CHECK(stopped.how == relay_end::idle);
        CHECK((stopped.spliced != 0) == splice);
        CHECK(stopped.first_to_second < size);
    } else {
        co_await test::settle();
        relays.cancel();
        const auto stopped = co_await attempt(relays);
        CHECK(stopped.error() == std::errc::operation_canceled);
    }
    auto goes_on = spawn([&]() -> task<relay_result> { return relay(r.near_end(), r.far_end()); });
    co_await gets(r.server(), 1, size);
    r.server().shutdown();
    const relay_result result = co_await goes_on;
    CHECK(result.how == relay_end::both_ended);
    co_await writes;
}

TEST_CASE("relay: a slow receiver stops it in the middle of a pipe, and after a cancel another relay goes on there") {
    for (const bool splice : both_ways)
        for (const bool by_idle : {false, true}) {
            CAPTURE(splice);
            CAPTURE(by_idle);
            run_relay([&]() -> task<> { co_await goes_on_after_a_stop(splice, by_idle); });
        }
}

TEST_CASE("relay: its streams may go before it, as when the task that has them fails") {
    for (const bool splice : both_ways) {
        CAPTURE(splice);
        run_relay([&]() -> task<> {
            auto fails = [&]() -> task<> {
                relayed r = co_await in_between();
                test::keep_small(r.right);
                auto writes = spawn(sends, std::ref(r.client()), 1, 1'000'000);
                auto relays =
                    spawn([&]() -> task<relay_result> { return relay(r.near_end(), r.far_end(), {.splice = splice}); });
                co_await test::settle();
                relays.cancel();
                writes.cancel();
                relays.discard();
                writes.discard();
            };
            co_await fails();
            co_await test::settle();
        });
    }
}

TEST_CASE("relay: a reset in the middle of many bytes is passed on as one") {
    for (const bool splice : both_ways)
        for (const bool from_client : {true, false}) {
            CAPTURE(splice);
            CAPTURE(from_client);
            run_relay([&]() -> task<> {
                relayed r = co_await in_between();
                auto relays = spawn([&]() -> task<relay_result> {
                    const relay_result result = co_await relay(r.near_end(), r.far_end(), {.splice = splice});
                    co_await r.near_end().close();
                    co_await r.far_end().close();
                    co_return result;
                });
                tcp_stream& resets = from_client ? r.client() : r.server();
                tcp_stream& other = from_client ? r.server() : r.client();
                test::bytes got(200'000);
                auto reads = spawn([&]() -> task<> { co_await other.read_exactly(got); });
                const test::bytes many = test::make_pattern(1, 0, 250'000);
                co_await resets.write_all(many);
                co_await reads;
                CHECK(test::is_pattern(got, 1));
                resets.reset_on_close();
                co_await resets.close();
                std::error_code seen;
                while (!seen) {
                    test::bytes part(50'000);
                    const auto n = co_await attempt(other.read_some(part));
                    if (!n) seen = n.error();
                    REQUIRE(n.value_or(1) != 0);  // not as the end
                }
                CHECK(seen == std::errc::connection_reset);
                const relay_result result = co_await relays;
                CHECK(result.how == relay_end::failed);
                CHECK(result.failed_on_first == from_client);
            });
        }
}

TEST_CASE("relay: a side that is closed while much is on its way resets the other") {
    for (const bool splice : both_ways) {
        CAPTURE(splice);
        run_relay([&]() -> task<> {
            relayed r = co_await in_between();
            auto relays = spawn([&]() -> task<relay_result> {
                const relay_result result = co_await relay(r.near_end(), r.far_end(), {.splice = splice});
                co_await r.near_end().close();
                co_await r.far_end().close();
                co_return result;
            });
            auto writes = spawn([&]() -> task<std::error_code> {
                const test::bytes many = test::make_pattern(1, 0, 100'000);
                for (;;) {
                    const auto sent = co_await attempt(r.client().write_all(many));
                    if (!sent) co_return sent.error();
                }
            });
            test::bytes got(200'000);
            co_await r.server().read_exactly(got);
            CHECK(test::is_pattern(std::span(got).first(100'000), 1));
            co_await r.server().close();
            const relay_result result = co_await relays;
            CHECK(result.how == relay_end::failed);
            CHECK(!result.failed_on_first);
            const std::error_code seen = co_await writes;
            CHECK(seen);
        });
    }
}

/// What is refused to whoever splices, and how often.
struct refuses_splices {
    int in = 0;
    int out = 0;
    mutable int refused = 0;
    int error_for(const io_op& what) const {
        const int error = what.kind == io_kind::splice_in ? in : what.kind == io_kind::splice_out ? out : 0;
        if (error != 0) ++refused;
        return error;
    }
};

TEST_CASE("relay: without a pipe, or where nothing can be spliced, it copies") {
    struct {
        int in, out;
        bool tries_again;
    } const cases[] = {{EMFILE, 0, true},  {ENFILE, 0, true}, {ENOMEM, 0, true},  {ENOSYS, 0, false},
                       {EINVAL, 0, false}, {EPERM, 0, false}, {0, EINVAL, false}, {0, ENOSYS, false}};
    for (const auto& each : cases) {
        CAPTURE(each.in);
        CAPTURE(each.out);
        test::refusing<refuses_splices> kernel;
        kernel.what.in = each.in;
        kernel.what.out = each.out;
        loop_options options = one_buffer();
        options.factory = &kernel;
        run(options, []() -> task<> {
            relayed r = co_await in_between();
            const relay_result result = co_await moves(r, 500'000, {});
            CHECK(result.how == relay_end::both_ended);
            CHECK(result.first_to_second == 500'000);
            CHECK(result.second_to_first == 1'000'000);
            CHECK(result.spliced == 0);
        });
        if (each.tries_again) {
            CHECK(kernel.what.refused > 2);
        } else {
            CHECK(kernel.what.refused <= 2);  // once for each direction
        }
    }
}

TEST_CASE("relay: when the process has no descriptor left for a pipe, it copies") {
    if (test::on_sim()) return;  // a limit of the kernel's
    run_relay([]() -> task<> {
        relayed r = co_await in_between();
        rlimit before{};
        getrlimit(RLIMIT_NOFILE, &before);
        rlimit now = before;
        now.rlim_cur = 64;
        setrlimit(RLIMIT_NOFILE, &now);
        std::vector<int> others_have;
        for (int fd; (fd = ::dup(r.client().native_handle())) >= 0;) others_have.push_back(fd);
        const relay_result result = co_await moves(r, 500'000, {});
        for (const int fd : others_have) ::close(fd);
        setrlimit(RLIMIT_NOFILE, &before);
        CHECK(result.how == relay_end::both_ended);
        CHECK(result.spliced == 0);
        const auto others = co_await in_between();
        static_cast<void>(others);
    });
}

TEST_CASE("relay: a quiet one holds no pipe, however much it has moved, and no descriptor is left") {
    const std::size_t before = test::open_descriptors();
    run_relay([]() -> task<> {
        std::vector<relayed> all;
        std::vector<task_handle<relay_result>> relays;
        constexpr std::size_t count = 10;
        for (std::size_t i = 0; i < count; ++i) all.push_back(co_await in_between());
        const std::size_t connected = test::open_descriptors();
        auto runs = [](tcp_stream& a, tcp_stream& b) -> task<relay_result> { return relay(a, b); };
        for (relayed& r : all) relays.push_back(spawn(runs, std::ref(r.near_end()), std::ref(r.far_end())));
        for (relayed& r : all) {
            auto writes = spawn([&]() -> task<> {
                const test::bytes many = test::make_pattern(1, 0, 300'000);
                co_await r.client().write_all(many);
            });
            test::bytes got(300'000);
            co_await r.server().read_exactly(got);
            CHECK(test::is_pattern(got, 1));
            co_await writes;
        }
        co_await test::settle();
        if (!test::on_sim()) CHECK(test::open_descriptors() <= connected + 4);  // one or two, which are kept
        for (relayed& r : all) {
            r.client().shutdown();
            r.server().shutdown();
        }
        for (auto& each : relays) {
            const relay_result result = co_await each;
            CHECK(result.spliced > 0);
        }
    });
    CHECK(test::open_descriptors() == before);
}

TEST_CASE("relay: an urgent byte does not stop it, and is no part of the stream") {
    if (test::on_sim()) return;  // which has none
    for (const bool splice : both_ways) {
        CAPTURE(splice);
        run_relay([&]() -> task<> {
            relayed r = co_await in_between();
            auto relays =
                spawn([&]() -> task<relay_result> { return relay(r.near_end(), r.far_end(), {.splice = splice}); });
            auto writes = spawn([&]() -> task<> {
                constexpr std::size_t piece = 150'000;
                for (std::size_t i = 0; i < 4; ++i) {
                    const test::bytes part = test::make_pattern(1, i * piece, piece);
                    co_await r.client().write_all(part);
                    // There is room for it some day. (With a second one, the first would become part of the stream.)
                    while (i == 1 && ::send(r.client().native_handle(), "!", 1, MSG_OOB | MSG_DONTWAIT) != 1)
                        co_await sleep_for(1ms);
                }
                r.client().shutdown();
            });
            co_await gets(r.server(), 1, 600'000);
            r.server().shutdown();
            co_await writes;
            const relay_result result = co_await relays;
            CHECK(result.how == relay_end::both_ended);
        });
    }
}

TEST_CASE("cancel at every step: a relay that splices") {
    const auto program = []() -> task<> {
        relayed r = co_await in_between();
        test::keep_small(r.right);
        auto relays = [&]() -> task<> { static_cast<void>(co_await relay(r.near_end(), r.far_end(), {.idle = 10s})); };
        auto body = [&](task_group& group) -> task<> {
            group.spawn(relays).discard();
            group.spawn(sends, std::ref(r.client()), 1, 150'000).discard();
            co_await gets(r.server(), 1, 150'000);
            r.server().shutdown();
        };
        co_await with_task_group(body);
    };
    testing::every_step_options options;
    options.loop = one_buffer();
    const testing::every_step_report report = testing::cancel_at_every_step(program, options);
    CHECK_MESSAGE(report.ok(), report.text());
    CHECK(report.points > 10);
}

}  // namespace
