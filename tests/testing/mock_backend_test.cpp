// The mock backend: a loop that gets from the outside what a script says, and when.
#include "support/test.hpp"

#include <rondo/testing/mock_backend.hpp>

#include <rondo/net/udp.hpp>

#include <optional>
#include <thread>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

std::string called_seven(const descriptor_stream&) { return "seven"; }

/// The descriptor 7, about which only the script knows anything.
class scripted_stream : public descriptor_stream {
 public:
    scripted_stream() noexcept : descriptor_stream(7, called_seven) {}
};

template <class F>
decltype(auto) run_with(mock_script& script, F&& f) {
    loop_options options;
    options.factory = &script;
    return run(options, std::forward<F>(f));
}

TEST_CASE("mock_backend: an operation ends with what the script says, when it says so") {
    mock_script script;
    script.answer(io_kind::borrow, "hello", 5ms);
    script.answer(io_kind::receive, "abc");
    script.answer(io_kind::borrow, -ECONNRESET, 1h);
    run_with(script, []() -> task<> {
        scripted_stream stream;
        const time_point began = this_loop().now();
        const buffer greeting = co_await stream.receive();
        CHECK(greeting.text() == "hello");
        CHECK(this_loop().now() - began == 5ms);
        char place[8];
        const std::size_t n = co_await stream.read_some(place);
        CHECK(std::string_view(place, n) == "abc");
        const auto broken = co_await attempt(stream.receive());
        CHECK(broken.error() == std::errc::connection_reset);
        CHECK(this_loop().now() - began == 1h + 5ms);
        co_await stream.close();
    });
    CHECK(script.heard == std::vector<std::string>{"receive 7", "receive 7", "receive 7", "close 7"});
}

TEST_CASE("mock_backend: a datagram is what the script says, and cut if it is longer than its place") {
    mock_script script;
    script.answer(io_kind::receive_datagrams, "hello", 5ms);
    script.answer(io_kind::send_datagrams, 1);
    script.answer(io_kind::receive_datagrams, -ENOMEM);
    run_with(script, []() -> task<> {
        udp_socket socket = udp_socket::unbound_v4();
        char place[4];
        const received_datagram got = co_await socket.receive_from(place);
        CHECK(std::string_view(place, got.size) == "hell");
        CHECK(got.truncated);
        CHECK(this_loop().now() == time_point(5ms));
        co_await socket.send_to("x", endpoint("10.0.0.1", 1));
        const auto failed = co_await attempt(socket.receive_from(place));
        CHECK(failed.error() == std::errc::not_enough_memory);
        co_await socket.close();
    });
    CHECK(script.heard ==
          std::vector<std::string>{"receive datagrams 3", "send datagrams 3", "receive datagrams 3", "close 3"});
}

TEST_CASE("mock_backend: what nothing was said about waits until it is cancelled, or closed") {
    mock_script script;
    run_with(script, []() -> task<> {
        scripted_stream stream;
        const auto late = co_await attempt(with_timeout(2s, [&]() -> task<> { co_await stream.receive(); }));
        CHECK(late.error() == std::errc::timed_out);
        CHECK(this_loop().now() == time_point(2s));
        auto reader = spawn(
            [](descriptor_stream& from) -> task<std::error_code> {
                const auto got = co_await attempt(from.receive());
                co_return got.error();
            },
            std::ref(stream));
        co_await yield();
        co_await stream.close();
        const std::error_code closed = co_await reader;
        CHECK(closed == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("mock_backend: time passes by jumps") {
    mock_script script;
    const time_point end = run_with(script, []() -> task<time_point> {
        co_await sleep_for(100h);
        co_return this_loop().now();
    });
    CHECK(end == time_point(100h));
    CHECK(script.heard.empty());
}

TEST_CASE("mock_backend: it knows when nothing can ever happen") {
    mock_script script;
    const auto forever = []() -> task<> {
        scripted_stream stream;
        co_await stream.receive();
    };
    CHECK_THROWS_AS(run_with(script, forever), deadlock_error);
}

TEST_CASE("mock_backend: another thread may wake it") {
    mock_script script;
    const int told = run_with(script, []() -> task<int> {
        auto [to, from] = oneshot<int>();
        std::thread other([post = this_loop().remote(), &to]() mutable {
            CHECK(post.post([&to] { to.send(42); }));
            post = {};
        });
        const std::optional<int> value = co_await from.receive();
        other.join();
        co_return value.value_or(0);
    });
    CHECK(told == 42);
}

}  // namespace
