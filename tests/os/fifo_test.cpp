// FIFOs: who opens one waits for the other side, and holds up nobody.
#include "support/every_step.hpp"
#include "support/net.hpp"

#include <rondo/os/fifo.hpp>
#include <rondo/os/pipe.hpp>

#include <array>
#include <cstdlib>
#include <filesystem>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

using namespace rondo;
using namespace std::literals;
using test::error_of;

namespace {

/// A directory of its own, gone at the end.
struct directory {
    directory() {
        std::string at = (std::filesystem::temp_directory_path() / "rondo-XXXXXX").string();
        REQUIRE(::mkdtemp(at.data()) != nullptr);
        path = at;
    }
    ~directory() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    std::string operator/(std::string_view name) const { return path + "/" + std::string(name); }
    std::string path;
};

task<std::string> all_of(pipe_reader& from) {
    std::string all;
    for (;;) {
        const buffer part = co_await from.receive();
        if (part.empty()) co_return all;
        all += part.text();
    }
}

bool skipped_in_sim() {
    if (test::on_sim()) MESSAGE("skipped: a simulated world has no files");
    return test::on_sim();
}

TEST_CASE("fifo: two sides meet at a file, whoever comes first") {
    if (skipped_in_sim()) return;
    directory dir;
    test::run([&]() -> task<> {
        const std::string path = dir / "f";
        make_fifo(path);
        auto writes = [](std::string at) -> task<> {
            pipe_writer to = co_await open_fifo_writer(at);
            co_await to.write_all("first");
            co_await to.close();
        };
        auto writer = spawn(writes, path);
        co_await sleep_for(5ms);
        CHECK_FALSE(writer.done());
        pipe_reader reader = open_fifo_reader(path);
        const std::string got = co_await all_of(reader);
        CHECK(got == "first");
        co_await writer;
        co_await reader.close();

        pipe_reader early = open_fifo_reader(path);
        auto late = spawn(writes, path);
        const std::string second = co_await all_of(early);
        CHECK(second == "first");
        co_await late;
    });
}

TEST_CASE("fifo: as long as nobody has opened it for writing, its reader waits and has not come to the end") {
    if (skipped_in_sim()) return;
    directory dir;
    test::run([&]() -> task<> {
        make_fifo(dir / "f");
        pipe_reader reader = open_fifo_reader(dir / "f");
        std::array<char, 8> into{};
        CHECK(reader.try_read_some(into).error() == std::errc::resource_unavailable_try_again);
        const auto early = co_await attempt(with_timeout(10ms, reader.read_some(into)));
        CHECK(early.error() == std::errc::timed_out);
        const auto borrowed = co_await attempt(with_timeout(10ms, reader.receive()));
        CHECK(borrowed.error() == std::errc::timed_out);
        {
            pipe_writer silent = co_await open_fifo_writer(dir / "f");
            const auto still = co_await attempt(with_timeout(10ms, reader.read_some(into)));
            CHECK(still.error() == std::errc::timed_out);
            co_await silent.close();
        }
        const std::size_t end = co_await reader.read_some(into);
        CHECK(end == 0);
        pipe_writer next = co_await open_fifo_writer(dir / "f");
        co_await next.write_all("again");
        std::array<char, 5> word{};
        const std::size_t got = co_await reader.read_exactly(word);
        CHECK(std::string_view(word.data(), got) == "again");
    });
}

TEST_CASE("fifo: without a reader it is not opened for writing") {
    if (skipped_in_sim()) return;
    directory dir;
    test::run([&]() -> task<> {
        make_fifo(dir / "f");
        CHECK(try_open_fifo_writer(dir / "f").error() == std::errc::no_such_device_or_address);
        const auto late = co_await attempt(with_timeout(10ms, open_fifo_writer(dir / "f")));
        CHECK(late.error() == std::errc::timed_out);
        pipe_reader reader = open_fifo_reader(dir / "f");
        pipe_writer writer = *try_open_fifo_writer(dir / "f");
        co_await reader.close();
        const std::error_code gone = co_await error_of(writer.write_all("?"));
        CHECK(gone == std::errc::broken_pipe);
    });
}

TEST_CASE("fifo: what is none is refused by name, and not opened") {
    if (skipped_in_sim()) return;
    directory dir;
    test::run([&]() -> task<> {
        const std::string file = dir / "file", path = dir / "f", absent = dir / "absent", at = dir / "socket";
        ::close(::open(file.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        make_fifo(path, 0640);
        struct stat made{};
        REQUIRE(::stat(path.c_str(), &made) == 0);
        CHECK((made.st_mode & 0600) == 0600);
        CHECK(try_make_fifo(path).error() == std::errc::file_exists);
        CHECK(try_make_fifo("a\0b"s).error() == std::errc::invalid_argument);
        CHECK(try_open_fifo_reader(file).error() == std::errc::invalid_argument);
        CHECK(try_open_fifo_reader("f\0x"s).error() == std::errc::invalid_argument);
        CHECK(try_open_fifo_reader(absent).error() == std::errc::no_such_file_or_directory);
        // open(2) answers for a socket as for a FIFO that nobody reads.
        sockaddr_un name{};
        name.sun_family = AF_UNIX;
        at.copy(name.sun_path, sizeof name.sun_path - 1);
        const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0);
        const auto socket = co_await attempt(open_fifo_writer(at));
        CHECK(socket.error() == std::errc::invalid_argument);
        ::close(fd);
        const auto missing = co_await attempt(open_fifo_writer(absent));
        CHECK(missing.failure().message() == "open a FIFO to write " + absent + ": No such file or directory");
    });
}

TEST_CASE("fifo: cancelled at every step it leaves nothing behind") {
    if (skipped_in_sim()) return;
    directory dir;
    REQUIRE(::mkfifo((dir / "f").c_str(), 0600) == 0);
    const int points = test::cancel_at_every_step([&]() -> task<> {
        auto writes = [&dir]() -> task<> {
            pipe_writer to = co_await open_fifo_writer(dir / "f");
            co_await to.write_all("words");
        };
        auto body = [&](task_group& group) -> task<> {
            group.spawn(writes);
            co_await sleep_for(3ms);
            pipe_reader reader = open_fifo_reader(dir / "f");
            const std::string got = co_await all_of(reader);
            CHECK(got == "words");
        };
        co_await with_task_group(body);
    });
    CHECK(points > 1);
}

TEST_CASE("fifo: a simulated world has none, and says so by name") {
    if (!test::on_sim()) return;
    test::run([]() -> task<> {
        CHECK_THROWS_WITH_AS(make_fifo("f"), "make a FIFO in a simulated world: Function not implemented",
                             not_simulated);
        CHECK_THROWS_AS(static_cast<void>(open_fifo_reader("f")), not_simulated);
        bool refused = false;
        try {
            static_cast<void>(co_await open_fifo_writer("f"));
        } catch (const not_simulated&) {
            refused = true;
        }
        CHECK(refused);
    });
}

}  // namespace
