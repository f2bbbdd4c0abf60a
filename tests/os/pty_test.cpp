// Pseudo-terminals: both ends as streams, the line discipline in between, window sizes, and how they end.
#include "support/every_step.hpp"
#include "support/net.hpp"

#include <rondo/os/pty.hpp>

#include <array>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

using namespace rondo;
using namespace std::literals;
using test::bytes;
using test::error_of;
using test::is_pattern;
using test::make_pattern;

static_assert(byte_stream<pty_master> && byte_stream<pty_terminal>);
static_assert(std::is_trivially_copyable_v<pty_options>);

namespace {

bool skipped_in_sim() {
    if (test::on_sim()) MESSAGE("skipped: a simulated world has no terminals");
    return test::on_sim();
}

task<std::string> read_text(descriptor_stream& from, std::size_t size) {
    std::string text(size, '?');
    const std::size_t n = co_await from.read_exactly(text);
    text.resize(n);
    co_return text;
}

TEST_CASE("pty: what is typed at the master is a line at the terminal, and is echoed") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        auto [master, terminal] = pty::make();
        CHECK(::isatty(terminal.native_handle()) == 1);
        co_await master.write_all("hel");
        std::array<char, 16> into{};
        const auto early = co_await attempt(with_timeout(5ms, terminal.read_some(into)));
        CHECK(early.error() == std::errc::timed_out);
        co_await master.write_all("lo\n");
        const std::string line = co_await read_text(terminal, 6);
        CHECK(line == "hello\n");
        const std::string echo = co_await read_text(master, 7);
        CHECK(echo == "hello\r\n");
        co_await terminal.write_all("and back\n");
        const std::string back = co_await read_text(master, 10);
        CHECK(back == "and back\r\n");
        co_await master.write_all("\x04");  // Ctrl-D
        const std::size_t end = co_await terminal.read_some(into);
        CHECK(end == 0);
    });
}

TEST_CASE("pty: a raw one passes all bytes on as they are, with back-pressure") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        auto [master, terminal] = pty::make({.window = {}, .raw = true});
        const bytes there = make_pattern(1, 0, 200'000), back = make_pattern(2, 0, 200'000);
        auto writes = [](descriptor_stream& to, const bytes& all) -> task<> { co_await to.write_all(all); };
        auto reads = [](descriptor_stream& from, std::size_t size) -> task<bytes> {
            bytes all(size);
            co_await from.read_exactly(all);
            co_return all;
        };
        auto one = spawn(writes, std::ref<descriptor_stream>(master), std::cref(there));
        auto other = spawn(writes, std::ref<descriptor_stream>(terminal), std::cref(back));
        auto got_back = spawn(reads, std::ref<descriptor_stream>(master), back.size());
        const bytes got = co_await reads(terminal, there.size());
        const bytes of_master = co_await got_back;
        co_await one;
        co_await other;
        CHECK(got == there);
        CHECK(of_master == back);
    });
}

TEST_CASE("pty: when nobody has the terminal open its master has ended, until somebody opens it again") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        auto [master, terminal] = pty::make({.window = {}, .raw = true});
        auto reads = [](pty_master& from) -> task<std::string> {
            std::string all;
            for (;;) {
                const buffer part = co_await from.receive();
                if (part.empty()) co_return all;
                all += part.text();
            }
        };
        auto end = spawn(reads, std::ref(master));
        co_await terminal.write_all("last words");
        co_await terminal.close();
        const std::string words = co_await end;
        CHECK(words == "last words");
        std::array<char, 4> into{};
        CHECK(*master.try_read_some(into) == 0);
        const int again = ::open(master.name().c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
        REQUIRE(again >= 0);
        REQUIRE(::write(again, "more", 4) == 4);
        const std::size_t n = co_await master.read_exactly(into);
        CHECK(std::string_view(into.data(), n) == "more");
        ::close(again);
    });
}

TEST_CASE("pty: when the master is closed the terminal has ended, and cannot be written") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        auto [master, terminal] = pty::make();
        auto reads = [](pty_terminal& from) -> task<std::size_t> {
            std::array<char, 4> some{};
            co_return co_await from.read_some(some);
        };
        auto end = spawn(reads, std::ref(terminal));
        co_await test::settle();
        co_await master.close();
        const std::size_t n = co_await end;
        CHECK(n == 0);
        const auto written = co_await attempt(terminal.write_all("?"));
        CHECK(written.failure().message() == "write a pseudo-terminal: Input/output error");
    });
}

TEST_CASE("pty: the window has a size, which either end can ask for and change") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        auto [master, terminal] = pty::make({.window = {.rows = 24, .columns = 80}, .raw = false});
        const window_size first{.rows = 24, .columns = 80};
        CHECK(master.window() == first);
        CHECK(terminal.window() == first);
        const window_size wide{.rows = 50, .columns = 132, .width = 1000, .height = 700};
        master.window(wide);
        CHECK(terminal.window() == wide);
        winsize seen{};
        REQUIRE(::ioctl(terminal.native_handle(), TIOCGWINSZ, &seen) == 0);
        CHECK(seen.ws_col == 132);
        co_await master.close();
        CHECK(master.try_window().error() == std::errc::bad_file_descriptor);
        CHECK(master.try_window(first).error() == std::errc::bad_file_descriptor);
        CHECK_THROWS_AS(static_cast<void>(master.name()), io_error);
    });
}

TEST_CASE("pty: its descriptors are non-blocking, close on exec, and nobody's controlling terminal") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        auto [master, terminal] = pty::make();
        CHECK(master.name().starts_with("/dev/pts/"));
        for (const int fd : {master.native_handle(), terminal.native_handle()}) {
            CHECK((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
            CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        }
        CHECK(master.try_shutdown().error() == std::errc::not_a_socket);
        const int fd = co_await terminal.release();
        CHECK(::isatty(fd) == 1);
        ::close(fd);
    });
}

TEST_CASE("pty: cancelled at every step it leaves nothing behind") {
    if (skipped_in_sim()) return;
    const int points = test::cancel_at_every_step([]() -> task<> {
        auto [master, terminal] = pty::make({.window = {}, .raw = true});
        auto answers = [](pty_terminal& self) -> task<> {
            const std::string asked = co_await read_text(self, 3);
            co_await self.write_all(asked);
            co_await self.close();
        };
        auto body = [&, &m = master, &t = terminal](task_group& group) -> task<> {
            group.spawn(answers, std::ref(t));
            co_await m.write_all("abc");
            for (;;) {
                const buffer part = co_await m.receive();
                if (part.empty()) break;
            }
        };
        co_await with_task_group(body);
    });
    CHECK(points > 1);
}

TEST_CASE("pty: a simulated world has none, and says so by name") {
    if (!test::on_sim()) return;
    test::run([]() -> task<> {
        CHECK_THROWS_WITH_AS(static_cast<void>(pty::make()),
                             "make a pseudo-terminal in a simulated world: Function not implemented", not_simulated);
        co_return;
    });
}

}  // namespace
