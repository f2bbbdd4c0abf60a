// What the tests of servers share: options, sessions, clients, and a server that runs beside the test.
#pragma once

#include "net.hpp"

#include <string>
#include <string_view>
#include <utility>

namespace test {

inline rondo::serve_options unsignalled(std::uint32_t most = 0) {
    rondo::serve_options options;
    options.max_connections = most;
    options.stop_on_signals = false;
    return options;
}

inline rondo::task<> echo(rondo::tcp_stream& peer) {
    for (;;) {
        const rondo::buffer data = co_await peer.receive();
        if (data.empty()) co_return;
        co_await peer.write_all(data);
    }
}

inline rondo::task<> echo_by_value(rondo::tcp_stream peer) { co_await echo(peer); }

/// One question and its answer; what went wrong, if anything did.
inline rondo::task<std::string> ask(rondo::tcp_stream& stream, std::string_view question) {
    std::string answer(question.size(), '\0');
    try {
        co_await stream.write_all(question);
        const std::size_t n =
            co_await stream.read_exactly(std::as_writable_bytes(std::span(answer.data(), answer.size())));
        answer.resize(n);
    } catch (const std::system_error& e) {
        answer = e.code().message();
    }
    co_return answer;
}

inline rondo::task<std::string> asks(rondo::endpoint to, std::string question) {
    rondo::tcp_stream stream = co_await rondo::tcp_stream::connect(to);
    co_return co_await ask(stream, question);
}

/// A server that runs beside the test, until the test cancels it.
template <class Session, class Listener = rondo::tcp_listener>
rondo::task<> serving(Listener& listener, Session session, rondo::serve_options options) {
    co_await rondo::serve(listener, session, options);
}

inline rondo::task<> ends(rondo::task_handle<>& server) {
    server.cancel();
    const auto ended = co_await rondo::attempt(server);
    CHECK(ended.error() == std::errc::operation_canceled);
    CHECK(server.state() == rondo::task_state::cancelled);
}

/// What the library logs, as long as this lives.
struct heard {
    heard() {
        rondo::detail::flush_log();  // what earlier tests have flooded is not this one's
        rondo::detail::hold_log_second(true);
        rondo::detail::pass_log_second();
        rondo::set_log_sink(
            [](const rondo::log_record& r, void* to) noexcept { *static_cast<std::string*>(to) += r.message; }, &text);
    }
    ~heard() {
        rondo::detail::hold_log_second(false);
        rondo::set_log_sink(nullptr);
    }
    std::string text;
};

/// A server with a control, that no signal stops.
inline rondo::serve_options controlled(rondo::server_control& control, rondo::delay grace = std::chrono::seconds(10)) {
    rondo::serve_options options = unsignalled();
    options.control = &control;
    options.grace = grace;
    return options;
}

}  // namespace test
