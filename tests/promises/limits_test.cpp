// At the limits: no descriptors left, resets in every state, peers that do not read, numbers used again.
#include "support/net.hpp"

#include <rondo/sim/world.hpp>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <malloc.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <deque>
#include <optional>

using namespace rondo;
using namespace std::chrono_literals;
using test::bytes;
using test::connected;
using test::connection;
using test::error_of;

namespace {

struct quiet {
    quiet() { set_log_level(log_level::error); }
    ~quiet() { set_log_level(log_level::warning); }
};

/// The soft limit of descriptors, as long as this lives.
struct descriptor_limit {
    explicit descriptor_limit(rlim_t most) {
        getrlimit(RLIMIT_NOFILE, &before);
        rlimit now = before;
        now.rlim_cur = most;
        setrlimit(RLIMIT_NOFILE, &now);
    }
    ~descriptor_limit() { setrlimit(RLIMIT_NOFILE, &before); }
    rlimit before{};
};

/// Another process with `count` plain clients: each connects and sends a byte; when all have, each in
/// turn waits for its answer and hangs up. Exits with 0 if every one was answered.
class clients_outside {
 public:
    explicit clients_outside(int count) {
        int ends[2] = {-1, -1};
        if (::pipe(ends) != 0) return;
        child_ = ::fork();
        if (child_ == 0) {
            ::close(ends[1]);
            std::uint16_t port = 0;
            if (::read(ends[0], &port, sizeof port) != sizeof port) ::_exit(2);
            ::_exit(run(port, count));
        }
        ::close(ends[0]);
        tell_ = ends[1];
    }
    void start(std::uint16_t port) {
        const ssize_t told = ::write(tell_, &port, sizeof port);
        CHECK(told == sizeof port);
        ::close(std::exchange(tell_, -1));
    }
    /// Whether it has ended; then `status` says how.
    bool over(int& status) const { return ::waitpid(child_, &status, WNOHANG) == child_; }

 private:
    static int run(std::uint16_t port, int count) {
        ::alarm(60);
        std::vector<int> all;
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(port);
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        for (int i = 0; i < count; ++i) {
            const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
            if (fd < 0 || ::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) return 3;
            if (::send(fd, "x", 1, MSG_NOSIGNAL) != 1) return 4;
            all.push_back(fd);
        }
        for (const int fd : all) {
            char c = 0;
            if (::recv(fd, &c, 1, 0) != 1 || c != 'x') return 5;
            ::close(fd);
        }
        return 0;
    }

    pid_t child_ = -1;
    int tell_ = -1;
};

task<> echo(tcp_stream& peer) {
    for (;;) {
        const buffer data = co_await peer.receive();
        if (data.empty()) co_return;
        co_await peer.write_all(data);
    }
}

TEST_CASE(
    "limits: out of descriptors, the server pauses, serves on, and does not spin (hazard C4: libuv#690, bun#32705)") {
    // Only a kernel has a limit of descriptors: a simulated world gives out as many as are asked for.
    if (test::on_sim()) {
        MESSAGE("skipped: real backends only");
        return;
    }
    const quiet no_warnings;
    const std::size_t before = test::open_descriptors();
    clients_outside clients(200);  // before there is a loop: nothing of rondo's in the child
    const descriptor_limit few(64);
    int status = -1;
    test::run(
        [](clients_outside& outside, int& ended) -> task<> {
            listen_options options;
            options.backlog = 500;
            tcp_listener listener = test::listen(options);
            serve_options more_than_there_are;
            more_than_there_are.max_connections = 1000;
            more_than_there_are.stop_on_signals = false;
            auto server = spawn([&]() -> task<> { co_await serve(listener, echo, more_than_there_are); });
            outside.start(listener.local().port());
            while (!outside.over(ended)) co_await sleep_for(10ms);
            CHECK(listener.exhausted() > 0);
            CHECK(listener.exhausted() < 100);
            CHECK(this_loop().stats().turns < 20'000);
            server.cancel();
            static_cast<void>(co_await attempt(server));
        },
        std::ref(clients), std::ref(status));
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(test::open_descriptors() == before);
}

// socket() failed before anything was counted, and the loop never came round again.
TEST_CASE("limits: a task that tries to connect again at once, in vain, holds up no phase") {
    struct local {
        static task<> try_for_ever(endpoint to, bool& enough, int& tries) {
            while (!enough) {
                const auto failed = co_await attempt(tcp_stream::connect(to));
                CHECK(failed.error() == std::errc::too_many_files_open);
                ++tries;
            }
        }
        static task<> body(endpoint to) {
            bool enough = false;
            int tries = 0;
            auto trying = spawn(try_for_ever, to, std::ref(enough), std::ref(tries));
            for (int i = 0; i < 5; ++i) co_await immediate();  // in a world time would stand still
            enough = true;
            co_await trying;
            CHECK(tries > 0);
        }
    };
    if (test::on_sim()) {
        world w;
        w.host("test").descriptor_limit(0);
        w.run(local::body, endpoint(ip_address::loopback_v4(), 9));
        return;
    }
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        const endpoint to = listener.local();
        const descriptor_limit none(3);
        co_await local::body(to);
    });
}

TEST_CASE("limits: without any descriptor connect fails, accept waits; both work again later") {
    // Only a kernel has a limit of descriptors.
    if (test::on_sim()) {
        MESSAGE("skipped: real backends only");
        return;
    }
    const quiet no_warnings;
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        task_handle<tcp_stream> accepting;
        {
            const descriptor_limit none(3);
            const auto failed = co_await attempt(tcp_stream::connect(listener.local()));
            CHECK(failed.error() == std::errc::too_many_files_open);
            bool refused = false;
            try {
                tcp_listener another = test::listen();
            } catch (const io_error&) {
                refused = true;  // not looked at: UBSan needs a descriptor to check a vptr
            }
            CHECK(refused);
            accepting = spawn([&]() -> task<tcp_stream> { co_return co_await listener.accept(); });
            for (int i = 0; i < 40; ++i) co_await sleep_for(1ms);
            CHECK_FALSE(accepting.done());
            CHECK(listener.exhausted() > 0);
            CHECK(listener.exhausted() < 10);
            // A wait for better times can be cancelled, too.
            accepting.cancel();
            const auto ended = co_await attempt(accepting);
            CHECK(ended.error() == std::errc::operation_canceled);
            accepting = spawn([&]() -> task<tcp_stream> { co_return co_await listener.accept(); });
            for (int i = 0; i < 5; ++i) co_await sleep_for(1ms);
        }
        tcp_stream server = co_await accepting;
        co_await client.write_all("at last");
        const std::string data = co_await test::receive_text(server, 7);
        CHECK(data == "at last");
    });
}

TEST_CASE("limits: an accept that pauses for lack of descriptors is an arm like any other") {
    // Only a kernel has a limit of descriptors.
    if (test::on_sim()) {
        MESSAGE("skipped: real backends only");
        return;
    }
    const quiet no_warnings;
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        {
            const descriptor_limit none(3);
            for (int i = 0; i < 3; ++i) {
                auto chosen = co_await select_one(listener.accept(), sleep_for(12ms));
                CHECK(chosen.index() == 1);
            }
            CHECK(listener.exhausted() >= 3);
            auto victim =
                spawn([&]() -> task<> { static_cast<void>(co_await select_one(listener.accept(), sleep_for(1h))); });
            for (int i = 0; i < 3; ++i) co_await sleep_for(1ms);
            victim.cancel();
            static_cast<void>(co_await attempt(victim));
            CHECK(victim.state() == task_state::cancelled);
        }
        auto chosen = co_await select_one(listener.accept(), sleep_for(1h));
        REQUIRE(chosen.index() == 0);
        CHECK(chosen.get<0>().peer() == client.local());
    });
}

TEST_CASE("limits: connections that died in the backlog are no connections, and no errors") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        for (int i = 0; i < 20; ++i) {
            tcp_stream gone = co_await tcp_stream::connect(listener.local());
            gone.reset_on_close();
            co_await gone.close();
        }
        co_await test::settle();
        tcp_stream good = co_await tcp_stream::connect(listener.local());
        co_await good.write_all("alive");
        tcp_stream server = co_await listener.accept();
        CHECK(server.peer() == good.local());
        const std::string data = co_await test::receive_text(server, 5);
        CHECK(data == "alive");
        CHECK(listener.exhausted() == 0);

        // One that ended in order is served: it may have left a request.
        tcp_stream brief = co_await tcp_stream::connect(listener.local());
        co_await brief.write_all("a request");
        brief.shutdown();
        co_await test::settle();
        tcp_stream late = co_await listener.accept();
        const bytes request = co_await test::read_to_end(late);
        CHECK(test::as_text(request) == "a request");
        co_await late.write_all("an answer");
        co_await late.close();
        const bytes answer = co_await test::read_to_end(brief);
        CHECK(test::as_text(answer) == "an answer");
    });
}

enum class at_reset { idle, unread, reading, gathering, borrowing, writing, both, half_closed, end_seen };

task<> reset_in(at_reset state) {
    connection c = co_await connected();
    test::keep_small(c);
    tcp_stream& s = c.server;
    bytes into(100);
    const bytes big(4 << 20);
    task_handle<std::error_code> reader, writer;
    switch (state) {
        case at_reset::idle: break;
        case at_reset::unread: co_await c.client.write_all("unread"); break;
        case at_reset::reading: reader = spawn(error_of<detail::read_awaiter>, s.read_some(into)); break;
        case at_reset::gathering: reader = spawn(error_of<detail::read_awaiter>, s.read_exactly(into)); break;
        case at_reset::borrowing: reader = spawn(error_of<detail::borrow_awaiter>, s.receive()); break;
        case at_reset::writing: writer = spawn(error_of<detail::write_awaiter>, s.write_all(big)); break;
        case at_reset::both:
            reader = spawn(error_of<detail::borrow_awaiter>, s.receive());
            writer = spawn(error_of<detail::write_awaiter>, s.write_all(big));
            break;
        case at_reset::half_closed: s.shutdown(); break;
        case at_reset::end_seen: {
            c.client.shutdown();
            const std::size_t end = co_await s.read_some(into);
            CHECK(end == 0);
            break;
        }
    }
    co_await test::settle();
    c.client.reset_on_close();
    co_await c.client.close();
    std::error_code read, wrote;
    if (reader) read = co_await reader;
    if (writer) wrote = co_await writer;
    // Linux keeps one error per socket: of two waits one may find the end, or a broken pipe.
    if (reader && !writer) CHECK(read == std::errc::connection_reset);
    if (writer) CHECK((wrote == std::errc::connection_reset || wrote == std::errc::broken_pipe));
    co_await test::settle();
    // Whatever comes after: an end or an error each time, never a hang.
    for (int again = 0; again < 3; ++again) {
        const std::error_code late_read = co_await error_of(s.read_some(into));
        CHECK((!late_read || late_read == std::errc::connection_reset || late_read == std::errc::broken_pipe));
        const std::error_code late_write = co_await error_of(s.write_all("x"));
        CHECK((late_write == std::errc::broken_pipe || late_write == std::errc::connection_reset));
    }
    co_await s.close();
}

TEST_CASE("limits: a reset in every state is an error or an end, and frees the descriptor (hazard C7)") {
    const std::size_t before = test::open_descriptors();
    for (const at_reset state :
         {at_reset::idle, at_reset::unread, at_reset::reading, at_reset::gathering, at_reset::borrowing,
          at_reset::writing, at_reset::both, at_reset::half_closed, at_reset::end_seen}) {
        const int which = static_cast<int>(state);
        CAPTURE(which);
        test::run(reset_in, state);
        CHECK(test::open_descriptors() == before);
    }
}

TEST_CASE(
    "limits: a client that never reads holds up its own session only, and can be given up (hazard F5: "
    "CVE-2025-21605)") {
    test::run([]() -> task<> {
        constexpr std::size_t deaf = 20;
        tcp_listener listener = test::listen();
        std::size_t written = 0, given_up = 0;
        const bytes block(64 << 10);
        const auto session = [&](tcp_stream& peer) -> task<> {
            peer.send_buffer_size(32768);
            const std::string first = co_await test::receive_text(peer, 4);
            if (first == "ping") {
                co_await peer.write_all("pong");
                co_return;
            }
            struct count_end {
                std::size_t& n;
                ~count_end() { ++n; }
            } count{given_up};
            for (;;) {  // as much as anyone wants
                std::size_t n = 0;
                struct add {
                    std::size_t& to;
                    std::size_t& what;
                    ~add() { to += what; }
                } book{written, n};
                co_await peer.write_all(block, &n);
            }
        };
        serve_options options;
        options.stop_on_signals = false;
        auto server = spawn([&]() -> task<> { co_await serve(listener, session, options); });
        std::deque<tcp_stream> clients;
        for (std::size_t i = 0; i < deaf; ++i) {
            tcp_stream client = co_await tcp_stream::connect(listener.local());
            client.receive_buffer_size(32768);
            co_await client.write_all("more");
            clients.push_back(std::move(client));
        }
        co_await test::settle();
        co_await test::settle();
        const std::size_t then = written;
        for (int i = 0; i < 10; ++i) {
            tcp_stream polite = co_await tcp_stream::connect(listener.local());
            co_await polite.write_all("ping");
            const bytes answer = co_await test::read_to_end(polite);
            CHECK(test::as_text(answer) == "pong");
        }
        // The writers have stopped: what they could get rid of lies in the kernel's buffers.
        CHECK(written - then <= deaf * block.size());
        CHECK(written < deaf * (8u << 20));
        const std::uint64_t turns = this_loop().stats().turns;
        co_await test::settle();
        CHECK(this_loop().stats().turns - turns < 100);
        CHECK(given_up == 0);
        server.cancel();
        static_cast<void>(co_await attempt(server));
        CHECK(given_up == deaf);
    });
}

TEST_CASE("limits: a descriptor number used again has nothing of its former owner's (hazards C1, C3: redis#4877)") {
    test::run([]() -> task<> {
        int same = 0;
        tcp_listener listener = test::listen();
        for (int round = 0; round < 50; ++round) {
            connection old = co_await test::connect_to(listener);
            const int number = old.client.native_handle();
            bytes into(100);
            auto reader = spawn(error_of<detail::read_awaiter>, old.client.read_some(into));
            co_await immediate();
            co_await old.client.close();
            connection fresh = co_await test::connect_to(listener);
            if (fresh.client.native_handle() == number) ++same;
            co_await fresh.server.write_all("for the new one");
            const std::error_code ended = co_await reader;
            CHECK(ended == std::errc::bad_file_descriptor);
            const std::string data = co_await test::receive_text(fresh.client, 15);
            CHECK(data == "for the new one");
        }
        CHECK(same > 0);
    });
}

TEST_CASE("limits: readers of closed streams in one batch do not get each other's events (hazard C1: re#266)") {
    // The event of a number that was closed and used again within the same batch must go nowhere.
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        tcp_listener elsewhere = test::listen();
        for (int round = 0; round < 20; ++round) {
            constexpr std::size_t count = 10;
            std::deque<connection> all;
            for (std::size_t i = 0; i < count; ++i) {
                connection c = co_await test::connect_to(listener);
                all.push_back(std::move(c));
            }
            // Each reader that hears something closes its neighbour and connects anew.
            std::vector<task_handle<>> readers;
            std::size_t heard = 0, closed = 0;
            const auto reads = [&](std::size_t i) -> task<> {
                const auto data = co_await attempt(all[i].server.receive());
                if (!data) {
                    CHECK(data.error() == std::errc::bad_file_descriptor);
                    ++closed;
                    co_return;
                }
                CHECK(data->text() == std::to_string(i));
                ++heard;
                connection& neighbour = all[(i + 1) % count];
                if (i % 2 == 0 && neighbour.server.is_open()) {
                    co_await neighbour.server.close();
                    tcp_stream again = co_await tcp_stream::connect(elsewhere.local());
                    const auto nothing = co_await attempt(again.read_some({}));
                    CHECK(nothing);
                }
            };
            for (std::size_t i = 0; i < count; ++i) readers.push_back(spawn(reads, i));
            co_await immediate();
            for (std::size_t i = 0; i < count; ++i) co_await all[i].client.write_all(std::to_string(i));
            for (auto& reader : readers) co_await reader;
            CHECK(heard + closed == count);
        }
    });
}

// --- short of memory ---------------------------------------------------------------------------------------

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool counts_addresses = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
constexpr bool counts_addresses = false;
#else
constexpr bool counts_addresses = true;
#endif
#else
constexpr bool counts_addresses = true;
#endif

/// No more address space than `more` bytes beyond what the process has: malloc of more than that fails.
struct address_limit {
    explicit address_limit(rlim_t more) {
        malloc_trim(0);  // what malloc has kept of what ran before would be more
        long pages = 0;
        if (std::FILE* f = std::fopen("/proc/self/statm", "r")) {
            CHECK(std::fscanf(f, "%ld", &pages) == 1);
            std::fclose(f);
        }
        getrlimit(RLIMIT_AS, &before);
        rlimit now = before;
        now.rlim_cur = static_cast<rlim_t>(pages) * 4096 + more;
        setrlimit(RLIMIT_AS, &now);
    }
    ~address_limit() { setrlimit(RLIMIT_AS, &before); }
    rlimit before{};
};

task<> sends_pattern(tcp_stream& to, std::size_t size) {
    const bytes all = test::make_pattern(3, 0, size);
    co_await to.write_all(all);
}

// Its bytes vanished with the bad_alloc, and the next read went on behind the gap as if nothing were missing.
TEST_CASE("limits: a read_exactly that is cancelled without memory for its bytes ends the reading of its stream") {
    if (!counts_addresses) {
        MESSAGE("skipped: a sanitizer needs all addresses");
        return;
    }
    constexpr std::size_t gathered = 72 << 20;  // beyond what malloc keeps
    test::run([]() -> task<> {
        for (const bool enough : {true, false}) {
            CAPTURE(enough);
            connection c = co_await connected();
            bytes into(gathered + 1);
            bool was_cancelled = false;
            auto reader = spawn([&]() -> task<> {
                try {
                    static_cast<void>(co_await c.server.read_exactly(into));
                } catch (const cancelled&) {
                    was_cancelled = true;
                    throw;
                }
            });
            co_await sends_pattern(c.client, gathered);
            for (int i = 0; i < 100 && into[gathered - 1] == std::byte{}; ++i) co_await sleep_for(10ms);
            std::optional<address_limit> limit;
            if (!enough) limit.emplace(gathered / 2);
            reader.cancel();
            static_cast<void>(co_await attempt(reader));
            limit.reset();
            CHECK(was_cancelled);
            co_await c.client.write_all("behind the gap");
            std::byte next[16];
            for (int i = 0; i < 3; ++i) {
                const auto n = co_await attempt(c.server.read_some(next));
                if (enough) {
                    REQUIRE(n);
                    CHECK(test::is_pattern(std::span(next).first(*n), 3, static_cast<std::size_t>(i) * sizeof next));
                } else {
                    REQUIRE_FALSE(n);
                    CHECK(n.error() == std::errc::not_enough_memory);
                    CHECK(c.server.try_read_some(next).error() == std::errc::not_enough_memory);
                    const auto borrowed = co_await attempt(c.server.receive());
                    CHECK(borrowed.error() == std::errc::not_enough_memory);
                }
            }
        }
    });
}

// --- what accept() answers -----------------------------------------------------------------------------------

int accept_fails_with = 0;  // for so many calls of accept4(2) ...
int accept_failures = 0;    // ... this error

}  // namespace

// Stands in for the system call.
extern "C" int accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
    if (accept_failures > 0) {
        --accept_failures;
        errno = accept_fails_with;
        return -1;
    }
    return static_cast<int>(::syscall(SYS_accept4, fd, address, size, flags));
}

namespace {

task<> is_served(endpoint at) {
    tcp_stream client = co_await tcp_stream::connect(at);
    co_await client.write_all("?");
    const std::string answer = co_await test::receive_text(client, 1);
    CHECK(answer == "?");
}

// 1024 transient errors in a row, or one that no list knew, ended the server within milliseconds.
TEST_CASE("limits: no error of accept ends a server, but those of its listener (hazard C5)") {
    // The errors are made up in front of the system call; neither io_uring nor the simulator makes it to wait for a
    // connection. What is done about them is the same code.
    if (test::backend_under_test() != backend_kind::epoll) {
        MESSAGE("skipped: epoll only");
        return;
    }
    const quiet no_warnings;
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        server_control control;
        serve_options unsignalled;
        unsignalled.stop_on_signals = false;
        unsignalled.control = &control;
        auto server = spawn([&]() -> task<> { co_await serve(listener, echo, unsignalled); });
        co_await is_served(listener.local());
        for (const int error : {EIO, ENOSR, EACCES, EOPNOTSUPP, ENOMEM, EPERM, 4095}) {
            CAPTURE(error);
            accept_fails_with = error;
            accept_failures = 3;
            co_await is_served(listener.local());
            CHECK(accept_failures == 0);
        }
        // More of them in a row than it tries at once: then it pauses, and does not spin.
        for (const int error : {ECONNABORTED, EPROTO, ENETDOWN, EIO}) {
            CAPTURE(error);
            const std::uint64_t before = this_loop().stats().turns;
            accept_fails_with = error;
            accept_failures = error == EIO ? 6 : 3000;
            co_await is_served(listener.local());
            CHECK(accept_failures == 0);
            CHECK(this_loop().stats().turns - before < 500);
        }
        CHECK_FALSE(server.done());
        CHECK(listener.exhausted() == 3);  // of ENOMEM alone
        CHECK(control.stats().exhausted == 3);
        for (const int error : {EBADF, EINVAL, ENOTSOCK}) {
            CAPTURE(error);
            tcp_listener bad = test::listen();
            accept_fails_with = error;
            accept_failures = 1;
            const std::error_code told = co_await error_of(bad.accept());
            CHECK(told == std::error_code(error, std::generic_category()));
        }
        server.cancel();
        static_cast<void>(co_await attempt(server));
    });
}

// --- a client that meets itself ----------------------------------------------------------------------------

/// Makes the port that connect() is given the one it wants, in a network of the calling process's own.
bool one_port_for_all(std::uint16_t port) {
    if (::unshare(CLONE_NEWNET) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) return false;
    const int fd = ::socket(AF_INET, SOCK_DGRAM, 0);
    ifreq loopback{};
    std::strcpy(loopback.ifr_name, "lo");
    loopback.ifr_flags = IFF_UP;
    const bool up = ::ioctl(fd, SIOCSIFFLAGS, &loopback) == 0;
    ::close(fd);
    std::FILE* const range = std::fopen("/proc/sys/net/ipv4/ip_local_port_range", "w");
    if (!up || range == nullptr) return false;
    const bool written = std::fprintf(range, "%d %d", port, port) > 0;
    return std::fclose(range) == 0 && written;
}

task<int> connects_to_nobody(std::uint16_t port) {
    for (int i = 0; i < 3; ++i) {
        const auto met = co_await attempt(tcp_stream::connect("127.0.0.1", port));
        if (met) co_return 2;
        if (met.error() != std::errc::connection_refused) co_return 3;
        if (!met.failure().message().starts_with("connect 127.0.0.1:")) co_return 5;
    }
    // It left nothing behind that keeps a server from the port.
    listen_options strict;
    strict.reuse_address = false;
    auto listener = tcp_listener::try_bind("127.0.0.1", port, strict);
    co_return listener ? 0 : 4;
}

// Who tries a local port again and again until its server is up was at last connected to itself, and had the port.
TEST_CASE("limits: a socket that the kernel connects to itself is refused") {
    constexpr std::uint16_t port = 40'123;
    if (test::on_sim()) {  // whose ports never meet
        CHECK(run(connects_to_nobody, port) == 0);
        return;
    }
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(60);
        if (!one_port_for_all(port)) ::_exit(77);
        ::_exit(run(connects_to_nobody, port));
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        MESSAGE("skipped: no network of one's own to be had here");
    } else {
        CHECK(WEXITSTATUS(status) == 0);
    }
}

}  // namespace
