// Unix sockets: connections, who the peer is, the file of a listener, and the errors of each call.
#include "support/directory.hpp"
#include "support/net.hpp"
#include "support/refusing_backend.hpp"

#include <rondo/testing/every_step.hpp>
#include <rondo/net/unix.hpp>
#include <rondo/net/unix_address.hpp>

#include <array>
#include <filesystem>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace rondo;
using namespace std::literals;
using test::directory;
using test::error_of;
using test::is_socket;

static_assert(byte_stream<unix_stream> && stream_listener<unix_listener>);
static_assert(std::is_nothrow_move_constructible_v<unix_stream> && std::is_nothrow_move_assignable_v<unix_listener>);
static_assert(!std::is_copy_constructible_v<unix_listener> && std::is_trivially_copyable_v<unix_listen_options>);
static_assert(reversible_wait<detail::accept_awaiter<unix_stream>> &&
              wait_operation<detail::unix_connect_awaiter<unix_stream>>);

namespace {

namespace files = std::filesystem;

/// The length of the queue of clients: with a backlog of 0 one client has room.
constexpr unix_listen_options room_for_one{.backlog = 0};

task<std::string> all_of(unix_stream& from) {
    std::string all;
    for (;;) {
        const buffer part = co_await from.receive();
        if (part.empty()) co_return all;
        all += part.text();
    }
}

// --- connections

TEST_CASE("unix: bytes go there and back, by a path and by an abstract name") {
    directory dir;
    test::run([&]() -> task<> {
        for (const std::string& name : {dir / "s", "@rondo-test-"s + std::to_string(::getpid())}) {
            unix_listener listener = unix_listener::bind(name);
            unix_stream client = co_await unix_stream::connect(name);
            unix_stream server = co_await listener.accept();
            co_await client.write_all("hello");
            client.shutdown();
            const std::string asked = co_await all_of(server);
            CHECK(asked == "hello");
            co_await server.write_all("and back");
            co_await server.close();
            const std::string answered = co_await all_of(client);
            CHECK(answered == "and back");
            co_await client.close();
            co_await listener.close();
            const std::error_code gone = co_await error_of(unix_stream::connect(name));
            CHECK(gone == (name[0] == '@' ? std::errc::connection_refused : std::errc::no_such_file_or_directory));
        }
    });
}

TEST_CASE("unix: the name of a listener is that of both its ends, and a client has none") {
    directory dir;
    test::run([&]() -> task<> {
        unix_listener listener = unix_listener::bind(dir / "s");
        CHECK(listener.local() == unix_address(dir / "s"));
        unix_stream client = co_await unix_stream::connect(dir / "s");
        unix_stream server = co_await listener.accept();
        CHECK(client.peer() == listener.local());
        CHECK(client.local().is_unnamed());
        CHECK(server.local() == listener.local());
        CHECK(server.peer().is_unnamed());
    });
}

TEST_CASE("unix: an error names the socket, whichever side it comes up on") {
    directory dir;
    test::run([&]() -> task<> {
        const auto refused = co_await attempt(unix_stream::connect(dir / "nobody"));
        CHECK(refused.failure().message() == "connect " + dir / "nobody" + ": No such file or directory");

        unix_listener listener = unix_listener::bind(dir / "s");
        unix_stream client = co_await unix_stream::connect(dir / "s");
        unix_stream server = co_await listener.accept();
        co_await server.close();
        const auto written = co_await attempt(client.write_all("?"));
        CHECK(written.failure().message() == "write " + dir / "s" + ": Broken pipe");

        auto [left, right] = unix_stream::pair();
        co_await right.close();
        const auto unnamed = co_await attempt(left.write_all("?"));
        CHECK(unnamed.failure().message() == "write a Unix socket without a name: Broken pipe");
    });
}

TEST_CASE("unix: a pair is two streams that are connected") {
    test::run([]() -> task<> {
        auto [left, right] = unix_stream::pair();
        co_await left.write_all("ping");
        std::array<char, 4> into;
        const std::size_t got = co_await right.read_exactly(into);
        CHECK(got == 4);
        CHECK(std::string_view(into.data(), got) == "ping");
        CHECK(left.peer().is_unnamed());
        co_await left.close();
        const buffer end = co_await right.receive();
        CHECK(end.empty());
    });
}

TEST_CASE("unix: a peer is known by its process, user and group") {
    directory dir;
    test::run([&]() -> task<> {
        unix_listener listener = unix_listener::bind(dir / "s");
        unix_stream client = co_await unix_stream::connect(dir / "s");
        unix_stream server = co_await listener.accept();
        auto [left, right] = unix_stream::pair();
        peer_credentials self{.process = ::getpid(), .user = ::getuid(), .group = ::getgid()};
        if (test::on_sim()) self = {.process = 1, .user = 0, .group = 0};
        for (const unix_stream* each : {&client, &server, &left, &right}) CHECK(each->credentials() == self);
        co_await client.close();
        CHECK(server.credentials() == self);  // it is what was true when they connected
        CHECK(client.try_credentials().error() == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("unix: who connects waits while the queue of the listener is full, and loses nothing") {
    directory dir;
    test::run([&]() -> task<> {
        unix_listener listener = unix_listener::bind(dir / "s", room_for_one);
        unix_stream first = co_await unix_stream::connect(dir / "s");
        CHECK(unix_stream::try_connect(dir / "s").error() == std::errc::resource_unavailable_try_again);
        const auto late = co_await attempt(with_timeout(20ms, unix_stream::connect(dir / "s")));
        CHECK(late.error() == std::errc::timed_out);
        auto second = spawn(
            [](std::string name) -> task<unix_stream> { co_return co_await unix_stream::connect(name); }, dir / "s");
        co_await sleep_for(5ms);
        CHECK_FALSE(second.done());
        unix_stream server = co_await listener.accept();
        unix_stream client = co_await second;
        CHECK(client.is_open());
    });
}

TEST_CASE("unix: a client that has gone before it was accepted has left its words") {
    directory dir;
    test::run([&]() -> task<> {
        unix_listener listener = unix_listener::bind(dir / "s");
        {
            unix_stream client = co_await unix_stream::connect(dir / "s");
            co_await client.write_all("I was here");
            co_await client.close();
        }
        unix_stream server = co_await listener.accept();
        const std::string words = co_await all_of(server);
        CHECK(words == "I was here");
    });
}

TEST_CASE("unix: a listener that closes refuses those in its queue") {
    directory dir;
    test::run([&]() -> task<> {
        unix_listener listener = unix_listener::bind(dir / "s");
        unix_stream client = co_await unix_stream::connect(dir / "s");
        co_await listener.close();
        std::byte into[1];
        const std::error_code why = co_await error_of(client.read_some(into));
        CHECK(why == std::errc::connection_reset);
        const std::error_code closed = co_await error_of(listener.accept());
        CHECK(closed == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("unix: a server of Unix sockets is a server like any other") {
    directory dir;
    test::run([&]() -> task<> {
        unix_listener listener = unix_listener::bind(dir / "s");
        server_control control;
        auto session = [](unix_stream& peer) -> task<> {
            const std::string asked = co_await all_of(peer);
            co_await peer.write_all(asked);
        };
        auto client = [&]() -> task<> {
            unix_stream peer = co_await unix_stream::connect(dir / "s");
            co_await peer.write_all("echo");
            peer.shutdown();
            const std::string answer = co_await all_of(peer);
            CHECK(answer == "echo");
            control.stop();
        };
        auto clients = spawn(client);
        serve_options options;
        options.stop_on_signals = false;
        options.control = &control;
        co_await serve(listener, session, options);
        co_await clients;
        CHECK(control.stats().accepted == 1);
        CHECK_FALSE(listener.is_open());
        if (!test::on_sim()) CHECK_FALSE(files::exists(dir / "s"));
    });
}

TEST_CASE("unix: cancelled at every step it leaves nothing behind") {
    directory dir;
    const auto program = [&]() -> task<> {
        unix_listener listener = unix_listener::bind(dir / "s", room_for_one);
        auto server = [&listener]() -> task<> {
            for (int i = 0; i < 3; ++i) {
                unix_stream peer = co_await listener.accept();
                const std::string asked = co_await all_of(peer);
                co_await peer.write_all(asked);
            }
        };
        auto client = [&dir]() -> task<> {
            unix_stream peer = co_await unix_stream::connect(dir / "s");
            co_await peer.write_all("words");
            peer.shutdown();
            const std::string answer = co_await all_of(peer);
            CHECK(answer == "words");
        };
        auto all = [&](task_group& group) -> task<> {
            group.spawn(server);
            for (int i = 0; i < 3; ++i) group.spawn(client);
            co_return;
        };
        co_await with_task_group(all);
        co_await listener.close();
    };
    const auto everywhere = testing::cancel_at_every_step(program);
    CHECK_MESSAGE(everywhere.ok(), everywhere.text());
}

// --- the file: a matter of real kernels, for a simulated machine has names and no files

/// What a server that was killed leaves behind.
void leave_stale(const std::string& path, int type = SOCK_STREAM) {
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    path.copy(at.sun_path, sizeof at.sun_path - 1);
    const int fd = ::socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
    ::close(fd);
}

TEST_CASE("unix: the file has the mode that was asked for, whatever the umask") {
    if (test::on_sim()) return;
    directory dir;
    test::run([&]() -> task<> {
        const mode_t before = ::umask(022);
        for (const std::uint16_t mode : {std::uint16_t{0600}, std::uint16_t{0666}, std::uint16_t{0770}}) {
            unix_listener listener = unix_listener::bind(dir / "s", {.mode = mode});
            struct stat made;
            REQUIRE(::lstat((dir / "s").c_str(), &made) == 0);
            CHECK((made.st_mode & 07777) == mode);
            co_await listener.close();
            CHECK_FALSE(is_socket(dir / "s"));
        }
        ::umask(before);
    });
}

TEST_CASE("unix: a file whose listener is gone is replaced, unless that is forbidden (hazard C13)") {
    if (test::on_sim()) return;
    directory dir;
    test::run([&]() -> task<> {
        leave_stale(dir / "s");
        CHECK(unix_listener::try_bind(dir / "s", {.replace = false}).error() == std::errc::address_in_use);
        unix_listener listener = unix_listener::bind(dir / "s");
        unix_stream client = co_await unix_stream::connect(dir / "s");
        CHECK(client.is_open());
    });
    CHECK_FALSE(is_socket(dir / "s"));
}

TEST_CASE("unix: a name that somebody listens at is in use, also when the queue is full") {
    directory dir;
    test::run([&]() -> task<> {
        unix_listener listener = unix_listener::bind(dir / "s", room_for_one);
        CHECK(unix_listener::try_bind(dir / "s").error() == std::errc::address_in_use);
        unix_stream waiting;
        for (;;) {  // the attempt above stood in the queue, and may have been the one that has room
            rondo::result<unix_stream> one = unix_stream::try_connect(dir / "s");
            if (!one) break;
            waiting = *std::move(one);
        }
        CHECK(unix_listener::try_bind(dir / "s").error() == std::errc::address_in_use);
        unix_listener other;
        try {
            other = unix_listener::bind(dir / "s");
        } catch (const io_error& e) {
            CHECK(std::string(e.what()).find("listen at " + dir / "s") == 0);
        }
        CHECK_FALSE(other.is_open());
        if (!test::on_sim()) CHECK(is_socket(dir / "s"));
        co_return;
    });
}

TEST_CASE("unix: what is no socket of a stream is never removed") {
    if (test::on_sim()) return;
    directory dir;
    test::run([&]() -> task<> {
        REQUIRE(::close(::open((dir / "file").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) == 0);
        REQUIRE(::symlink((dir / "s").c_str(), (dir / "link").c_str()) == 0);
        leave_stale(dir / "s");
        for (const char* name : {"file", "link"}) {
            CAPTURE(name);
            CHECK(unix_listener::try_bind(dir / name).error() == std::errc::address_in_use);
            CHECK(files::exists(files::symlink_status(dir / name)));
        }
        CHECK(is_socket(dir / "s"));
        CHECK(unix_listener::try_bind(dir / "no" + "/s").error() == std::errc::no_such_file_or_directory);
        co_return;
    });
}

TEST_CASE("unix: a file that is another's by now is not removed") {
    if (test::on_sim()) return;
    directory dir;
    test::run([&]() -> task<> {
        unix_listener first = unix_listener::bind(dir / "s");
        REQUIRE(::rename((dir / "s").c_str(), (dir / "old").c_str()) == 0);
        unix_listener second = unix_listener::bind(dir / "s");
        co_await first.close();
        CHECK(is_socket(dir / "s"));
        unix_stream client = co_await unix_stream::connect(dir / "s");
        unix_listener moved = std::move(second);
        second = {};
        CHECK(is_socket(dir / "s"));
        moved = {};
        CHECK_FALSE(is_socket(dir / "s"));
    });
}

TEST_CASE("unix: a forked child that drops a listener leaves the file to its parent") {
    if (test::on_sim()) return;
    directory dir;
    test::run([&]() -> task<> {
        unix_listener listener = unix_listener::bind(dir / "s");
        const pid_t child = ::fork();
        if (child == 0) {
            listener = {};
            ::_exit(is_socket(dir / "s") ? 0 : 1);
        }
        int status = -1;
        REQUIRE(::waitpid(child, &status, 0) == child);
        CHECK(status == 0);
        unix_stream client = co_await unix_stream::connect(dir / "s");
        CHECK(client.is_open());
    });
}

// --- what the kernel says

/// Fails at one call.
struct refusal {
    sys_op::call at = sys_op::call::close;
    int error = 0;
    int error_for(const sys_op& what) const noexcept { return what.what == at ? error : 0; }
};

TEST_CASE("unix: each call that the kernel refuses is an error of that name, and leaves nothing") {
    directory dir;
    test::refusing<refusal> factory;
    loop_options on;
    on.factory = &factory;
    rondo::run(on, [&]() -> task<> {
        using enum sys_op::call;
        const std::size_t before = test::on_sim() ? 0 : test::open_descriptors();
        for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM, EAFNOSUPPORT, EPERM}) {
            CAPTURE(error);
            factory.what = {unix_socket, error};
            CHECK(unix_listener::try_bind("@x").error() == errno_code(error));
            const std::error_code connected = co_await error_of(unix_stream::connect("@x"));
            CHECK(connected == errno_code(error));
            factory.what = {stream_pair, error};
            CHECK(unix_stream::try_pair().error() == errno_code(error));
            CHECK_THROWS_AS(unix_stream::pair(), io_error);
        }
        for (const int error : {EACCES, EADDRINUSE, EROFS, ENOTDIR, ELOOP, ENOMEM}) {
            factory.what = {unix_bind, error};
            CHECK(unix_listener::try_bind(dir / "s").error() == errno_code(error));
        }
        factory.what = {listen, EADDRINUSE};
        CHECK(unix_listener::try_bind(dir / "s").error() == std::errc::address_in_use);
        if (!test::on_sim()) CHECK_FALSE(is_socket(dir / "s"));
        for (const int error : {EACCES, ECONNREFUSED, EPROTOTYPE, ENOENT, EPERM}) {
            factory.what = {unix_connect, error};
            const auto connected = co_await attempt(unix_stream::connect(dir / "s"));
            CHECK(connected.error() == errno_code(error));
            CHECK(connected.failure().message().starts_with("connect " + dir / "s" + ": "));
            CHECK(unix_stream::try_connect(dir / "s").error() == errno_code(error));
        }
        factory.what = {};
        {
            auto [left, right] = unix_stream::pair();
            factory.what = {unix_credentials, ENOPROTOOPT};
            CHECK(left.try_credentials().error() == std::errc::no_protocol_option);
            CHECK_THROWS_AS(left.credentials(), io_error);
            factory.what = {unix_peer_name, ENOTCONN};
            CHECK_THROWS_AS(left.peer(), io_error);
            factory.what = {unix_local_name, ENOBUFS};
            CHECK_THROWS_AS(left.local(), io_error);
            unix_listener listener = unix_listener::bind(dir / "s");
            factory.what = {unix_unlink, EACCES};
            co_await listener.close();  // the file stays, and that is no error of the socket
        }
        factory.what = {};
        co_await test::settle();
        if (!test::on_sim()) CHECK(test::open_descriptors() == before);
    });
}

}  // namespace
