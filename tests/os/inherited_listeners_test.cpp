// What systemd hands to a process. Each in a process of its own, since the descriptors' numbers are fixed.
#include "support/child_process.hpp"
#include "support/net.hpp"

#include <rondo/os/inherited_listeners.hpp>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdlib>

using namespace rondo;
using namespace std::literals;

namespace {

/// The lowest free number is 3 afterwards.
void close_others() {
    for (int fd = 3; fd < 256; ++fd) ::close(fd);
}

void hand_over(const char* count, const char* names = nullptr, long of = ::getpid()) {
    ::setenv("LISTEN_PID", std::to_string(of).c_str(), 1);
    ::setenv("LISTEN_FDS", count, 1);
    names != nullptr ? ::setenv("LISTEN_FDNAMES", names, 1) : ::unsetenv("LISTEN_FDNAMES");
}

bool are_unset() {
    return std::getenv("LISTEN_PID") == nullptr && std::getenv("LISTEN_FDS") == nullptr &&
           std::getenv("LISTEN_FDNAMES") == nullptr;
}

/// The exit code of `body` in a process of its own.
template <class Body>
int apart(Body body) {
    const test::child_process child([&](int) {
        close_others();
        return body();
    });
    const int status = child.ended();
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int listening() {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 || ::listen(fd, 5) != 0) ::_exit(99);
    return fd;
}

std::errc error_of_call() {
    try {
        static_cast<void>(inherited_listeners());
    } catch (const io_error& e) {
        return static_cast<std::errc>(e.code().value());
    }
    return std::errc();
}

TEST_CASE("inherited listeners: they come in order, with their names, close-on-exec, and only once") {
    if (test::on_sim()) return;
    const int wrong = apart([] {
        if (listening() != 3 || listening() != 4 || listening() != 5) return 100;
        hand_over("3", "web::");
        const std::vector<inherited_listener> all = inherited_listeners();
        int faults = 0;
        if (all.size() != 3 || all[0].fd != 3 || all[2].fd != 5) return 101;
        if (all[0].name != "web" || all[1].name != "unknown" || all[2].name != "unknown") faults |= 1;
        for (const auto& each : all)
            if ((::fcntl(each.fd, F_GETFD) & FD_CLOEXEC) == 0) faults |= 2;
        if (!are_unset()) faults |= 4;
        if (!inherited_listeners().empty()) faults |= 8;
        rondo::run([&]() -> task<> {
            tcp_listener listener = tcp_listener::from_fd(all[0].fd);
            tcp_stream client = co_await tcp_stream::connect(listener.local());
            tcp_stream server = co_await listener.accept();
            co_await client.write_all("x");
            const std::string heard = co_await test::receive_text(server, 1);
            if (heard != "x") faults |= 16;
        });
        return faults;
    });
    CHECK(wrong == 0);
}

TEST_CASE("inherited listeners: none without the variables, or when they are for another process") {
    const int wrong = apart([] {
        for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
        int faults = inherited_listeners().empty() ? 0 : 1;
        hand_over("1", nullptr, ::getppid());
        if (!inherited_listeners().empty()) faults |= 2;
        hand_over("0");
        if (!inherited_listeners().empty() || !are_unset()) faults |= 4;
        return faults;
    });
    CHECK(wrong == 0);
}

TEST_CASE("inherited listeners: variables that make no sense are an error, and one that is not open is, too") {
    const int wrong = apart([] {
        int faults = 0;
        for (const char* count : {"", "x", "-1", "1x", "99999999999", "2000000000", " 1"}) {
            hand_over(count);
            if (error_of_call() != std::errc::invalid_argument) faults |= 1;
        }
        hand_over("1");
        ::setenv("LISTEN_PID", "me", 1);
        if (error_of_call() != std::errc::invalid_argument) faults |= 2;
        hand_over("2");
        if (listening() != 3) faults |= 4;
        if (error_of_call() != std::errc::bad_file_descriptor) faults |= 8;
        if (are_unset()) faults |= 16;
        return faults;
    });
    CHECK(wrong == 0);
}

TEST_CASE("inherited listeners: a simulated world says that it has no such thing") {
    if (!test::on_sim()) return;
    test::run([]() -> task<> {
        CHECK_THROWS_AS(static_cast<void>(inherited_listeners()), not_simulated);
        co_return;
    });
}

}  // namespace
