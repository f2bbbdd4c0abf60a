// Unix datagrams: names, whole messages, receivers that are full or gone, and the file of a name.
#include "support/directory.hpp"
#include "support/net.hpp"
#include "support/refusing_backend.hpp"

#include <rondo/testing/every_step.hpp>
#include <rondo/net/unix.hpp>
#include <rondo/net/unix_address.hpp>
#include <rondo/net/unix_datagram.hpp>
#include <rondo/net/unix_seqpacket.hpp>

#include <array>

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace rondo;
using namespace std::literals;
using test::directory;
using test::error_of;
using test::is_socket;

static_assert(std::is_nothrow_move_constructible_v<unix_datagram_socket> &&
              !std::is_copy_constructible_v<unix_datagram_socket>);
static_assert(reversible_wait<detail::receive_unix_datagram_awaiter> && wait_operation<detail::message_send> &&
              !reversible_wait<detail::message_send>);

namespace {

using place = std::array<char, 64>;

std::string_view text_in(const place& from, const received_unix_datagram& got) { return {from.data(), got.size}; }

task<std::string> next_text(unix_datagram_socket& from) {
    place into;
    const received_unix_datagram got = co_await from.receive(into);
    CHECK_FALSE(got.truncated);
    co_return std::string(text_in(into, got));
}

std::string abstract_name() { return "@rondo-test-"s + std::to_string(::getpid()); }

TEST_CASE("unix datagram: messages come whole, in order, empty ones as well, with the name of their sender") {
    directory dir;
    test::run([&]() -> task<> {
        for (const std::string& name : {dir / "server", abstract_name()}) {
            unix_datagram_socket server = unix_datagram_socket::bind(name);
            unix_datagram_socket client = unix_datagram_socket::bind(dir / "client");
            CHECK(server.local() == unix_address(name));
            place into;
            for (const std::string_view each : {"one", "", "three"}) co_await client.send_to(each, name);
            for (const std::string_view each : {"one", "", "three"}) {
                const received_unix_datagram got = co_await server.receive_from(into);
                CHECK(text_in(into, got) == each);
                CHECK(got.sender == unix_address(dir / "client"));
                CHECK_FALSE(got.truncated);
                CHECK(got.descriptors == 0);
                co_await server.send_to(each, got.sender);
            }
            for (const std::string_view each : {"one", "", "three"}) {
                const std::string back = co_await next_text(client);
                CHECK(back == each);
            }
        }
    });
}

TEST_CASE("unix datagram: who has bound no name sends without one") {
    directory dir;
    test::run([&]() -> task<> {
        unix_datagram_socket server = unix_datagram_socket::bind(dir / "s");
        unix_datagram_socket client = unix_datagram_socket::unbound();
        CHECK(client.local().is_unnamed());
        co_await client.send_to("?", dir / "s");
        place into;
        const received_unix_datagram got = co_await server.receive_from(into);
        CHECK(got.sender.is_unnamed());
        CHECK(got.sender.to_string() == "(unnamed)");
    });
}

TEST_CASE("unix datagram: what is longer than its place is cut, says so, and the next one is whole") {
    test::run([]() -> task<> {
        auto [left, right] = unix_datagram_socket::pair();
        co_await left.send("hello world");
        co_await left.send("next");
        place into;
        const received_unix_datagram cut = co_await right.receive(writable_bytes(into.data(), 5));
        CHECK(text_in(into, cut) == "hello");
        CHECK(cut.truncated);
        const received_unix_datagram nothing = co_await right.receive(writable_bytes(into.data(), 0));
        CHECK(nothing.truncated);
        CHECK(nothing.size == 0);
        CHECK(right.try_receive(into).error() == std::errc::resource_unavailable_try_again);
    });
}

TEST_CASE("unix datagram: a pair is two sockets that are connected, both ways") {
    test::run([]() -> task<> {
        auto [left, right] = unix_datagram_socket::pair();
        co_await left.send("ping");
        const std::string asked = co_await next_text(right);
        CHECK(asked == "ping");
        co_await right.send("pong");
        const std::string answered = co_await next_text(left);
        CHECK(answered == "pong");
        CHECK(left.peer().is_unnamed());
    });
}

TEST_CASE("unix datagram: only who a socket is connected to may send to it") {
    directory dir;
    test::run([&]() -> task<> {
        unix_datagram_socket one = unix_datagram_socket::bind(dir / "one");
        unix_datagram_socket two = unix_datagram_socket::bind(dir / "two");
        unix_datagram_socket third = unix_datagram_socket::unbound();
        CHECK(one.try_peer().error() == std::errc::not_connected);
        one.connect(dir / "two");
        CHECK(one.peer() == unix_address(dir / "two"));
        const auto refused = co_await attempt(third.send_to("?", dir / "one"));
        CHECK(refused.error() == std::errc::operation_not_permitted);
        CHECK(refused.failure().message() == "send " + dir / "one" + ": Operation not permitted");
        CHECK(third.try_connect(dir / "one").error() == std::errc::operation_not_permitted);
        co_await two.send_to("from two", dir / "one");
        const std::string got = co_await next_text(one);
        CHECK(got == "from two");
        one.disconnect();
        const std::error_code nobody = co_await error_of(one.send("?"));
        CHECK(nobody == std::errc::not_connected);
        co_await third.send_to("now", dir / "one");
        const std::string now = co_await next_text(one);
        CHECK(now == "now");
        CHECK(one.try_connect({}).error() == std::errc::invalid_argument);
    });
}

TEST_CASE("unix datagram: an error names the receiver") {
    directory dir;
    test::run([&]() -> task<> {
        unix_datagram_socket client = unix_datagram_socket::unbound();
        const auto missing = co_await attempt(client.send_to("?", dir / "nobody"));
        CHECK(missing.failure().message() == "send " + dir / "nobody" + ": No such file or directory");
        const auto abstract = co_await attempt(client.send_to("?", "@rondo-nobody"));
        CHECK(abstract.failure().message() == "send @rondo-nobody: Connection refused");
        const std::error_code nobody = co_await error_of(client.send("?"));
        CHECK(nobody == std::errc::not_connected);
        CHECK_THROWS_AS(client.connect(dir / "nobody"), io_error);

        unix_listener stream = unix_listener::bind(dir / "stream");
        const std::error_code type = co_await error_of(client.send_to("?", dir / "stream"));
        CHECK(type == std::errc::wrong_protocol_type);

        unix_datagram_socket server = unix_datagram_socket::bind(dir / "s");
        const std::vector<std::byte> large(1 << 20);
        const std::error_code size = co_await error_of(client.send_to(large, dir / "s"));
        CHECK(size == std::errc::message_size);
        CHECK(client.try_send_to(large, dir / "s").error() == std::errc::message_size);
    });
}

// --- a receiver that has no room

constexpr int many = 40;  // more than any queue takes at once, and less than two

task<> send_many(unix_datagram_socket& from, std::optional<unix_address> to) {
    for (int i = 0; i < many; ++i) {
        const std::string text = std::to_string(i);
        if (to) {
            co_await from.send_to(text, *to);
        } else {
            co_await from.send(text);
        }
    }
}

/// Fills the receiver until it has no room; how many it took.
int fill(unix_datagram_socket& from, const unix_address& to) {
    int count = 0;
    while (from.try_send_to("x", to)) ++count;
    CHECK(from.try_send_to("x", to).error() == std::errc::resource_unavailable_try_again);
    return count;
}

TEST_CASE("unix datagram: who sends to a full receiver waits, whether it is connected or not, and nothing is lost") {
    directory dir;
    for (const bool connects : {true, false}) {
        CAPTURE(connects);
        test::run([&]() -> task<> {
            unix_datagram_socket server = unix_datagram_socket::bind(dir / "s");
            unix_datagram_socket client = unix_datagram_socket::unbound();
            if (connects) client.connect(dir / "s");
            const std::optional<unix_address> to = connects ? std::nullopt : std::optional<unix_address>(dir / "s");
            auto sends = spawn(send_many, std::ref(client), to);
            co_await sleep_for(5ms);
            CHECK_FALSE(sends.done());
            for (int i = 0; i < many; ++i) {
                const std::string got = co_await next_text(server);
                CHECK(got == std::to_string(i));
            }
            co_await sends;
        });
    }
}

TEST_CASE("unix datagram: a wait for room can be cancelled, is the only one on its socket, and ends with it") {
    directory dir;
    for (const bool connects : {true, false}) {
        CAPTURE(connects);
        test::run([&]() -> task<> {
            unix_datagram_socket server = unix_datagram_socket::bind(dir / "s");
            unix_datagram_socket client = unix_datagram_socket::unbound();
            const unix_address to = connects ? unix_address() : unix_address(dir / "s");
            if (connects) client.connect(dir / "s");
            const int room = fill(client, to);
            const auto late = co_await attempt(with_timeout(20ms, client.send_to("late", to)));
            CHECK(late.error() == std::errc::timed_out);

            auto waits = [&]() -> task<std::error_code> { co_return co_await error_of(client.send_to("first", to)); };
            auto first = spawn(waits);
            co_await sleep_for(1ms);
            const std::error_code second = co_await error_of(client.send_to("second", to));
            CHECK(second == std::errc::device_or_resource_busy);
            CHECK(client.try_send_to("x", to).error() == std::errc::resource_unavailable_try_again);
            co_await client.close();
            const std::error_code closed = co_await first;
            CHECK(closed == std::errc::bad_file_descriptor);

            for (int i = 0; i < room; ++i) {
                const std::string got = co_await next_text(server);
                CHECK(got == "x");
            }
            place into;
            CHECK(server.try_receive_from(into).error() == std::errc::resource_unavailable_try_again);
        });
    }
}

TEST_CASE("unix datagram: a receiver that goes ends the waits for it") {
    directory dir;
    for (const bool connects : {true, false}) {
        CAPTURE(connects);
        test::run([&]() -> task<> {
            unix_datagram_socket server = unix_datagram_socket::bind(dir / "s");
            unix_datagram_socket client = unix_datagram_socket::unbound();
            const unix_address to = connects ? unix_address() : unix_address(dir / "s");
            if (connects) client.connect(dir / "s");
            fill(client, to);
            auto waits = [&]() -> task<std::error_code> { co_return co_await error_of(client.send_to("late", to)); };
            auto sends = spawn(waits);
            co_await sleep_for(1ms);
            co_await server.close();
            const std::error_code why = co_await sends;
            CHECK(why == (connects ? std::errc::connection_refused : std::errc::no_such_file_or_directory));
            const std::error_code then = co_await error_of(client.send("?"));
            CHECK(then == std::errc::not_connected);
        });
    }
}

TEST_CASE("unix datagram: a pair holds so much, and its sender waits then, too") {
    test::run([]() -> task<> {
        auto [left, right] = unix_datagram_socket::pair();
        left.send_buffer_size(32768);
        const int room = fill(left, {});
        auto waits = [](unix_datagram_socket& from) -> task<> { co_await from.send("last"); };
        auto sends = spawn(waits, std::ref(left));
        co_await sleep_for(1ms);
        CHECK_FALSE(sends.done());
        for (int i = 0; i < room; ++i) {
            const std::string got = co_await next_text(right);
            CHECK(got == "x");
        }
        co_await sends;
        const std::string last = co_await next_text(right);
        CHECK(last == "last");
    });
}

// --- cancelling

TEST_CASE("unix datagram: cancelled at every step it leaves nothing behind") {
    directory dir;
    const auto program = [&]() -> task<> {
        unix_datagram_socket server = unix_datagram_socket::bind(dir / "s");
        unix_datagram_socket client = unix_datagram_socket::bind(dir / "c");
        unix_datagram_socket connected = unix_datagram_socket::unbound();
        connected.connect(dir / "s");
        auto receives = [&server]() -> task<> {
            place into;
            for (int i = 0; i < 32; ++i) {
                const received_unix_datagram got = co_await server.receive_from(into);
                CHECK(got.size == 1);
            }
        };
        auto sends = [](unix_datagram_socket& from, std::string to) -> task<> {
            const unix_address there = to.empty() ? unix_address() : unix_address(to);
            for (int i = 0; i < 16; ++i) co_await from.send_to("x", there);
        };
        auto all = [&](task_group& group) -> task<> {
            group.spawn(sends, std::ref(client), dir / "s");
            group.spawn(sends, std::ref(connected), std::string());
            co_await sleep_for(1ms);
            group.spawn(receives);
        };
        co_await with_task_group(all);
        co_await server.close();
    };
    const auto everywhere = testing::cancel_at_every_step(program);
    CHECK_MESSAGE(everywhere.ok(), everywhere.text());
}

TEST_CASE("unix datagram: a losing arm leaves its message to the next receive, as cut as it was") {
    directory dir;
    test::run([&]() -> task<> {
        unix_datagram_socket one = unix_datagram_socket::bind(dir / "one");
        unix_datagram_socket two = unix_datagram_socket::bind(dir / "two");
        unix_datagram_socket client = unix_datagram_socket::bind(dir / "c");
        auto sends = [&]() -> task<> {
            co_await client.send_to("message", dir / "one");
            co_await client.send_to("message", dir / "two");
        };
        for (const bool asks : {true, false}) {
            auto sender = spawn(sends);
            place first, second;
            auto chosen = co_await select_one(one.receive_from(writable_bytes(first.data(), 4)),
                                              two.receive_from(writable_bytes(second.data(), 4)));
            co_await sender;
            co_await test::settle();
            unix_datagram_socket& lost = chosen.index() == 0 ? two : one;
            place into;
            received_unix_datagram got;
            if (asks) {
                got = co_await lost.receive_from(into);
            } else {
                got = lost.try_receive_from(into).value();
            }
            // In the same turn or not: the arm had got it already, or was ended before.
            CHECK(text_in(into, got) == (got.truncated ? "mess" : "message"));
            CHECK(got.sender == unix_address(dir / "c"));
            CHECK(lost.try_receive_from(into).error() == std::errc::resource_unavailable_try_again);
        }
    });
}

// --- the file: a matter of real kernels, for a simulated machine has names and no files

/// What a program that was killed leaves behind.
void leave_stale(const std::string& path, int type) {
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    path.copy(at.sun_path, sizeof at.sun_path - 1);
    const int fd = ::socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
    ::close(fd);
}

TEST_CASE("unix datagram: a file whose socket is gone is replaced, unless that is forbidden; it goes with its socket") {
    if (test::on_sim()) return;
    directory dir;
    test::run([&]() -> task<> {
        for (const int type : {SOCK_DGRAM, SOCK_STREAM, SOCK_SEQPACKET}) {
            leave_stale(dir / "s", type);
            CHECK(unix_datagram_socket::try_bind(dir / "s", {.replace = false}).error() == std::errc::address_in_use);
            unix_datagram_socket server = unix_datagram_socket::bind(dir / "s", {.mode = 0660});
            struct stat made;
            REQUIRE(::lstat((dir / "s").c_str(), &made) == 0);
            CHECK((made.st_mode & 07777) == 0660);
            unix_datagram_socket moved = std::move(server);
            server = {};
            CHECK(is_socket(dir / "s"));
            co_await moved.close();
            CHECK_FALSE(is_socket(dir / "s"));
        }
    });
}

TEST_CASE("unix datagram: a name that somebody has is in use, whatever the type") {
    directory dir;
    test::run([&]() -> task<> {
        unix_datagram_socket server = unix_datagram_socket::bind(dir / "s");
        CHECK(unix_datagram_socket::try_bind(dir / "s").error() == std::errc::address_in_use);
        CHECK(unix_listener::try_bind(dir / "s").error() == std::errc::address_in_use);
        unix_listener listener = unix_listener::bind(dir / "stream");
        CHECK(unix_datagram_socket::try_bind(dir / "stream").error() == std::errc::address_in_use);
        CHECK_THROWS_AS(unix_datagram_socket::bind(dir / "s"), io_error);
        // Abstract names of each type are their own.
        unix_datagram_socket abstract = unix_datagram_socket::bind(abstract_name());
        unix_listener same = unix_listener::bind(abstract_name());
        CHECK(unix_datagram_socket::try_bind(abstract_name()).error() == std::errc::address_in_use);
        co_return;
    });
}

TEST_CASE("unix datagram: a forked child that drops a socket leaves the file to its parent") {
    if (test::on_sim()) return;
    directory dir;
    test::run([&]() -> task<> {
        unix_datagram_socket server = unix_datagram_socket::bind(dir / "s");
        const pid_t child = ::fork();
        if (child == 0) {
            server = {};
            ::_exit(is_socket(dir / "s") ? 0 : 1);
        }
        int status = -1;
        REQUIRE(::waitpid(child, &status, 0) == child);
        CHECK(status == 0);
        co_return;
    });
}

TEST_CASE("unix datagram: one of the program's becomes one of rondo's, and is given back") {
    test::run([]() -> task<> {
        if (test::on_sim()) {
            CHECK_THROWS_AS(unix_datagram_socket::from_fd(0), not_simulated);
            co_return;
        }
        int fds[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds) == 0);
        CHECK(unix_seqpacket::try_from_fd(fds[0]).error() == std::errc::wrong_protocol_type);
        CHECK(tcp_stream::try_from_fd(fds[0]).error() == std::errc::address_family_not_supported);
        unix_datagram_socket ours = unix_datagram_socket::from_fd(fds[0]);
        REQUIRE(::send(fds[1], "hello", 5, 0) == 5);
        const std::string got = co_await next_text(ours);
        CHECK(got == "hello");
        const int back = co_await ours.release();
        CHECK(back == fds[0]);
        CHECK_FALSE(ours.is_open());
        REQUIRE(::send(back, "bye", 3, 0) == 3);
        for (const int each : fds) ::close(each);
    });
}

// --- what the kernel says

/// Fails at one call.
struct refusal {
    sys_op::call at = sys_op::call::close;
    int error = 0;
    int error_for(const sys_op& what) const noexcept { return what.what == at ? error : 0; }
    io_kind of = io_kind::close;
    int error_for(const io_op& what) const noexcept { return what.kind == of && at == sys_op::call::close ? error : 0; }
};

TEST_CASE("unix datagram: each call that the kernel refuses is an error of that name, and leaves nothing") {
    directory dir;
    test::refusing<refusal> factory;
    loop_options on;
    on.factory = &factory;
    rondo::run(on, [&]() -> task<> {
        using enum sys_op::call;
        const std::size_t before = test::on_sim() ? 0 : test::open_descriptors();
        for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM}) {
            CAPTURE(error);
            factory.what = {unix_socket, error};
            CHECK(unix_datagram_socket::try_unbound().error() == errno_code(error));
            CHECK_THROWS_AS(unix_datagram_socket::bind("@x"), io_error);
            factory.what = {stream_pair, error};
            CHECK(unix_datagram_socket::try_pair().error() == errno_code(error));
            CHECK_THROWS_AS(unix_datagram_socket::pair(), io_error);
            factory.what = {unix_bind, error};
            CHECK(unix_datagram_socket::try_bind(dir / "s").error() == errno_code(error));
            factory.what = {adopt, error};
            CHECK(unix_datagram_socket::try_from_fd(0).error() == errno_code(error));
        }
        factory.what = {};
        {
            auto [left, right] = unix_datagram_socket::pair();
            factory.what.of = io_kind::send_message;
            for (const int error : {ETOOMANYREFS, ENOBUFS, ENOMEM, EACCES}) {
                factory.what.error = error;
                const std::error_code sent = co_await error_of(left.send("x"));
                CHECK(sent == errno_code(error));
            }
            factory.what.of = io_kind::receive_message;
            for (const int error : {ENOMEM, ECONNRESET, EMSGSIZE, EMFILE}) {
                factory.what.error = error;
                place into;
                const std::error_code got = co_await error_of(left.receive(into));
                CHECK(got == errno_code(error));
            }
            factory.what = {set_option, EPERM};
            CHECK_THROWS_AS(left.send_buffer_size(1), io_error);
        }
        factory.what = {};
        co_await test::settle();
        if (!test::on_sim()) CHECK(test::open_descriptors() == before);
    });
}

}  // namespace
