// Pipes: bytes in order, back-pressure, both kinds of end, and what a cancel leaves.
#include "support/every_step.hpp"
#include "support/net.hpp"

#include <rondo/io/buffered_reader.hpp>
#include <rondo/io/relay.hpp>
#include <rondo/os/pipe.hpp>

#include <array>
#include <csignal>
#include <thread>

#include <fcntl.h>
#include <unistd.h>

using namespace rondo;
using namespace std::literals;
using test::bytes;
using test::error_of;
using test::is_pattern;
using test::make_pattern;

static_assert(byte_reader<pipe_reader> && byte_writer<pipe_writer>);
static_assert(!byte_writer<pipe_reader> && !byte_reader<pipe_writer> && !byte_stream<pipe_writer>);
static_assert(!std::is_convertible_v<pipe_reader&, descriptor_stream&>);
static_assert(std::is_nothrow_move_constructible_v<pipe_reader> && std::is_nothrow_move_assignable_v<pipe_writer>);
static_assert(!std::is_copy_constructible_v<pipe_reader> && !std::is_copy_constructible_v<pipe_writer>);
static_assert(std::is_trivially_copyable_v<pipe_options>);

namespace {

constexpr std::size_t page = 4096;

template <byte_reader Reader>
task<bytes> read_to_end(Reader& from) {
    bytes all;
    std::byte part[16384];
    for (;;) {
        const std::size_t n = co_await from.read_some(part);
        if (n == 0) co_return all;
        all.insert(all.end(), part, part + n);
    }
}

/// Writes until there is no room; returns how many bytes went in. (A page at a time: Linux does not break up less.)
std::size_t fill(pipe_writer& writer) {
    const bytes some(page);
    std::size_t size = 0;
    for (;;) {
        const rondo::result<std::size_t> n = writer.try_write_some(some);
        if (!n) {
            CHECK(n.error() == std::errc::resource_unavailable_try_again);
            return size;
        }
        size += *n;
    }
}

bool skipped_in_sim() {
    if (test::on_sim()) MESSAGE("skipped: a simulated world has no descriptors of others");
    return test::on_sim();
}

TEST_CASE("pipe: what is written can be read, in order, and then the end") {
    test::run([]() -> task<> {
        auto [reader, writer] = make_pipe();
        CHECK(reader.is_open());
        CHECK(writer.native_handle() != reader.native_handle());
        const bytes sent = make_pattern(1, 0, 1'000'000);
        auto writes = [](pipe_writer to, const bytes& all) -> task<> {
            const std::size_t size = co_await to.write_all(all);
            CHECK(size == all.size());
            co_await to.close();
        };
        auto done = spawn(writes, std::move(writer), std::cref(sent));
        const bytes got = co_await read_to_end(reader);
        co_await done;
        CHECK(got == sent);
        std::byte more[1];
        const std::size_t again = co_await reader.read_some(more);
        CHECK(again == 0);
    });
}

TEST_CASE("pipe: what is borrowed is what was written, and at the end nothing") {
    test::run([]() -> task<> {
        auto [reader, writer] = make_pipe();
        auto writes = [](pipe_writer to) -> task<> {
            const bytes all = make_pattern(2, 0, 100'000);
            for (std::size_t at = 0; at < all.size(); at += 1000)
                co_await to.write_all(std::span(all).subspan(at, 1000));
        };
        auto done = spawn(writes, std::move(writer));
        bytes got;
        for (;;) {
            const buffer part = co_await reader.receive();
            if (part.empty()) break;
            got.insert(got.end(), part.data(), part.data() + part.size());
        }
        co_await done;
        CHECK(got.size() == 100'000);
        CHECK(is_pattern(got, 2));
    });
}

TEST_CASE("pipe: many parts go out in one write") {
    test::run([]() -> task<> {
        auto [reader, writer] = make_pipe();
        std::vector<std::string> words;
        std::string all;
        for (int i = 0; i < 300; ++i) all += words.emplace_back("word " + std::to_string(i) + "\n");
        std::vector<std::span<const std::byte>> parts;
        for (const std::string& word : words) parts.push_back(test::as_bytes(word));
        parts.insert(parts.begin() + 7, std::span<const std::byte>());
        std::size_t written = 0;
        const std::size_t size = co_await writer.write_all(parts, &written);
        CHECK(size == all.size());
        CHECK(written == all.size());
        std::string got(all.size(), '?');
        co_await reader.read_exactly(got);
        CHECK(got == all);
        const std::size_t none = co_await writer.write_all(std::span<const std::span<const std::byte>>());
        CHECK(none == 0);
    });
}

TEST_CASE("pipe: lines that come in pieces are read as lines") {
    test::run([]() -> task<> {
        auto [reader, writer] = make_pipe();
        auto writes = [](pipe_writer to) -> task<> {
            for (const std::string_view piece : {"on"sv, "e\ntw"sv, "o\nthr"sv, "ee"sv}) {
                co_await to.write_all(piece);
                co_await sleep_for(1ms);
            }
        };
        auto done = spawn(writes, std::move(writer));
        buffered_reader in(reader);
        std::string lines;
        while (auto line = co_await in.read_line()) lines += *line + ";";
        co_await done;
        CHECK(lines == "one;two;three;");
    });
}

TEST_CASE("pipe: who writes waits while it is full, and goes on when somebody has read") {
    test::run([]() -> task<> {
        auto [reader, writer] = make_pipe({.capacity = page});
        CHECK(writer.capacity() == page);
        CHECK(reader.capacity() == page);
        CHECK(fill(writer) == page);
        auto writes = [](pipe_writer& to) -> task<> {
            const bytes more = make_pattern(3, 0, 10'000);
            co_await to.write_all(more);
        };
        auto waits = spawn(writes, std::ref(writer));
        co_await test::settle();
        CHECK_FALSE(waits.done());
        bytes got(page);
        co_await reader.read_exactly(got);
        bytes rest(10'000);
        co_await reader.read_exactly(rest);
        CHECK(is_pattern(rest, 3));
        co_await waits;
    });
}

TEST_CASE("pipe: the capacity is rounded up to pages, and has a limit") {
    test::run([]() -> task<> {
        auto [reader, writer] = make_pipe({.capacity = 5000});
        CHECK(reader.capacity() == 2 * page);
        CHECK(make_pipe({.capacity = 1 << 20}).writer.capacity() == 1 << 20);
        CHECK(try_make_pipe({.capacity = std::size_t{1} << 31}).error() == std::errc::invalid_argument);
        if (test::on_sim() || ::getuid() != 0) {
            CHECK(try_make_pipe({.capacity = 1 << 30}).error() == std::errc::operation_not_permitted);
        }
        co_await writer.close();
        CHECK(writer.try_capacity().error() == std::errc::bad_file_descriptor);
        CHECK_FALSE(writer.is_open());
    });
}

TEST_CASE("pipe: a writer whose reader is gone gets an error, and the process no signal") {
    struct sigaction before{};
    sigaction(SIGPIPE, nullptr, &before);
    test::run([]() -> task<> {
        auto [reader, writer] = make_pipe();
        co_await writer.write_all("nobody will read this");
        co_await reader.close();
        const auto alone = co_await attempt(writer.write_all("?"));
        CHECK(alone.error() == std::errc::broken_pipe);
        CHECK(alone.failure().message() == "write a pipe: Broken pipe");
        const std::array<std::span<const std::byte>, 2> parts = {test::as_bytes("a"), test::as_bytes("b")};
        const std::error_code gathered = co_await error_of(writer.write_all(parts));
        CHECK(gathered == std::errc::broken_pipe);
        const std::error_code some = co_await error_of(writer.write_some("?"));
        CHECK(some == std::errc::broken_pipe);
        CHECK(writer.try_write_some("?").error() == std::errc::broken_pipe);
    });
    struct sigaction after{};
    sigaction(SIGPIPE, nullptr, &after);
    const bool same = after.sa_handler == before.sa_handler;
    CHECK(same);
    sigset_t pending;
    sigpending(&pending);
    CHECK(sigismember(&pending, SIGPIPE) == 0);
}

TEST_CASE("pipe: a writer that waits hears that the reader has gone") {
    test::run([]() -> task<> {
        auto [reader, writer] = make_pipe({.capacity = page});
        fill(writer);
        std::size_t written = 1;
        auto writes = [](pipe_writer& to, std::size_t& count) -> task<std::error_code> {
            co_return co_await error_of(to.write_all("no room", &count));
        };
        auto waits = spawn(writes, std::ref(writer), std::ref(written));
        co_await test::settle();
        co_await reader.close();
        const std::error_code why = co_await waits;
        CHECK(why == std::errc::broken_pipe);
        CHECK(written == 0);
    });
}

TEST_CASE("pipe: a read that is cut off leaves its bytes for the next one") {
    test::run([]() -> task<> {
        auto [reader, writer] = make_pipe();
        co_await writer.write_all("half");
        std::array<char, 8> into{};
        const auto late = co_await attempt(with_timeout(20ms, reader.read_exactly(into)));
        CHECK(late.error() == std::errc::timed_out);
        co_await writer.write_all(" and half");
        std::array<char, 13> all{};
        const std::size_t size = co_await reader.read_exactly(all);
        CHECK(std::string_view(all.data(), size) == "half and half");
    });
}

TEST_CASE("pipe: a write that is cut off says how far it has come") {
    test::run([]() -> task<> {
        auto [reader, writer] = make_pipe({.capacity = page});
        const bytes sent = make_pattern(4, 0, 3 * page);
        std::size_t written = 0;
        const auto late = co_await attempt(with_timeout(20ms, writer.write_all(sent, &written)));
        CHECK(late.error() == std::errc::timed_out);
        CHECK(written == page);
        co_await writer.close();
        const bytes got = co_await read_to_end(reader);
        CHECK(got.size() == written);
        CHECK(is_pattern(got, 4));
    });
}

TEST_CASE("pipe: without waiting there is what is there, what fits, or neither") {
    test::run([]() -> task<> {
        auto [reader, writer] = make_pipe();
        std::array<char, 8> into{};
        CHECK(reader.try_read_some(into).error() == std::errc::resource_unavailable_try_again);
        CHECK(*writer.try_write_some("") == 0);
        co_await writer.write_all("x");
        co_await test::settle();
        CHECK(*reader.try_read_some(into) == 1);
        CHECK(into[0] == 'x');
        co_await writer.close();
        co_await test::settle();
        CHECK(*reader.try_read_some(into) == 0);
    });
}

TEST_CASE("pipe: one task reads and one writes; another one is told that it is busy") {
    test::run([]() -> task<> {
        auto [reader, writer] = make_pipe({.capacity = page});
        auto reads = [](pipe_reader& from) -> task<std::error_code> {
            std::byte into[1];
            co_return co_await error_of(from.read_some(into));
        };
        auto first = spawn(reads, std::ref(reader));
        co_await test::settle();
        std::byte into[1];
        const std::error_code second = co_await error_of(reader.read_some(into));
        CHECK(second == std::errc::device_or_resource_busy);
        CHECK(reader.try_read_some(into).error() == std::errc::resource_unavailable_try_again);
        co_await reader.close();
        const std::error_code ended = co_await first;
        CHECK(ended == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("pipe: both ends may be dropped at any time, also under a wait") {
    test::run([]() -> task<> {
        const std::size_t open_before = test::open_descriptors();
        auto [reader, writer] = make_pipe();
        auto reads = [](pipe_reader from) -> task<> {
            std::byte into[1];
            co_await from.read_some(into);
        };
        auto waits = spawn(reads, std::move(reader));
        co_await test::settle();
        waits.cancel();
        const auto how = co_await attempt(waits);
        CHECK_FALSE(how.has_value());
        writer = pipe_writer();
        co_await test::settle();
        if (!test::on_sim()) CHECK(test::open_descriptors() == open_before);
    });
}

/// What `relay` wants of a stream, out of two pipes.
struct two_pipes {
    pipe_reader in;
    pipe_writer out;
    auto read_some(writable_bytes into) { return in.read_some(into); }
    auto read_exactly(writable_bytes into) { return in.read_exactly(into); }
    auto receive() { return in.receive(); }
    auto write_some(bytes_view from) { return out.write_some(from); }
    auto write_all(bytes_view from, std::size_t* written = nullptr) { return out.write_all(from, written); }
    void shutdown() { out = pipe_writer(); }
    task<> close() {
        co_await in.close();
        co_await out.close();
    }
};
static_assert(byte_stream<two_pipes>);

TEST_CASE("pipe: a relay moves bytes between pipes and TCP, both ways") {
    test::run([]() -> task<> {
        auto [far_reader, out] = make_pipe();
        auto [in, far_writer] = make_pipe();
        two_pipes pipes{std::move(in), std::move(out)};
        test::connection c = co_await test::connected();
        auto relays = [](two_pipes& a, tcp_stream& b) -> task<relay_result> { co_return co_await relay(a, b); };
        auto moves = spawn(relays, std::ref(pipes), std::ref(c.server));
        const bytes there = make_pattern(5, 0, 300'000);
        const bytes back = make_pattern(6, 0, 200'000);
        auto to_tcp = [](pipe_writer to, const bytes& all) -> task<> { co_await to.write_all(all); };
        auto to_pipe = [](tcp_stream& to, const bytes& all) -> task<> {
            co_await to.write_all(all);
            to.shutdown();
        };
        auto first = spawn(to_tcp, std::move(far_writer), std::cref(there));
        auto second = spawn(to_pipe, std::ref(c.client), std::cref(back));
        auto reads =
            spawn([](pipe_reader& from) -> task<bytes> { co_return co_await read_to_end(from); }, std::ref(far_reader));
        const bytes by_tcp = co_await test::read_to_end(c.client);
        const bytes by_pipe = co_await reads;
        co_await first;
        co_await second;
        const relay_result moved = co_await moves;
        CHECK(by_tcp == there);
        CHECK(by_pipe == back);
        CHECK(moved.how == relay_end::both_ended);
        CHECK(moved.first_to_second == there.size());
        CHECK(moved.second_to_first == back.size());
    });
}

TEST_CASE("pipe: cancelled at every step it leaves nothing behind") {
    const int points = test::cancel_at_every_step([]() -> task<> {
        auto [reader, writer] = make_pipe({.capacity = page});
        auto writes = [](pipe_writer& to) -> task<> {
            const bytes all = make_pattern(7, 0, 3 * page);
            co_await to.write_all(all);
            const std::span<const std::byte> some(all);
            const std::array<std::span<const std::byte>, 2> parts = {some.first(5000), some.first(100)};
            co_await to.write_all(parts);
            co_await to.close();
        };
        auto reads = [](pipe_reader& from) -> task<> {
            bytes into(3 * page);
            co_await from.read_exactly(into);
            CHECK(is_pattern(into, 7));
            std::size_t rest = 0;
            for (;;) {
                const buffer part = co_await from.receive();
                if (part.empty()) break;
                rest += part.size();
            }
            CHECK(rest == 5100);
        };
        auto both = [&, &r = reader, &w = writer](task_group& group) -> task<> {
            group.spawn(writes, std::ref(w));
            group.spawn(reads, std::ref(r));
            co_return;
        };
        co_await with_task_group(both);
    });
    CHECK(points > 5);
}

TEST_CASE("pipe: a busy one holds up nobody") {
    test::run([]() -> task<> {
        auto [reader, writer] = make_pipe();
        bool stop = false;
        auto writes = [](pipe_writer to, const bool& enough) -> task<> {
            const bytes some(60'000);
            while (!enough) co_await to.write_all(some);
        };
        auto reads = [](pipe_reader from) -> task<> {
            bytes into(60'000);
            for (;;) {
                const std::size_t n = co_await from.read_some(into);
                if (n == 0) co_return;
            }
        };
        auto one = spawn(writes, std::move(writer), std::cref(stop));
        auto other = spawn(reads, std::move(reader));
        for (int turn = 0; turn < 100; ++turn) co_await immediate();
        stop = true;
        co_await one;
        co_await other;
    });
}

// --- what a real kernel has

TEST_CASE("pipe: its descriptors are non-blocking and close on exec") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        auto [reader, writer] = make_pipe();
        for (const int fd : {reader.native_handle(), writer.native_handle()}) {
            CHECK((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
            CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        }
        co_return;
    });
}

TEST_CASE("pipe: ends of somebody else's are adopted, and given back") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        int fds[2];
        REQUIRE(::pipe(fds) == 0);
        pipe_reader reader = pipe_reader::from_fd(fds[0]);
        pipe_writer writer = pipe_writer::from_fd(fds[1]);
        CHECK((::fcntl(fds[0], F_GETFL) & O_NONBLOCK) != 0);
        CHECK((::fcntl(fds[1], F_GETFD) & FD_CLOEXEC) != 0);
        co_await writer.write_all("to be read by others");
        std::array<char, 6> some{};
        co_await reader.read_exactly(some);
        const int back = co_await reader.release();
        CHECK(back == fds[0]);
        CHECK_FALSE(reader.is_open());
        char rest[32];
        const ssize_t n = ::read(back, rest, sizeof rest);
        CHECK(std::string_view(rest, static_cast<std::size_t>(n)) == "read by others");
        const int other = co_await writer.release();
        REQUIRE(::write(other, "once more", 9) == 9);
        pipe_reader again = pipe_reader::from_fd(back);
        std::array<char, 9> words{};
        co_await again.read_exactly(words);
        CHECK(std::string_view(words.data(), words.size()) == "once more");
        ::close(other);
    });
}

TEST_CASE("pipe: what a cancelled read has gathered is not given away") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        auto [reader, writer] = make_pipe();
        co_await writer.write_all("abc");
        std::array<char, 8> into{};
        const auto late = co_await attempt(with_timeout(5ms, reader.read_exactly(into)));
        CHECK(late.error() == std::errc::timed_out);
        const auto refused = co_await attempt(reader.release());
        CHECK(refused.error() == std::errc::resource_unavailable_try_again);
        CHECK(*reader.try_read_some(into) == 3);
        const int fd = co_await reader.release();
        ::close(fd);
    });
}

TEST_CASE("pipe: what is no end of one is refused, and stays the caller's as it was") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        int fds[2];
        REQUIRE(::pipe(fds) == 0);
        const int file = ::open("/dev/null", O_RDWR);
        const auto read = [](int fd) { return pipe_reader::try_from_fd(fd).error(); };
        const auto write = [](int fd) { return pipe_writer::try_from_fd(fd).error(); };
        CHECK(read(-1) == std::errc::bad_file_descriptor);
        CHECK(read(1 << 20) == std::errc::bad_file_descriptor);
        CHECK(read(fds[1]) == std::errc::invalid_argument);
        CHECK(write(fds[0]) == std::errc::invalid_argument);
        CHECK(read(file) == std::errc::invalid_argument);
        for (const int fd : {fds[0], fds[1], file}) {
            CHECK((::fcntl(fd, F_GETFL) & O_NONBLOCK) == 0);
            CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0);
        }
        std::string said;
        try {
            static_cast<void>(pipe_reader::from_fd(file));
        } catch (const io_error& e) {
            said = e.what();
        }
        CHECK(said == "adopt an end of a pipe, descriptor " + std::to_string(file) + ": Invalid argument");
        pipe_reader reader = pipe_reader::from_fd(fds[0]);
        auto reads = [](pipe_reader& from) -> task<> {
            std::byte into[1];
            co_await from.read_some(into);
        };
        auto waits = spawn(reads, std::ref(reader));
        co_await test::settle();
        CHECK(read(fds[0]) == std::errc::device_or_resource_busy);
        const auto busy = co_await attempt(reader.release());
        CHECK(busy.error() == std::errc::device_or_resource_busy);
        ::close(fds[1]);
        co_await waits;
        ::close(file);
    });
}

TEST_CASE("pipe: bytes that another thread writes one by one all come") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        int fds[2];
        REQUIRE(::pipe(fds) == 0);
        pipe_reader reader = pipe_reader::from_fd(fds[0]);
        std::thread writer([fd = fds[1]] {
            for (std::size_t i = 0; i < 20'000; ++i) {
                const std::byte one = test::pattern(8, i);
                while (::write(fd, &one, 1) != 1) {
                }
            }
            ::close(fd);
        });
        const bytes got = co_await read_to_end(reader);
        writer.join();
        CHECK(got.size() == 20'000);
        CHECK(is_pattern(got, 8));
    });
}

TEST_CASE("pipe: a number that was a socket's before is read and written as a pipe, and the other way round") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        for (int i = 0; i < 3; ++i) {
            test::connection c = co_await test::connected();
            co_await c.client.write_all("tcp");
            const std::string heard = co_await test::receive_text(c.server, 3);
            CHECK(heard == "tcp");
            const int number = c.client.native_handle();
            co_await c.server.close();
            co_await c.client.close();
            auto [reader, writer] = make_pipe();
            CHECK((reader.native_handle() == number || writer.native_handle() == number));
            co_await writer.write_all("pipe");
            std::array<char, 4> into{};
            co_await reader.read_exactly(into);
            CHECK(std::string_view(into.data(), 4) == "pipe");
            co_await reader.close();
            co_await writer.close();
        }
    });
}

TEST_CASE("pipe: in a simulated world those of others are not simulated") {
    if (!test::on_sim()) return;
    test::run([]() -> task<> {
        CHECK_THROWS_AS(static_cast<void>(pipe_reader::from_fd(0)), not_simulated);
        auto [reader, writer] = make_pipe();
        const auto released = co_await attempt(reader.release());
        CHECK(released.error() == std::errc::function_not_supported);
    });
}

}  // namespace
