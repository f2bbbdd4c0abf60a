// What a kernel may answer to the operations of streams and listeners, put there by a backend round the one under test:
// each error at each operation, at once and later, and one byte at a time. For datagrams see net/udp_errors_test.cpp.
#include <rondo/io/buffered_reader.hpp>
#include <rondo/io/buffered_writer.hpp>
#include <rondo/io/relay.hpp>
#include <rondo/loop/forwarding_backend.hpp>
#include <rondo/net/unix.hpp>

#include "support/answering_backend.hpp"
#include "support/net.hpp"
#include "support/serving.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

using namespace rondo;
using namespace std::literals;
using test::answers;
using test::as_bytes;
using test::bytes;
using test::connection;
using test::error_of;
using test::with_answers;

namespace {

constexpr std::array errors{EIO,   ENOMEM, ENOBUFS, ETIMEDOUT, EHOSTUNREACH, ENETDOWN,
                            EPERM, EACCES, ENOSYS,  EFAULT,    ECONNRESET,   EPIPE};

/// What is told of a failure: its code, and the operation.
struct told {
    std::error_code code;
    std::string operation;
    bool operator==(const told&) const = default;
};

template <class Awaitable>
task<told> told_by(Awaitable operation) {
    try {
        static_cast<void>(co_await std::move(operation));
    } catch (const io_error& e) {
        co_return told{e.code(), std::string(e.operation())};
    }
    co_return told{};
}

/// Each operation fails once, with each error; the stream then does what it was asked for before.
template <class Stream>
task<> each_error_is_told(Stream& here, Stream& there, answers& say, bool late) {
    char into[8];
    const std::span<const std::byte> parts[] = {as_bytes("two "), as_bytes("words")};
    for (const int error : errors) {
        CAPTURE(error);
        const std::error_code code = errno_code(error);
        const auto next = [&](io_kind kind) {
            say.to_ops[kind] = {-error};
            say.reported_late = late ? 1 : 0;
        };
        next(io_kind::receive);
        told seen = co_await told_by(here.read_some(into));
        CHECK(seen == told{code, "read"});
        next(io_kind::receive);
        seen = co_await told_by(here.read_exactly(into));
        CHECK(seen == told{code, "read"});
        next(io_kind::borrow);
        seen = co_await told_by(here.receive());
        CHECK(seen == told{code, "receive"});
        next(io_kind::send);
        seen = co_await told_by(here.write_some("lost"));
        CHECK(seen == told{code, "write"});
        std::size_t written = 99;
        next(io_kind::send);
        seen = co_await told_by(here.write_all("lost", &written));
        CHECK(seen == told{code, "write"});
        CHECK(written == 0);
        next(io_kind::send_vector);
        seen = co_await told_by(here.write_all(parts));
        CHECK(seen == told{code, "write"});
        say.to_calls[sys_op::call::try_send] = {-error};
        CHECK(here.try_write_some("lost").error() == code);
        say.to_calls[sys_op::call::try_receive] = {-error};
        CHECK(here.try_read_some(into).error() == code);
        say.to_calls[sys_op::call::shutdown_write] = {-error, -error};
        CHECK(here.try_shutdown().error() == code);
        CHECK_THROWS_AS(here.shutdown(), io_error);

        co_await there.write_all("question");
        const std::size_t n = co_await here.read_exactly(into);
        CHECK(std::string_view(into, n) == "question");
        co_await here.write_all(parts);
        char answer[9];
        const std::size_t m = co_await there.read_exactly(answer);
        CHECK(std::string_view(answer, m) == "two words");
    }
}

TEST_CASE("answers: each error of each operation of a stream is told, with what was done, and once") {
    for (const bool late : {false, true}) {
        CAPTURE(late);
        with_answers([&](answers& say) -> task<> {
            connection c = co_await test::connected();
            co_await each_error_is_told(c.client, c.server, say, late);
            auto [left, right] = unix_stream::pair();
            co_await each_error_is_told(left, right, say, late);
        });
    }
}

TEST_CASE("answers: each error of a call about a TCP stream is told, thrown or not") {
    with_answers([](answers& say) -> task<> {
        using call = sys_op::call;
        using option = sys_op::option;
        connection c = co_await test::connected();
        tcp_stream& s = c.client;
        for (const int error : errors) {
            CAPTURE(error);
            const std::error_code code = errno_code(error);
            say.to_calls[call::shutdown_read] = {-error, -error};
            CHECK(s.try_shutdown_read().error() == code);
            CHECK_THROWS_AS(s.shutdown_read(), io_error);
            say.to_calls[call::reset_on_close] = {-error, -error};
            CHECK(s.try_reset_on_close().error() == code);
            CHECK_THROWS_AS(s.reset_on_close(), io_error);
            say.to_calls[call::local_address] = {-error, -error};
            CHECK(s.try_local().error() == code);
            CHECK_THROWS_AS(static_cast<void>(s.local()), io_error);
            say.to_options[option::no_delay] = {-error, -error};
            CHECK(s.try_no_delay(true).error() == code);
            CHECK_THROWS_AS(s.no_delay(true), io_error);
            say.to_options[option::keep_alive] = {-error, -error};
            CHECK(s.try_keep_alive(true).error() == code);
            CHECK_THROWS_AS(s.keep_alive(true), io_error);
            say.to_options[option::receive_buffer] = {-error, -error};
            CHECK(s.try_receive_buffer_size(10'000).error() == code);
            CHECK_THROWS_AS(s.receive_buffer_size(10'000), io_error);
            say.to_options[option::send_buffer] = {-error, -error};
            CHECK(s.try_send_buffer_size(10'000).error() == code);
            CHECK_THROWS_AS(s.send_buffer_size(10'000), io_error);
        }
        co_await c.client.write_all("whole");
        const std::string heard = co_await test::receive_text(c.server, 5);
        CHECK(heard == "whole");
    });
}

TEST_CASE("answers: each error of what makes a connection is told, names the peer, and leaves no descriptor") {
    with_answers([](answers& say) -> task<> {
        using call = sys_op::call;
        tcp_listener listener = test::listen();
        const endpoint at = listener.local();
        const auto before = [&] {
            return test::on_sim() ? test::simulated_descriptors(this_loop()) : test::open_descriptors();
        };
        const std::size_t open = before();
        for (const int error : errors) {
            CAPTURE(error);
            const std::error_code code = errno_code(error);
            for (const bool late : {false, true}) {
                say.to_ops[io_kind::connect] = {-error};
                say.reported_late = late ? 1 : 0;
                const auto made = co_await attempt(tcp_stream::connect(at));
                CHECK(made.error() == code);
                CHECK(made.failure().message().starts_with("connect " + at.to_string() + ": "));
            }
            say.to_calls[call::tcp_socket] = {-error, -error};
            const std::error_code no_socket = co_await error_of(tcp_stream::connect(at));
            CHECK(no_socket == code);
            CHECK(tcp_listener::try_bind(at).error() == code);
            say.to_calls[call::bind] = {-error, -error};
            const connect_options from{.local = endpoint("127.0.0.1", 0)};
            const std::error_code no_source = co_await error_of(tcp_stream::connect(at, from));
            CHECK(no_source == code);
            CHECK(tcp_listener::try_bind("127.0.0.1", 0).error() == code);
            say.to_calls[call::listen] = {-error};
            CHECK(tcp_listener::try_bind("127.0.0.1", 0).error() == code);
            say.to_options[sys_op::option::reuse_address] = {-error};
            CHECK(tcp_listener::try_bind("127.0.0.1", 0).error() == code);
            say.to_calls[call::local_address] = {-error};
            CHECK(listener.try_local().error() == code);
        }
        // Without Nagle's algorithm is how streams are, but one that cannot have that is as good as any.
        say.to_options[sys_op::option::no_delay] = {-EPERM, -EPERM};
        connection c = co_await test::connect_to(listener);
        co_await c.client.write_all("there");
        const std::string heard = co_await test::receive_text(c.server, 5);
        CHECK(heard == "there");
        co_await c.client.close();
        co_await c.server.close();
        co_await test::settle();
        CHECK(before() == open);
    });
}

// A pause has no operation that would end with the socket: it went on with a number that may be another's by then.
TEST_CASE("answers: an accept that pauses ends when its listener is closed, or goes, and takes nobody else's client") {
    set_log_level(log_level::error);
    with_answers([](answers& say) -> task<> {
        for (const bool closes : {true, false}) {
            CAPTURE(closes);
            auto listener = std::make_unique<tcp_listener>(test::listen());
            say.to_ops[io_kind::accept] = {-EMFILE};
            auto accepting =
                spawn([](tcp_listener& from) -> task<std::error_code> { co_return co_await error_of(from.accept()); },
                      std::ref(*listener));
            co_await test::settle();
            CHECK(listener->exhausted() == 1);
            const std::error_code second = co_await error_of(listener->accept());
            CHECK(second == std::errc::device_or_resource_busy);
            const std::error_code released = co_await error_of(listener->release());
            CHECK(released == (test::on_sim() ? std::errc::function_not_supported  // a world has no other owner
                                              : std::errc::resource_unavailable_try_again));
            tcp_listener moved;
            if (closes) {
                moved = std::move(*listener);
                co_await moved.close();
            } else {
                listener.reset();
            }
            tcp_listener other = test::listen();  // most likely with the same number
            auto client = co_await tcp_stream::connect(other.local());
            const std::error_code ended = co_await accepting;
            CHECK(ended == std::errc::bad_file_descriptor);
            tcp_stream server = co_await other.accept();
            CHECK(server.peer() == client.local());
        }
    });
    set_log_level(log_level::warning);
}

// No list of what accept may answer is complete: so only what says that the listener is none ends it.
TEST_CASE("answers: whatever accept is answered, the listener goes on, unless it is none (hazard C5: golang#66252)") {
    set_log_level(log_level::error);
    with_answers([](answers& say) -> task<> {
        tcp_listener listener = test::listen();
        const endpoint at = listener.local();
        for (const int error : {ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO, EPERM, ENETDOWN, EACCES,
                                EAGAIN, EIO, ENOSYS, EOPNOTSUPP, EHOSTUNREACH, ETIMEDOUT, 4095})
            for (const bool late : {false, true}) {
                CAPTURE(error);
                say.to_ops[io_kind::accept] = {-error, -error};
                say.reported_late = late ? 2 : 0;
                auto connecting = spawn([at]() -> task<tcp_stream> {
                    tcp_stream made = co_await tcp_stream::connect(at);
                    co_return made;
                });
                tcp_stream server = co_await listener.accept();
                tcp_stream client = co_await connecting;
                co_await client.write_all("x");
                const std::string heard = co_await test::receive_text(server, 1);
                CHECK(heard == "x");
            }
        for (const int error : {EBADF, EINVAL, ENOTSOCK}) {
            say.to_ops[io_kind::accept] = {-error};
            const std::error_code ended = co_await error_of(listener.accept());
            CHECK(ended == errno_code(error));
        }
    });
    set_log_level(log_level::warning);
}

// Behind a filter of getpeername each client was dropped, and counted as one that had gone by itself.
TEST_CASE("answers: if the kernel does not say who has connected, that is told, and accept tries again") {
    for (const int error : {EPERM, ENOBUFS, ENOSYS}) {
        const test::heard log;
        with_answers([&](answers& say) -> task<> {
            tcp_listener listener = test::listen();
            tcp_stream dropped = co_await tcp_stream::connect(listener.local());
            auto connecting = spawn([&]() -> task<tcp_stream> {
                tcp_stream made = co_await listener.accept();
                co_return made;
            });
            say.to_calls[sys_op::call::peer_address] = {-error};
            char into[4];
            const auto end = co_await attempt(dropped.read_some(into));
            CHECK((!end || *end == 0));
            tcp_stream served = co_await tcp_stream::connect(listener.local());
            tcp_stream there = co_await connecting;
            co_await there.write_all("hi");
            const std::string greeting = co_await test::receive_text(served, 2);
            CHECK(greeting == "hi");
        });
        CHECK(log.text.find("accept: "s + std::strerror(error) + "; trying again") != std::string::npos);
    }
}

TEST_CASE("answers: an error of either stream ends a relay, is told as that stream's, and resets the other") {
    for (const int error : errors)
        for (const bool on_first : {true, false})
            for (const bool reading : {true, false}) {
                CAPTURE(error);
                CAPTURE(on_first);
                CAPTURE(reading);
                with_answers([&](answers& say) -> task<> {
                    connection a = co_await test::connected();
                    connection b = co_await test::connected();
                    auto moving = spawn([&]() -> task<relay_result> {
                        relay_result moved = co_await relay(a.server, b.server);
                        co_return moved;
                    });
                    // First there is traffic both ways.
                    co_await a.client.write_all("ping");
                    const std::string there = co_await test::receive_text(b.client, 4);
                    co_await b.client.write_all("pong");
                    const std::string back = co_await test::receive_text(a.client, 4);
                    CHECK(there + back == "pingpong");
                    // Both directions wait in a receive: the write after it, or the next receive, fails.
                    say.to_ops[reading ? io_kind::borrow : io_kind::send] = {-error};
                    connection& from = on_first == reading ? a : b;
                    const auto sent = from.client.try_write_some("more");  // which is no operation
                    REQUIRE(sent);
                    const relay_result moved = co_await moving;
                    CHECK(moved.how == relay_end::failed);
                    CHECK(moved.error == errno_code(error));
                    CHECK(moved.failed_on_first == on_first);
                    co_await a.server.close();
                    co_await b.server.close();
                    connection& other = on_first == reading ? b : a;
                    char into[16];
                    std::error_code end;
                    for (std::size_t n = 1; n > 0 && !end;) {
                        const auto got = co_await attempt(other.client.read_some(into));
                        n = got ? *got : 0;
                        end = got.error();
                    }
                    CHECK(end == std::errc::connection_reset);
                });
            }
}

TEST_CASE("answers: an error comes out of a buffered reader once, of a buffered writer each time") {
    for (const int error : errors) {
        CAPTURE(error);
        with_answers([&](answers& say) -> task<> {
            const std::error_code code = errno_code(error);
            connection c = co_await test::connected();
            buffered_reader in(c.server);
            co_await c.client.write_all("first\nsec");
            const auto first = co_await in.read_line();
            CHECK(first == "first");
            say.to_ops[io_kind::receive] = {-error};
            const std::error_code told = co_await error_of(in.read_line());
            CHECK(told == code);
            co_await c.client.write_all("ond\n");
            const auto second = co_await in.read_line();
            CHECK(second == "second");

            buffered_writer out(c.client);
            co_await out.write("not sent");
            say.to_ops[io_kind::send] = {-error};
            for (int again = 0; again < 2; ++again) {
                const std::error_code refused = co_await error_of(out.flush());
                CHECK(refused == code);
            }
            const std::error_code closed = co_await error_of(out.write("nor this"));
            CHECK(closed == code);
        });
    }
}

TEST_CASE("answers: a session that meets any error ends alone, and the server serves on") {
    set_log_level(log_level::error);
    with_answers([](answers& say) -> task<> {
        tcp_listener listener = test::listen();
        server_control control;
        auto server = spawn([&]() -> task<> {
            co_await serve(listener, test::echo_session, {.stop_on_signals = false, .control = &control});
        });
        std::uint64_t failed = 0;
        for (const int error : errors) {
            CAPTURE(error);
            tcp_stream bad = co_await tcp_stream::connect(listener.local());
            tcp_stream good = co_await tcp_stream::connect(listener.local());
            for (tcp_stream* each : {&good, &bad}) {
                co_await each->write_all("x");
                const std::string heard = co_await test::receive_text(*each, 1);
                CHECK(heard == "x");
            }
            co_await test::settle();  // both sessions wait for more
            const bool writes = error % 2 == 0;
            say.to_ops[writes ? io_kind::send : io_kind::borrow] = {-error};
            const auto sent = bad.try_write_some("y");  // no operation, so the session meets the answer
            REQUIRE(sent);
            while (control.stats().failed == failed) co_await sleep_for(1ms);
            ++failed;
            co_await good.write_all("z");
            const std::string still = co_await test::receive_text(good, 1);
            CHECK(still == "z");
        }
        CHECK(control.stats().failed == errors.size());
        server.cancel();
        static_cast<void>(co_await attempt(server));
    });
    set_log_level(log_level::warning);
}

// --- one byte at a time

/// Whatever may move less than it was asked for moves one byte.
class crumbling_backend final : public forwarding_backend {
 public:
    using forwarding_backend::forwarding_backend;

    bool submit(io_op& what) noexcept override {
        const bool may_be_short = what.kind == io_kind::receive || what.kind == io_kind::send;
        if (may_be_short && !(what.flags & io_op::all) && what.size > 1) what.size = 1;
        return forwarding_backend::submit(what);
    }
    int control(sys_op& what) noexcept override {
        const bool may_be_short = what.what == sys_op::call::try_send || what.what == sys_op::call::try_receive;
        if (may_be_short && what.size > 1) what.size = 1;
        return forwarding_backend::control(what);
    }
};

struct crumbling : backend_factory {
    std::unique_ptr<backend> make(const backend_options& options, std::string& why) override {
        return std::make_unique<crumbling_backend>(choose_backend(backend_kind::automatic, options, why));
    }
};

template <class Stream>
task<> writes_some(Stream& to, std::size_t size) {
    const bytes all = test::make_pattern(1, 0, size);
    for (std::size_t at = 0; at < size;) at += co_await to.write_some(std::span(all).subspan(at));
    to.shutdown();
}

/// Lends nothing, so that a relay reads by read_some.
struct plain {
    tcp_stream& inside;
    auto read_some(writable_bytes into) { return inside.read_some(into); }
    auto read_exactly(writable_bytes into) { return inside.read_exactly(into); }
    auto write_some(bytes_view from) { return inside.write_some(from); }
    auto write_all(bytes_view from, std::size_t* written = nullptr) { return inside.write_all(from, written); }
    void shutdown() { inside.shutdown(); }
    auto close() { return inside.close(); }
};

TEST_CASE("answers: one byte at a time, all bytes arrive in order through everything (hazard C11: io-uring#249)") {
    crumbling factory;
    loop_options options;
    options.factory = &factory;
    options.backend.receive_buffer_size = 256;
    rondo::run(options, []() -> task<> {
        constexpr std::size_t size = 3000;
        // read_some and write_some, over TCP and Unix sockets.
        connection c = co_await test::connected();
        auto [left, right] = unix_stream::pair();
        const auto both_ways = [&](auto& here, auto& there) -> task<> {
            auto body = [&](task_group& group) -> task<> {
                auto writes = [&]() -> task<> { return writes_some(here, size); };
                group.spawn(writes).discard();
                bytes all;
                std::byte into[100];
                for (;;) {
                    const std::size_t n = co_await there.read_some(into);
                    CHECK(n <= 1);
                    if (n == 0) break;
                    all.push_back(into[0]);
                }
                CHECK(all.size() == size);
                CHECK(test::is_pattern(all, 1));
            };
            co_await with_task_group(body);
        };
        co_await both_ways(c.client, c.server);
        co_await both_ways(c.server, c.client);
        co_await both_ways(left, right);

        // Through a relay of streams that lend nothing, lines through buffers.
        connection a = co_await test::connected(), b = co_await test::connected();
        auto body = [&](task_group& group) -> task<> {
            auto relays = [&]() -> task<> {
                plain one{a.server}, two{b.server};
                const relay_result moved = co_await relay(one, two);
                CHECK(moved.how == relay_end::both_ended);
            };
            group.spawn(relays).discard();
            auto speaks = [&]() -> task<> {
                buffered_writer out(a.client);
                for (int i = 0; i < 200; ++i) {
                    const std::string line = "line " + std::to_string(i) + "\n";
                    co_await out.write(line);
                }
                co_await out.flush();
                a.client.shutdown();
            };
            group.spawn(speaks).discard();
            buffered_reader in(b.client);
            for (int i = 0; i < 200; ++i) {
                const auto line = co_await in.read_line();
                CHECK(line == "line " + std::to_string(i));
            }
            const auto end = co_await in.read_line();
            CHECK(!end);
            b.client.shutdown();
        };
        co_await with_task_group(body);

        // What does not wait.
        connection d = co_await test::connected();
        const auto wrote = d.client.try_write_some("abc");
        CHECK(wrote.value() == 1);
        char into[4];
        for (;;) {
            const auto got = d.server.try_read_some(into);
            if (!got) {
                co_await sleep_for(1ms);
                continue;
            }
            CHECK(*got == 1);
            CHECK(into[0] == 'a');
            break;
        }
    });
}

}  // namespace
