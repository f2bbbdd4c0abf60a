// Sockets that change hands: adopted by a loop, and given back.
#include "support/every_step.hpp"
#include "support/refusing_backend.hpp"
#include "support/tcp.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

using namespace test::streams;

namespace {

struct owned_fd {
    explicit owned_fd(int number) : fd(number) {}
    ~owned_fd() {
        if (fd >= 0) ::close(fd);
    }
    owned_fd(const owned_fd&) = delete;
    owned_fd& operator=(const owned_fd&) = delete;
    bool open() const { return ::fcntl(fd, F_GETFD) >= 0; }
    int fd;
};

sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return to;
}

/// A blocking socket that is connected to the listener, as another library would make it.
int plain_client(const tcp_listener& listener) {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in to = loopback(listener.local().port());
    REQUIRE(::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
    return fd;
}

bool skipped_in_sim() {
    if (test::on_sim()) MESSAGE("skipped: a simulated world has no descriptors of others");
    return test::on_sim();
}

TEST_CASE("adopt: a connected socket of the program becomes a stream, non-blocking and close-on-exec") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        const int fd = plain_client(listener);
        tcp_stream client = tcp_stream::from_fd(fd);
        CHECK(client.native_handle() == fd);
        CHECK(client.peer() == listener.local());
        CHECK((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
        CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        tcp_stream server = co_await listener.accept();
        const bytes sent = make_pattern(1, 0, 300'000);
        auto echo = spawn(test::echo_session, std::ref(server));
        auto back = spawn([&]() -> task<bool> {
            bytes all(sent.size());
            co_await client.read_exactly(all);
            co_return is_pattern(all, 1);
        });
        co_await client.write_all(sent);
        const bool same = co_await back;
        CHECK(same);
        co_await client.close();
        CHECK(::fcntl(fd, F_GETFD) < 0);
        co_await echo;
    });
}

TEST_CASE("adopt: a listening socket becomes a listener") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
        const sockaddr_in at = loopback(0);
        REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
        REQUIRE(::listen(fd, 5) == 0);
        tcp_listener listener = tcp_listener::from_fd(fd);
        connection c = co_await test::connect_to(listener);
        co_await c.client.write_all("hello");
        const std::string heard = co_await test::receive_text(c.server, 5);
        CHECK(heard == "hello");
    });
}

TEST_CASE("adopt: what is none is refused by its own error, and stays the caller's as it was") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        int pipe_ends[2], pair[2];
        REQUIRE(::pipe(pipe_ends) == 0);
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
        const owned_fd in(pipe_ends[0]), out(pipe_ends[1]), one(pair[0]), other(pair[1]);
        const owned_fd udp(::socket(AF_INET, SOCK_DGRAM, 0)), fresh(::socket(AF_INET, SOCK_STREAM, 0));
        const owned_fd listens(::dup(listener.native_handle())), connected_to(plain_client(listener));
        const auto of_stream = [](int fd) { return tcp_stream::try_from_fd(fd).error(); };
        const auto of_listener = [](int fd) { return tcp_listener::try_from_fd(fd).error(); };
        CHECK(of_stream(-1) == std::errc::bad_file_descriptor);
        CHECK(of_stream(1 << 20) == std::errc::bad_file_descriptor);
        CHECK(of_stream(in.fd) == std::errc::not_a_socket);
        CHECK(of_stream(one.fd) == std::errc::address_family_not_supported);
        CHECK(of_stream(udp.fd) == std::errc::wrong_protocol_type);
        CHECK(of_stream(fresh.fd) == std::errc::not_connected);
        CHECK(of_stream(listens.fd) == std::errc::invalid_argument);
        CHECK(of_listener(fresh.fd) == std::errc::invalid_argument);
        CHECK(of_listener(connected_to.fd) == std::errc::invalid_argument);
        CHECK(of_listener(out.fd) == std::errc::not_a_socket);
        for (const owned_fd* each : {&in, &out, &one, &other, &udp, &fresh, &connected_to}) {
            CAPTURE(each->fd);
            CHECK(each->open());
            CHECK((::fcntl(each->fd, F_GETFL) & O_NONBLOCK) == 0);
            CHECK((::fcntl(each->fd, F_GETFD) & FD_CLOEXEC) == 0);
        }
        std::string said;
        try {
            tcp_stream never = tcp_stream::from_fd(fresh.fd);
        } catch (const io_error& e) {
            said = e.what();
        }
        CHECK(said.starts_with("adopt a connection, descriptor " + std::to_string(fresh.fd)));
        CHECK_THROWS_AS(tcp_listener::from_fd(fresh.fd), io_error);
        co_return;
    });
}

/// Answers what takes a descriptor over, or gives it back, with an errno.
struct no_exchange {
    int error = 0;
    int error_for(const sys_op& what) const noexcept { return what.what == sys_op::call::adopt ? error : 0; }
    int error_for(const io_op& what) const noexcept { return what.flags & io_op::hand_over ? error : 0; }
};

TEST_CASE("adopt, release: whatever the kernel says is told, and who has the descriptor keeps it") {
    if (skipped_in_sim()) return;
    test::refusing<no_exchange> factory;
    loop_options options;
    options.factory = &factory;
    loop l(options);
    run_on(l, [&]() -> task<> {
        tcp_listener listener = test::listen();
        owned_fd fd(plain_client(listener));
        tcp_stream server = co_await listener.accept();
        for (const int error : {EBADF, ENOTSOCK, EAFNOSUPPORT, EPROTOTYPE, ENOMEM, EPERM, EINTR}) {
            CAPTURE(error);
            factory.what.error = error;
            CHECK(tcp_stream::try_from_fd(fd.fd).error() == errno_code(error));
            CHECK(tcp_listener::try_from_fd(fd.fd).error() == errno_code(error));
            CHECK(fd.open());
            const std::error_code said = co_await error_of(server.release());
            CHECK(said == errno_code(error));
            CHECK(server.is_open());
        }
        factory.what.error = 0;
        tcp_stream client = tcp_stream::from_fd(std::exchange(fd.fd, -1));
        co_await server.write_all("x");
        const std::string heard = co_await test::receive_text(client, 1);
        CHECK(heard == "x");
    });
}

TEST_CASE("adopt: a descriptor for which a task waits is not taken away from it") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        owned_fd fd(plain_client(listener));
        tcp_stream server = co_await listener.accept();
        auto waits = spawn([&]() -> task<> { co_await wait_readable(fd.fd); });
        co_await test::settle();
        CHECK(tcp_stream::try_from_fd(fd.fd).error() == std::errc::device_or_resource_busy);
        co_await server.write_all("x");
        co_await waits;
        tcp_stream client = tcp_stream::from_fd(std::exchange(fd.fd, -1));
        const std::string heard = co_await test::receive_text(client, 1);
        CHECK(heard == "x");
    });
}

TEST_CASE("release: the program gets the descriptor, and the loop knows nothing of it any more") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        connection c = co_await connected();
        auto echo = spawn(test::echo_session, std::ref(c.server));
        co_await c.client.write_all("first");
        const std::string first = co_await test::receive_text(c.client, 5);
        CHECK(first == "first");
        const int expected = c.client.native_handle();
        const owned_fd mine(co_await c.client.release());
        CHECK(mine.fd == expected);
        CHECK_FALSE(c.client.is_open());
        const std::error_code closed = co_await error_of(c.client.write_all("x"));
        CHECK(closed == std::errc::bad_file_descriptor);
        CHECK(::send(mine.fd, "second", 6, 0) == 6);
        co_await wait_readable(mine.fd);
        char heard[6];
        CHECK(::recv(mine.fd, heard, sizeof heard, 0) == 6);
        CHECK(std::string_view(heard, 6) == "second");
        c.client = tcp_stream::from_fd(::dup(mine.fd));  // and back
        co_await c.client.write_all("third");
        const std::string third = co_await test::receive_text(c.client, 5);
        CHECK(third == "third");
        c.client.shutdown();
        co_await echo;
    });
}

TEST_CASE("release: while a task waits on it, a stream keeps its descriptor") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        connection c = co_await connected();
        auto reader = spawn([&]() -> task<std::string> {
            const buffer got = co_await c.client.receive();
            co_return std::string(got.text());
        });
        co_await test::settle();
        const std::error_code busy = co_await error_of(c.client.release());
        CHECK(busy == std::errc::device_or_resource_busy);
        CHECK(c.client.is_open());
        co_await c.server.write_all("for the reader");
        const std::string heard = co_await reader;
        CHECK(heard == "for the reader");
    });
}

TEST_CASE("release: bytes that the stream holds are read first") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        connection c = co_await connected();
        co_await c.server.write_all("abc");
        co_await test::settle();
        co_await interrupted_read(c.client, 8);
        const auto kept = co_await attempt(c.client.release());
        CHECK(kept.error() == std::errc::resource_unavailable_try_again);
        CHECK_THROWS_AS(static_cast<void>(*kept), std::system_error);
        char into[8];
        const std::size_t got = co_await c.client.read_exactly({into, 3});
        CHECK(std::string_view(into, got) == "abc");
        const owned_fd mine(co_await c.client.release());
        CHECK(mine.open());
    });
}

// On io_uring, a receive that was cancelled may leave a request in the kernel, and what that brings.
TEST_CASE("release: after a receive that was cancelled, no byte is lost, whoever reads it") {
    if (skipped_in_sim()) return;
    for (const bool sends_before : {true, false}) {
        CAPTURE(sends_before);
        test::run(
            [](bool before) -> task<> {
                connection c = co_await connected();
                auto reader = spawn([&]() -> task<> { static_cast<void>(co_await c.client.receive()); });
                co_await test::settle();
                reader.cancel();
                static_cast<void>(co_await attempt(reader));
                if (before) {
                    co_await c.server.write_all("abc");
                    co_await test::settle();
                }
                std::string heard;
                auto released = co_await attempt(c.client.release());
                while (!released) {
                    REQUIRE(released.error() == std::errc::resource_unavailable_try_again);
                    char into[8];
                    const auto part = c.client.try_read_some(into);
                    REQUIRE(part);
                    heard.append(into, *part);
                    auto again = co_await attempt(c.client.release());
                    released = std::move(again);
                }
                const owned_fd mine(*released);
                if (!before) co_await c.server.write_all("abc");
                while (heard.size() < 3) {
                    co_await wait_readable(mine.fd);
                    char into[8];
                    const ssize_t part = ::recv(mine.fd, into, sizeof into, 0);
                    REQUIRE(part > 0);
                    heard.append(into, static_cast<std::size_t>(part));
                }
                CHECK(heard == "abc");
            },
            sends_before);
    }
}

TEST_CASE("release: a listener keeps who stands in its queue, and after a cancelled accept as well") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        auto accepts = spawn([&]() -> task<> { static_cast<void>(co_await listener.accept()); });
        co_await test::settle();
        const std::error_code busy = co_await error_of(listener.release());
        CHECK(busy == std::errc::device_or_resource_busy);
        accepts.cancel();
        static_cast<void>(co_await attempt(accepts));
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        co_await test::settle();
        std::vector<tcp_stream> servers;
        auto released = co_await attempt(listener.release());
        while (!released) {
            REQUIRE(released.error() == std::errc::resource_unavailable_try_again);
            tcp_stream next = co_await listener.accept();
            servers.push_back(std::move(next));
            auto again = co_await attempt(listener.release());
            released = std::move(again);
        }
        tcp_listener heir = tcp_listener::from_fd(*released);
        if (servers.empty()) {
            tcp_stream next = co_await heir.accept();
            servers.push_back(std::move(next));
        }
        co_await client.write_all("hello");
        const std::string heard = co_await test::receive_text(servers[0], 5);
        CHECK(heard == "hello");
    });
}

task<> changes_hands() {
    connection c = co_await connected();
    auto reader = spawn([&]() -> task<> { static_cast<void>(co_await c.client.receive()); });
    co_await immediate();
    reader.cancel();
    static_cast<void>(co_await attempt(reader));
    auto released = co_await attempt(c.client.release());
    if (!released) throw std::logic_error("not released: " + released.error().message());
    owned_fd mine(*released);
    c.client = tcp_stream::from_fd(std::exchange(mine.fd, -1));
    co_await c.server.write_all("x");
    const std::string heard = co_await test::receive_text(c.client, 1);
    if (heard != "x") throw std::logic_error("not the same connection");
}

TEST_CASE("cancel at every step: a socket changes hands") {
    if (skipped_in_sim()) return;
    CHECK(test::cancel_at_every_step(changes_hands) > 1);
}

TEST_CASE("adopt, release: a closed stream has nothing to give; a simulated world says that it has no such thing") {
    test::run([]() -> task<> {
        tcp_stream none;
        const std::error_code closed = co_await error_of(none.release());
        CHECK(closed == std::errc::bad_file_descriptor);
        if (!test::on_sim()) co_return;
        CHECK_THROWS_AS(tcp_stream::from_fd(0), not_simulated);
        CHECK_THROWS_AS(tcp_listener::from_fd(0), not_simulated);
        CHECK(tcp_stream::try_from_fd(0).error() == std::errc::function_not_supported);
        connection c = co_await connected();
        std::string said;
        try {
            static_cast<void>(co_await c.client.release());
        } catch (const not_simulated& e) {
            said = e.operation();
        }
        CHECK(said == "release");
        CHECK(c.client.is_open());
    });
}

}  // namespace
