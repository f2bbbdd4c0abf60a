// The contract of a backend (backend.hpp), driven by hand: raw ops, no loop. Written once; each case
// runs on every backend this machine offers, or on the one that RONDO_BACKEND names.
#include <doctest/doctest.h>
#include <rondo/loop/backend.hpp>
#include <rondo/base/detail/pool.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using rondo::backend_kind;
using rondo::backend_options;
using rondo::io_kind;
using rondo::io_op;
using rondo::raw_address;
using rondo::sys_op;
using rondo::time_point;
using sys_call = rondo::sys_op::call;
using sys_option = rondo::sys_op::option;

namespace {

const rondo::op_vtable no_table{[](rondo::op&) noexcept {}, [](rondo::op&) noexcept {},
                                [](const rondo::op&, char*, std::size_t) noexcept {}};

using bytes = std::vector<std::byte>;

/// A recognisable stream: byte i of stream `which`.
std::byte pattern(std::size_t which, std::size_t i) {
    return static_cast<std::byte>((i * 7 + (i >> 8) * 31 + which * 101) & 0xff);
}

bytes make_pattern(std::size_t which, std::size_t from, std::size_t size) {
    bytes made(size);
    for (std::size_t i = 0; i < size; ++i) made[i] = pattern(which, from + i);
    return made;
}

bool is_pattern(std::span<const std::byte> seen, std::size_t which, std::size_t from = 0) {
    for (std::size_t i = 0; i < seen.size(); ++i)
        if (seen[i] != pattern(which, from + i)) return false;
    return true;
}

struct test_op : io_op {
    test_op(io_kind k, int descriptor) : io_op(no_table, k, descriptor) {}
    bool finished = false;
};

test_op over(io_kind k, int fd, std::span<std::byte> area, std::uint8_t f = 0) {
    test_op o(k, fd);
    o.data = area.data();
    o.size = static_cast<std::uint32_t>(area.size());
    o.flags = f;
    return o;
}
test_op receive(int fd, std::span<std::byte> into, std::uint8_t f = 0) {
    return over(io_kind::receive, fd, into, f);
}
test_op send(int fd, std::span<std::byte> from, std::uint8_t f = 0) {
    return over(io_kind::send, fd, from, f);
}
test_op send_vector(int fd, std::span<std::span<const std::byte>> spans, std::uint8_t f = 0) {
    test_op o(io_kind::send_vector, fd);
    o.data = spans.data();
    o.size = static_cast<std::uint32_t>(spans.size());
    o.flags = f;
    return o;
}

/// A backend and what a loop would do with it.
class rig {
 public:
    explicit rig(std::unique_ptr<rondo::backend> of) : io(std::move(of)) {}

    bool real() const { return io->kind() != backend_kind::sim; }

    /// True when it finished at once.
    bool start(test_op& o) {
        o.finished = io->submit(o);
        if (!o.finished) REQUIRE(o.state == rondo::op::armed);
        return o.finished;
    }

    /// One poll phase; how many ops it finished.
    std::size_t turn(time_point until) {
        waited = io->wait(until, done);
        const std::size_t count = done.size();
        for (const auto& [what, result] : done) {
            auto& o = static_cast<test_op&>(*what);
            REQUIRE_FALSE(o.finished);
            REQUIRE(o.state == rondo::op::done);
            o.result = result;
            o.finished = true;
        }
        done.clear();
        return count;
    }

    /// Runs until `o` is finished, and answers its result.
    int finish(test_op& o) {
        const time_point limit = io->now() + 20s;
        while (!o.finished && io->now() < limit) turn(limit);
        REQUIRE_MESSAGE(o.finished, "the op never finished");
        return o.result;
    }
    int run(test_op& o) { return start(o) ? o.result : finish(o); }
    int run(test_op&& o) { return run(o); }

    void run_for(rondo::duration time) {
        const time_point limit = io->now() + time;
        while (io->now() < limit) turn(limit);
    }
    /// Lets happen what happens at once.
    void settle() { run_for(real() ? 2ms : 1ms); }

    int call(sys_call what, int fd, sys_option which = {}, int value = 0) {
        sys_op o{what, fd, which, value};
        const int result = io->control(o);
        return result < 0 ? result : what == sys_call::get_option ? o.value : result;
    }
    std::pair<int, int> pair() {
        sys_op o{sys_call::stream_pair};
        REQUIRE(io->control(o) == 0);
        return {o.fds[0], o.fds[1]};
    }
    int try_receive(int fd, std::span<std::byte> into) {
        sys_op o{sys_call::try_receive, fd};
        o.data = into.data();
        o.size = into.size();
        return io->control(o);
    }
    int try_send(int fd, std::span<std::byte> from) {
        sys_op o{sys_call::try_send, fd};
        o.data = from.data();
        o.size = from.size();
        return io->control(o);
    }
    int close(int fd) { return run(test_op(io_kind::close, fd)); }
    void close(std::pair<int, int> both) {
        close(both.first);
        close(both.second);
    }
    void give_back(test_op& o) { io->give_back(o.data, o.size, o.buffer); }

    /// A listener on a free loopback port.
    std::pair<int, raw_address> listen(int backlog = 128) {
        raw_address at;
        at.kind = raw_address::family::v4;
        at.bytes[0] = 127;
        at.bytes[3] = 1;
        sys_op make{sys_call::tcp_socket, -1, {}, 0, &at};
        const int fd = io->control(make);
        REQUIRE(fd >= 0);
        sys_op bind{sys_call::bind, fd, {}, 0, &at};
        REQUIRE(io->control(bind) == 0);
        REQUIRE(call(sys_call::listen, fd, {}, backlog) == 0);
        sys_op ask{sys_call::local_address, fd, {}, 0, &at};
        REQUIRE(io->control(ask) == 0);
        REQUIRE(at.port != 0);
        return {fd, at};
    }
    int tcp_socket(const raw_address& to) {
        raw_address copy = to;
        sys_op make{sys_call::tcp_socket, -1, {}, 0, &copy};
        return io->control(make);
    }
    int connect(raw_address to) {
        const int fd = tcp_socket(to);
        REQUIRE(fd >= 0);
        test_op o(io_kind::connect, fd);
        o.data = &to;
        REQUIRE(run(o) == 0);
        return fd;
    }
    /// Two ends of a TCP connection: who connected, who accepted.
    std::pair<int, int> tcp() {
        auto [listener, at] = listen();
        const int client = connect(at);
        const int server = run(test_op(io_kind::accept, listener));
        REQUIRE(server >= 0);
        close(listener);
        return {client, server};
    }

    std::unique_ptr<rondo::backend> io;
    rondo::completions done;
    bool waited = true;
};

/// A limit on descriptors, as long as it lives.
class descriptor_limit {
 public:
    explicit descriptor_limit(rlim_t soft) {
        getrlimit(RLIMIT_NOFILE, &before_);
        rlimit now = before_;
        now.rlim_cur = std::min(soft, before_.rlim_max);
        setrlimit(RLIMIT_NOFILE, &now);
        value = now.rlim_cur;
    }
    descriptor_limit(const descriptor_limit&) = delete;
    ~descriptor_limit() { setrlimit(RLIMIT_NOFILE, &before_); }

    rlim_t value;

 private:
    rlimit before_;
};

/// All the descriptors there are.
struct hoard {
    explicit hoard(int of) {
        for (int fd; (fd = dup(of)) >= 0;) kept.push_back(fd);
    }
    hoard(const hoard&) = delete;
    ~hoard() {
        for (const int fd : kept) close(fd);
    }
    std::vector<int> kept;
};

bool wanted(backend_kind kind) {
    const char* named = std::getenv("RONDO_BACKEND");
    if (named == nullptr || std::string_view(named) == "auto" || *named == '\0') return true;
    const std::string_view text = named;
    return text.substr(0, text.find(':')) == rondo::name_of(kind);
}

template <class Body>
void on(std::initializer_list<backend_kind> kinds, const backend_options& options, Body body) {
    for (const backend_kind kind : kinds) {
        if (!wanted(kind)) continue;
        std::string why;
        auto made = rondo::make_backend(kind, options, why);
        if (made == nullptr) {
            CHECK_FALSE(why.empty());
            continue;
        }
        const std::string name = rondo::name_of(kind);
        CAPTURE(name);
        rig r(std::move(made));
        body(r);
        CHECK(r.io->armed() == 0);
    }
}
template <class Body>
void on_each(Body body, const backend_options& options = {}) {
    on({backend_kind::sim, backend_kind::epoll, backend_kind::uring}, options, body);
}
/// For what only a kernel has: descriptors of others, signals, limits.
template <class Body>
void on_real(Body body, const backend_options& options = {}) {
    on({backend_kind::epoll, backend_kind::uring}, options, body);
}

}  // namespace

TEST_CASE("backend: has a name, a description and nothing armed") {
    CHECK(std::string_view(rondo::name_of(backend_kind::uring)) == "uring");
    CHECK(std::string_view(rondo::name_of(backend_kind::automatic)) == "auto");
    on_each([](rig& r) {
        CHECK_FALSE(r.io->describe().empty());
        CHECK(r.io->armed() == 0);
    });
    std::string why;
    CHECK(rondo::make_backend(backend_kind::automatic, {}, why) == nullptr);
    CHECK_FALSE(why.empty());
}

TEST_CASE("backend: a wait ends at its time, and not before") {
    on_each([](rig& r) {
        for (const rondo::duration time : {0ns, 1ns, 100ns, 20'000ns, 1'500'000ns, 10'000'000ns}) {
            const time_point until = r.io->now() + time;
            CHECK(r.turn(until) == 0);
            CHECK(r.waited);
            CHECK(r.io->now() >= until);
        }
        CHECK(r.turn(time_point::min()) == 0);
        CHECK(r.turn(r.io->now() - 1h) == 0);
    });
}

TEST_CASE("backend: random numbers differ") {
    on_each([](rig& r) {
        const auto first = r.io->random(), second = r.io->random(), third = r.io->random();
        CHECK((first != second && second != third));
        CHECK(r.io->wall_now() > 900'000'000'000'000'000);
    });
}

TEST_CASE("backend: bytes go through a connection and come back") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(1, 0, 100), in(200);
        CHECK(r.run(send(client, out)) == 100);
        CHECK(r.run(receive(server, in)) == 100);
        CHECK(is_pattern(std::span(in).first(100), 1));
        CHECK(r.run(send(server, std::span(in).first(3))) == 3);
        CHECK(r.run(receive(client, in)) == 3);

        // Waiting first, sending later.
        auto waits = receive(server, in);
        CHECK_FALSE(r.start(waits));
        CHECK(r.io->armed() == 1);
        CHECK(r.turn(r.io->now()) == 0);
        CHECK(r.run(send(client, std::span(out).first(5))) == 5);
        CHECK(r.finish(waits) == 5);
        CHECK(r.io->armed() == 0);

        CHECK(r.close(client) == 0);
        CHECK(r.run(receive(server, in)) == 0);
        CHECK(r.run(receive(server, in)) == 0);
        CHECK(r.close(server) == 0);
    });
}

TEST_CASE("backend: both ends know their addresses") {
    on_each([](rig& r) {
        auto [listener, at] = r.listen();
        const int client = r.connect(at);
        const int server = r.run(test_op(io_kind::accept, listener));
        raw_address peer, mine;
        sys_op ask_peer{sys_call::peer_address, client, {}, 0, &peer};
        CHECK(r.io->control(ask_peer) == 0);
        CHECK(peer.port == at.port);
        CHECK(peer.kind == raw_address::family::v4);
        CHECK(std::memcmp(peer.bytes, at.bytes, 4) == 0);
        sys_op ask_mine{sys_call::local_address, client, {}, 0, &mine};
        CHECK(r.io->control(ask_mine) == 0);
        sys_op ask_other{sys_call::peer_address, server, {}, 0, &peer};
        CHECK(r.io->control(ask_other) == 0);
        CHECK(peer.port == mine.port);
        CHECK(r.call(sys_call::set_option, client, sys_option::no_delay, 1) == 0);
        CHECK(r.call(sys_call::get_option, client, sys_option::no_delay) == 1);
        CHECK(r.call(sys_call::get_option, client, sys_option::error) == 0);
        for (const int fd : {client, server, listener}) CHECK(r.close(fd) == 0);
    });
}

TEST_CASE("backend: IPv6 works like IPv4") {
    on_each([](rig& r) {
        raw_address at;
        at.kind = raw_address::family::v6;
        at.bytes[15] = 1;
        const int listener = r.tcp_socket(at);
        if (listener == -EAFNOSUPPORT) return;
        CHECK(r.call(sys_call::set_option, listener, sys_option::v6_only, 1) == 0);
        sys_op bind{sys_call::bind, listener, {}, 0, &at};
        if (r.io->control(bind) == -EADDRNOTAVAIL) return void(r.close(listener));
        CHECK(r.call(sys_call::listen, listener, {}, 8) == 0);
        sys_op ask{sys_call::local_address, listener, {}, 0, &at};
        CHECK(r.io->control(ask) == 0);
        const int client = r.connect(at);
        const int server = r.run(test_op(io_kind::accept, listener));
        CHECK(server >= 0);
        raw_address peer;
        sys_op ask_peer{sys_call::peer_address, server, {}, 0, &peer};
        CHECK(r.io->control(ask_peer) == 0);
        CHECK(peer.kind == raw_address::family::v6);
        CHECK(peer.bytes[15] == 1);
        for (const int fd : {client, server, listener}) r.close(fd);
    });
}

TEST_CASE("backend: nothing to move is done at once") {
    on_each([](rig& r) {
        const auto ends = r.pair();
        test_op read(io_kind::receive, ends.first), write(io_kind::send, ends.first),
            vector(io_kind::send_vector, ends.first);
        for (test_op* each : {&read, &write, &vector}) {
            CHECK(r.start(*each));
            CHECK(each->result == 0);
        }
        std::span<const std::byte> empty[3];
        CHECK(r.run(send_vector(ends.first, empty, io_op::all)) == 0);
        CHECK(r.run(send_vector(ends.first, empty)) == 0);
        r.close(ends);
    });
}

TEST_CASE("backend: a descriptor has one reader and one writer at a time") {
    on_each([](rig& r) {
        const auto ends = r.pair();
        bytes a(10), b(10);
        auto first = receive(ends.first, a), second = receive(ends.first, b);
        test_op third(io_kind::borrow, ends.first);
        CHECK_FALSE(r.start(first));
        CHECK(r.run(second) == -EBUSY);
        CHECK(r.run(third) == -EBUSY);
        CHECK(r.try_receive(ends.first, b) == -EAGAIN);
        CHECK(r.run(send(ends.first, b)) == 10);  // the other direction is free
        CHECK(r.run(send(ends.second, b)) == 10);
        CHECK(r.finish(first) == 10);
        r.close(ends);
    });
}

TEST_CASE("backend: a descriptor that is none answers EBADF") {
    on_each([](rig& r) {
        bytes area(10);
        for (const int fd : {-1, 5000}) {
            CHECK(r.run(receive(fd, area)) == -EBADF);
            CHECK(r.run(send(fd, area)) == -EBADF);
            CHECK(r.run(test_op(io_kind::borrow, fd)) == -EBADF);
            CHECK(r.run(test_op(io_kind::accept, fd)) == -EBADF);
            CHECK(r.close(fd) == -EBADF);
        }
    });
}

// Receiving and sending all

TEST_CASE("backend: receive-all gathers pieces, and stops at the end of the stream") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(2, 0, 100), in(100);
        auto whole = receive(server, in, io_op::all);
        CHECK_FALSE(r.start(whole));
        for (std::size_t at = 0; at < 100; at += 10) {
            CHECK(r.run(send(client, std::span(out).subspan(at, 10))) == 10);
            if (at < 90) r.settle();
            if (at < 90) CHECK_FALSE(whole.finished);
        }
        CHECK(r.finish(whole) == 100);
        CHECK(whole.moved == 100);
        CHECK(is_pattern(in, 2));

        auto cut = receive(server, in, io_op::all);
        CHECK_FALSE(r.start(cut));
        CHECK(r.run(send(client, std::span(out).first(30))) == 30);
        CHECK(r.call(sys_call::shutdown_write, client) == 0);
        CHECK(r.finish(cut) == 30);
        CHECK(r.run(receive(server, in, io_op::all)) == 0);
        r.close({client, server});
    });
}

TEST_CASE("backend: a receive-all cancelled half-way tells how far it came") {
    on_each([](rig& r) {
        for (const bool borrow_first : {false, true}) {
            auto [client, server] = r.tcp();
            if (borrow_first) {
                test_op lent(io_kind::borrow, server);
                CHECK_FALSE(r.start(lent));
                r.io->cancel(lent);
                CHECK(r.finish(lent) == -ECANCELED);
            }
            bytes out = make_pattern(3, 0, 100), in(100);
            auto whole = receive(server, in, io_op::all);
            CHECK_FALSE(r.start(whole));
            r.settle();
            CHECK(r.run(send(client, std::span(out).first(40))) == 40);
            r.settle();
            r.io->cancel(whole);
            CHECK(whole.state == rondo::op::cancelling);
            r.io->cancel(whole);  // once more: nothing
            CHECK(r.finish(whole) == -ECANCELED);
            CHECK(whole.moved == 40);
            CHECK(is_pattern(std::span(in).first(40), 3));
            r.io->cancel(whole);  // finished: nothing
            CHECK(r.run(send(client, std::span(out).subspan(40))) == 60);
            CHECK(r.run(receive(server, std::span(in).subspan(40), io_op::all)) == 60);
            CHECK(is_pattern(in, 3));
            r.close({client, server});
        }
    });
}

TEST_CASE("backend: a send-all waits for room; cancelled, it tells how much went out") {
    on_each([](rig& r) {
        for (const bool tcp : {true, false}) {
            auto [client, server] = tcp ? r.tcp() : r.pair();
            bytes out = make_pattern(4, 0, 8 << 20), in(8 << 20);
            auto whole = send(client, out, io_op::all);
            CHECK_FALSE(r.start(whole));
            r.settle();
            CHECK_FALSE(whole.finished);
            CHECK(r.try_send(client, in) == -EAGAIN);  // would end up in the middle
            r.io->cancel(whole);
            CHECK(r.finish(whole) == -ECANCELED);
            CHECK(whole.moved > 0);
            CHECK(whole.moved < out.size());
            CHECK(r.call(sys_call::shutdown_write, client) == 0);
            CHECK(r.run(receive(server, in, io_op::all)) == static_cast<int>(whole.moved));
            CHECK(is_pattern(std::span(in).first(whole.moved), 4));
            r.close({client, server});
        }
    });
}

TEST_CASE("backend: a send-all and a slow reader meet in the end") {
    on_each([](rig& r) {
        for (const bool tcp : {true, false}) {
            auto [client, server] = tcp ? r.tcp() : r.pair();
            bytes out = make_pattern(5, 0, 3'000'001), in(3'000'001);
            auto whole = send(client, out, io_op::all);
            r.start(whole);
            std::size_t got = 0;
            while (got < in.size()) {
                const std::size_t piece = std::min<std::size_t>(in.size() - got, 70'001);
                const int n = r.run(receive(server, std::span(in).subspan(got, piece)));
                REQUIRE(n > 0);
                got += static_cast<std::size_t>(n);
            }
            CHECK(r.finish(whole) == 3'000'001);
            CHECK(is_pattern(in, 5));
            r.close({client, server});
        }
    });
}

TEST_CASE("backend: a vector of 1000 spans, some empty, arrives in order") {
    on_each([](rig& r) {
        for (const std::size_t longest : {1, 37, 20'000}) {
            auto [client, server] = r.tcp();
            bytes out = make_pattern(6, 0, 1000 * longest), in(1000 * longest);
            std::vector<std::span<const std::byte>> spans;
            std::size_t total = 0;
            for (std::size_t i = 0; i < 1000; ++i) {
                const std::size_t size = i % 5 == 0 ? 0 : (i * 7919) % longest + 1;
                spans.push_back(std::span(out).subspan(total, size));
                total += size;
            }
            auto whole = send_vector(client, spans, io_op::all);
            r.start(whole);
            auto all = receive(server, std::span(in).first(total), io_op::all);
            CHECK(r.run(all) == static_cast<int>(total));
            CHECK(r.finish(whole) == static_cast<int>(total));
            CHECK(is_pattern(std::span(in).first(total), 6));

            // Without `all`, it may stop anywhere; what it says has arrived.
            const int some = r.run(send_vector(client, spans));
            CHECK(some > 0);
            CHECK(some <= static_cast<int>(total));
            auto rest = receive(server, std::span(in).first(static_cast<std::size_t>(some)),
                                io_op::all);
            CHECK(r.run(rest) == some);
            CHECK(is_pattern(std::span(in).first(static_cast<std::size_t>(some)), 6));
            r.close({client, server});
        }
    });
}

TEST_CASE("backend: a vector cancelled half-way tells how much went out") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(7, 0, 8 << 20), in(8 << 20);
        std::vector<std::span<const std::byte>> spans;
        for (std::size_t at = 0; at < out.size(); at += 4096)
            spans.push_back(std::span(out).subspan(at, 4096));
        auto whole = send_vector(client, spans, io_op::all);
        CHECK_FALSE(r.start(whole));
        r.settle();
        r.io->cancel(whole);
        CHECK(r.finish(whole) == -ECANCELED);
        CHECK(r.call(sys_call::shutdown_write, client) == 0);
        CHECK(r.run(receive(server, in, io_op::all)) == static_cast<int>(whole.moved));
        CHECK(is_pattern(std::span(in).first(whole.moved), 7));
        r.close({client, server});
    });
}

// Borrowing

TEST_CASE("backend: a borrowed buffer holds what came, and the end is empty") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(8, 0, 1000);
        for (int round = 0; round < 300; ++round) {  // more than there are buffers
            test_op lent(io_kind::borrow, server);
            if (round % 2 == 0) r.start(lent);
            CHECK(r.run(send(client, out)) == 1000);
            if (round % 2 == 1) r.start(lent);
            REQUIRE(r.finish(lent) == 1000);
            REQUIRE(lent.size == 1000);
            CHECK(is_pattern({static_cast<std::byte*>(lent.data), lent.size}, 8));
            r.give_back(lent);
        }
        CHECK(r.call(sys_call::shutdown_write, client) == 0);
        test_op end(io_kind::borrow, server);
        CHECK(r.run(end) == 0);
        CHECK(end.data == nullptr);
        CHECK(end.size == 0);
        CHECK(r.run(send(server, out)) == 1000);  // half-closed: our direction still works
        CHECK(r.run(receive(client, out)) == 1000);
        r.close({client, server});
    });
}

TEST_CASE("backend: a cancelled borrow loses nothing; receive and borrow share the stream") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(9, 0, 50'000), in(50'000);
        std::size_t got = 0, sent = 0;
        for (int round = 0; sent < out.size(); ++round) {
            test_op lent(io_kind::borrow, server);
            if (r.start(lent)) {  // something was left
                REQUIRE(lent.result > 0);
            } else {
                r.io->cancel(lent);
                const auto piece = std::min<std::size_t>(997, out.size() - sent);
                REQUIRE(r.run(send(client, std::span(out).subspan(sent, piece))) ==
                        static_cast<int>(piece));
                sent += piece;
                if (r.finish(lent) == -ECANCELED) lent.size = 0;
            }
            if (lent.size > 0) {
                std::memcpy(in.data() + got, lent.data, lent.size);
                got += lent.size;
                r.give_back(lent);
            }
            if (got == sent || round % 3 != 0) continue;
            const int n = r.run(receive(server, std::span(in).subspan(got, 100)));
            REQUIRE(n > 0);
            got += static_cast<std::size_t>(n);
        }
        auto rest = receive(server, std::span(in).subspan(got), io_op::all);
        CHECK(r.run(rest) == static_cast<int>(out.size() - got));
        CHECK(is_pattern(in, 9));
        r.close({client, server});
    });
}

TEST_CASE("backend: cancelling borrows for ever uses no buffers up") {
    backend_options few;
    few.receive_buffer_count = 4;
    on_each(
        [](rig& r) {
            auto [client, server] = r.tcp();
            bytes out = make_pattern(10, 0, 64), in(64);
            for (int round = 0; round < 10'000; ++round) {
                test_op lent(io_kind::borrow, server);
                if (!r.start(lent)) {
                    if (round % 4 == 0) REQUIRE(r.run(send(client, out)) == 64);
                    if (round % 3 == 0) r.turn(time_point::min());
                    r.io->cancel(lent);
                    r.finish(lent);
                }
                if (lent.result == -ECANCELED) continue;
                REQUIRE(lent.result > 0);
                r.give_back(lent);
            }
            r.close({client, server});
        },
        few);
}

TEST_CASE("backend: whoever stops reading stops the sender, and then gets every byte") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(11, 0, 24 << 20);
        auto whole = send(client, out, io_op::all);
        test_op first(io_kind::borrow, server);
        r.start(first);
        r.start(whole);
        REQUIRE(r.finish(first) > 0);
        r.run_for(r.real() ? 50ms : 5ms);
        CHECK_FALSE(whole.finished);

        std::size_t got = 0;
        bool good = true;
        const auto take = [&](test_op& lent) {
            const std::span area(static_cast<std::byte*>(lent.data), lent.size);
            good = good && is_pattern(area, 11, got);
            got += area.size();
            r.give_back(lent);
        };
        take(first);
        while (got < out.size()) {
            test_op lent(io_kind::borrow, server);
            REQUIRE(r.run(lent) > 0);
            take(lent);
        }
        CHECK(good);
        CHECK(r.finish(whole) == static_cast<int>(out.size()));
        r.close({client, server});
    });
}

TEST_CASE("backend: nobody waits for another's buffer") {
    backend_options few;
    few.receive_buffer_count = 2;
    few.receive_buffer_size = 1024;
    on_each(
        [](rig& r) {
            constexpr std::size_t count = 100;
            std::vector<std::pair<int, int>> ends;
            for (std::size_t i = 0; i < count; ++i) ends.push_back(r.pair());
            for (int round = 0; round < 20; ++round) {
                std::deque<test_op> lent;
                for (std::size_t i = 0; i < count; ++i)
                    r.start(lent.emplace_back(io_kind::borrow, ends[i].second));
                std::vector<bytes> out;
                for (std::size_t i = 0; i < count; ++i) {
                    out.push_back(make_pattern(i, 0, 1 + i));
                    REQUIRE(r.run(send(ends[i].first, out.back(), io_op::all)) ==
                            static_cast<int>(1 + i));
                }
                // All hundred are lent at the same time.
                for (std::size_t i = 0; i < count; ++i) {
                    REQUIRE(r.finish(lent[i]) == static_cast<int>(1 + i));
                    CHECK(is_pattern({static_cast<std::byte*>(lent[i].data), lent[i].size}, i));
                }
                for (auto& each : lent) r.give_back(each);
            }
            // And now a burst larger than the buffers, on every connection.
            bytes out = make_pattern(1, 0, 20'000), in(20'000);
            std::deque<test_op> whole;
            for (std::size_t i = 0; i < count; ++i)
                r.start(whole.emplace_back(send(ends[i].first, out, io_op::all)));
            for (std::size_t i = 0; i < count; ++i) {
                std::size_t got = 0;
                while (got < out.size()) {
                    test_op lent(io_kind::borrow, ends[i].second);
                    REQUIRE(r.run(lent) > 0);
                    CHECK(is_pattern({static_cast<std::byte*>(lent.data), lent.size}, 1, got));
                    got += lent.size;
                    r.give_back(lent);
                }
                REQUIRE(r.finish(whole[i]) == 20'000);
            }
            for (const auto& each : ends) r.close(each);
        },
        few);
}

// Cancelling

TEST_CASE("backend: a cancelled receive took everything it says, or nothing") {
    on_each([](rig& r) {
        for (const bool tcp : {true, false}) {
            auto [client, server] = tcp ? r.tcp() : r.pair();
            std::uint64_t seed = 42;
            const auto roll = [&](std::uint64_t n) {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                return seed % n;
            };
            std::size_t sent = 0, got = 0;
            bool good = true;
            bytes area(64);
            for (int round = 0; round < 5000; ++round) {
                const bool lend = roll(3) == 0;
                const bool all = !lend && roll(2) == 0;
                auto read = receive(server, area, all ? io_op::all : 0);
                test_op lent(io_kind::borrow, server);
                test_op& reading = lend ? lent : read;
                const std::uint64_t order = roll(6);
                bytes out = make_pattern(12, sent, roll(40) + 1);
                const auto push = [&] {
                    const int n = r.try_send(client, out);
                    if (n > 0) sent += static_cast<std::size_t>(n);
                };
                if (order < 2) push();
                if (!r.start(reading)) {
                    if (order == 2) push();
                    if (roll(2) == 0) r.turn(time_point::min());
                    if (order == 3) push();
                    r.io->cancel(reading);
                    if (order == 4) push();
                    r.finish(reading);
                }
                REQUIRE((reading.result > 0 || reading.result == -ECANCELED));
                std::span<const std::byte> seen(area.data(), read.moved);
                if (!all && !lend)
                    seen = {area.data(), static_cast<std::size_t>(std::max(read.result, 0))};
                if (lend)
                    seen = {static_cast<std::byte*>(lent.data),
                            lent.result > 0 ? std::size_t{lent.size} : 0};
                good = good && is_pattern(seen, 12, got);
                got += seen.size();
                if (lend && lent.result > 0) r.give_back(lent);
            }
            CHECK(good);
            r.settle();
            CHECK(r.call(sys_call::shutdown_write, client) == 0);
            bytes rest(1 << 20);
            const int left = r.run(receive(server, rest, io_op::all));
            CHECK(left >= 0);
            CHECK(is_pattern(std::span(rest).first(static_cast<std::size_t>(left)), 12, got));
            CHECK(sent == got + static_cast<std::size_t>(left));
            r.close({client, server});
        }
    });
}

TEST_CASE("backend: a cancelled send sent what it says, and not more") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        std::size_t sent = 0, got = 0;
        bytes area(4 << 20);
        bool good = true;
        for (int round = 0; round < 60; ++round) {
            bytes out = make_pattern(13, sent, 300'000);
            auto write = send(client, out, round % 2 == 0 ? io_op::all : 0);
            if (!r.start(write)) {
                if (round % 3 == 0) r.turn(time_point::min());
                r.io->cancel(write);
                r.finish(write);
            }
            REQUIRE((write.result > 0 || write.result == -ECANCELED));
            sent += write.result > 0 ? static_cast<std::size_t>(write.result) : write.moved;
            if (round % 4 != 3) continue;
            while (got < sent) {
                const int n = r.run(receive(server, area));
                REQUIRE(n > 0);
                good = good && is_pattern(std::span(area).first(static_cast<std::size_t>(n)), 13, got);
                got += static_cast<std::size_t>(n);
            }
        }
        CHECK(good);
        CHECK(got == sent);
        CHECK(r.try_receive(server, area) == -EAGAIN);
        r.close({client, server});
    });
}

TEST_CASE("backend: a cancelled accept leaves the connection to the next one") {
    on_each([](rig& r) {
        auto [listener, at] = r.listen();
        std::vector<int> clients;
        std::size_t accepted = 0;
        for (int round = 0; round < 100; ++round) {
            test_op waits(io_kind::accept, listener);
            const bool at_once = r.start(waits);
            clients.push_back(r.connect(at));
            if (!at_once) {
                r.io->cancel(waits);
                r.finish(waits);
            }
            if (waits.result >= 0) {
                ++accepted;
                r.close(waits.result);
            } else {
                CHECK(waits.result == -ECANCELED);
            }
        }
        while (accepted < clients.size()) {
            const int fd = r.run(test_op(io_kind::accept, listener));
            REQUIRE(fd >= 0);
            ++accepted;
            r.close(fd);
        }
        for (const int fd : clients) r.close(fd);
        CHECK(r.close(listener) == 0);
    });
}

TEST_CASE("backend: a burst of connections is accepted, each once") {
    on_each([](rig& r) {
        auto [listener, at] = r.listen(512);
        std::vector<int> clients, servers;
        test_op first(io_kind::accept, listener);
        r.start(first);
        for (int i = 0; i < 200; ++i) clients.push_back(r.connect(at));
        servers.push_back(r.finish(first));
        while (servers.size() < clients.size())
            servers.push_back(r.run(test_op(io_kind::accept, listener)));
        std::sort(servers.begin(), servers.end());
        CHECK(std::unique(servers.begin(), servers.end()) == servers.end());
        CHECK(servers.front() >= 0);
        test_op waits(io_kind::accept, listener);
        CHECK_FALSE(r.start(waits));
        CHECK(r.close(listener) == 0);
        CHECK(r.finish(waits) == -EBADF);
        for (const int fd : servers) r.close(fd);
        for (const int fd : clients) r.close(fd);
    });
}

TEST_CASE("backend: no more is accepted than was asked for, but for one whose accept was cancelled") {
    on_real([](rig& r) {  // a simulated connection nobody accepted has a descriptor, too
        auto [listener, at] = r.listen();
        const auto open = [fd = listener] {  // how many: the numbers below the next are taken
            const int next = ::dup(fd);
            ::close(next);
            return next;
        };
        std::vector<int> clients, servers;
        for (int i = 0; i < 50; ++i) clients.push_back(r.connect(at));
        const int before = open();
        for (int i = 0; i < 3; ++i) servers.push_back(r.run(test_op(io_kind::accept, listener)));
        r.settle();
        CHECK(open() == before + 3);
        for (int i = 0; i < 47; ++i) servers.push_back(r.run(test_op(io_kind::accept, listener)));
        test_op waits(io_kind::accept, listener);
        CHECK_FALSE(r.start(waits));
        r.settle();
        r.io->cancel(waits);
        CHECK(r.finish(waits) == -ECANCELED);
        for (int i = 0; i < 10; ++i) clients.push_back(r.connect(at));
        r.settle();
        CHECK(open() <= before + 50 + 10 + 1);
        for (int i = 0; i < 10; ++i) servers.push_back(r.run(test_op(io_kind::accept, listener)));
        CHECK(*std::min_element(servers.begin(), servers.end()) >= 0);
        r.close(listener);
        for (const int fd : servers) r.close(fd);
        for (const int fd : clients) r.close(fd);
    });
}

TEST_CASE("backend: connections nobody accepted end with their listener") {
    on_each([](rig& r) {
        auto [listener, at] = r.listen();
        test_op waits(io_kind::accept, listener);
        CHECK_FALSE(r.start(waits));
        r.io->cancel(waits);
        CHECK(r.finish(waits) == -ECANCELED);
        std::vector<int> clients;
        for (int i = 0; i < 10; ++i) clients.push_back(r.connect(at));
        r.settle();
        CHECK(r.close(listener) == 0);
        bytes area(10);
        for (const int fd : clients) {
            const int ended = r.run(receive(fd, area));
            CHECK((ended == 0 || ended == -ECONNRESET));
            r.close(fd);
        }
    });
}

TEST_CASE("backend: connecting fails, or is cancelled, and the socket is closed") {
    on_each([](rig& r) {
        auto [listener, at] = r.listen();
        r.close(listener);
        const int fd = r.tcp_socket(at);
        test_op refused(io_kind::connect, fd);
        refused.data = &at;
        CHECK(r.run(refused) == -ECONNREFUSED);
        CHECK(r.close(fd) == 0);

        auto [other, there] = r.listen();
        const int hasty = r.tcp_socket(there);
        test_op cancelled(io_kind::connect, hasty);
        cancelled.data = &there;
        if (!r.start(cancelled)) {
            r.io->cancel(cancelled);
            r.finish(cancelled);
        }
        CHECK((cancelled.result == -ECANCELED || cancelled.result == 0));
        CHECK(r.close(hasty) == 0);
        r.close(other);
    });
}

TEST_CASE("backend: what the socket cannot do is an error, not a wait") {
    on_each([](rig& r) {
        const auto ends = r.pair();
        CHECK(r.run(test_op(io_kind::accept, ends.first)) < 0);
        raw_address nowhere;
        nowhere.kind = raw_address::family::v4;
        const int lone = r.tcp_socket(nowhere);
        bytes area(10);
        CHECK(r.run(receive(lone, area)) == -ENOTCONN);
        CHECK(r.run(receive(lone, area, io_op::all)) == -ENOTCONN);
        CHECK(r.run(test_op(io_kind::borrow, lone)) == -ENOTCONN);
        CHECK(r.run(send(lone, area, io_op::all)) == -EPIPE);
        CHECK(r.close(lone) == 0);
        r.close(ends);
    });
}

TEST_CASE("backend: without memory, an op fails and nothing else happens") {
    on_each([](rig& r) {
        auto [listener, at] = r.listen();
        auto [client, server] = r.tcp();
        bytes out = make_pattern(22, 0, 100), in(100);
        std::vector<std::span<const std::byte>> spans(10, std::span(out).first(10));
        for (int i = 0; i < 10; ++i) {
            // Who needs no memory succeeds.
            rondo::detail::fail_allocation(1);
            const int sent = r.run(send_vector(client, spans, io_op::all));
            rondo::detail::fail_allocation(0);
            CHECK((sent == -ENOMEM || sent == 100));
            if (sent == 100) CHECK(r.run(receive(server, in, io_op::all)) == 100);
            const int fd = r.tcp_socket(at);
            test_op connecting(io_kind::connect, fd);
            connecting.data = &at;
            rondo::detail::fail_allocation(1);
            const int connected = r.run(connecting);
            rondo::detail::fail_allocation(0);
            CHECK((connected == -ENOMEM || connected == 0));
            r.close(fd);
        }
        CHECK(r.run(send_vector(client, spans, io_op::all)) == 100);
        CHECK(r.run(receive(server, in, io_op::all)) == 100);
        for (const int fd : {client, server, listener}) r.close(fd);
    });
    CHECK(rondo::detail::frames_live() == 0);
}

// Closing

TEST_CASE("backend: closing ends the reader and the writer, and the peer sees the end") {
    on_each([](rig& r) {
        enum { plain, whole, lent, polled };
        for (const int how : {plain, whole, lent, polled}) {
            auto [client, server] = r.tcp();
            bytes area(100), out(8 << 20);
            test_op lending(io_kind::borrow, server), polling(io_kind::poll_in, server);
            auto reading = receive(server, area, how == whole ? io_op::all : 0);
            test_op& reader = how == lent ? lending : how == polled ? polling : reading;
            auto writer = send(server, out, io_op::all);
            CHECK_FALSE(r.start(reader));
            CHECK_FALSE(r.start(writer));
            r.settle();
            test_op closing(io_kind::close, server);
            CHECK_FALSE(r.start(closing));
            CHECK(r.run(receive(server, area)) == -EBADF);
            const time_point before = r.io->now();
            CHECK(r.finish(closing) == 0);
            CHECK(r.io->now() - before < 1s);
            CHECK(reader.finished);
            CHECK(reader.result == -EBADF);
            CHECK(writer.finished);
            CHECK(writer.result == -EBADF);
            CHECK(writer.moved > 0);
            int n = 1;
            while (n > 0) n = r.run(receive(client, out));
            CHECK((n == 0 || n == -ECONNRESET));
            CHECK(r.close(client) == 0);
        }
    });
}

TEST_CASE("backend: an op cancelled before the close stays cancelled") {
    on_each([](rig& r) {
        const auto ends = r.pair();
        bytes area(10);
        auto reader = receive(ends.first, area);
        CHECK_FALSE(r.start(reader));
        r.io->cancel(reader);
        test_op closing(io_kind::close, ends.first);
        CHECK_FALSE(r.start(closing));
        r.io->cancel(closing);  // a close cannot be cancelled
        CHECK(r.finish(closing) == 0);
        CHECK(reader.finished);
        CHECK(reader.result == -ECANCELED);
        CHECK(r.close(ends.second) == 0);
    });
}

TEST_CASE("backend: a number used again has no past") {
    on_each([](rig& r) {
        bytes out = make_pattern(14, 0, 64), area(64);
        for (int round = 0; round < 500; ++round) {
            const auto old = r.pair();
            auto reader = receive(old.first, area);
            test_op lent(io_kind::borrow, old.second);
            CHECK_FALSE(r.start(reader));
            CHECK_FALSE(r.start(lent));
            if (round % 2 == 0) {
                CHECK(r.run(send(old.first, out)) == 64);
                if (round % 4 == 0) r.turn(time_point::min());
            }
            r.close(old);
            REQUIRE(reader.finished);
            REQUIRE(lent.finished);
            if (lent.result > 0) r.give_back(lent);

            const auto fresh = r.pair();  // the same two numbers
            auto waits = receive(fresh.first, area);
            CHECK_FALSE(r.start(waits));
            r.turn(time_point::min());
            REQUIRE_FALSE(waits.finished);
            CHECK(r.run(send(fresh.second, std::span(out).first(9))) == 9);
            REQUIRE(r.finish(waits) == 9);
            r.close(fresh);
        }
    });
}

// The other side

TEST_CASE("backend: a half-closed peer still gets everything, and its data is read first") {
    on_each([](rig& r) {
        for (const bool lend : {false, true}) {
            auto [client, server] = r.tcp();
            bytes out = make_pattern(15, 0, 30'000), in(1 << 20), back = make_pattern(16, 0, 1 << 20);
            CHECK(r.run(send(client, out, io_op::all)) == 30'000);
            CHECK(r.call(sys_call::shutdown_write, client) == 0);
            r.settle();
            auto answer = send(server, back, io_op::all);
            r.start(answer);
            std::size_t got = 0;
            for (;;) {
                if (lend) {
                    test_op piece(io_kind::borrow, server);
                    if (r.run(piece) <= 0) break;
                    CHECK(is_pattern({static_cast<std::byte*>(piece.data), piece.size}, 15, got));
                    got += piece.size;
                    r.give_back(piece);
                } else {
                    const int n = r.run(receive(server, std::span(in).first(7000)));
                    if (n <= 0) break;
                    CHECK(is_pattern(std::span(in).first(static_cast<std::size_t>(n)), 15, got));
                    got += static_cast<std::size_t>(n);
                }
            }
            CHECK(got == 30'000);
            CHECK(r.run(receive(client, in, io_op::all)) == 1 << 20);
            CHECK(is_pattern(in, 16));
            CHECK(r.finish(answer) == 1 << 20);
            r.close({client, server});
        }
    });
}

TEST_CASE("backend: a reset is one error, and a broken pipe is no signal") {
    on_each([](rig& r) {
        for (const int how : {0, 1, 2}) {
            auto [client, server] = r.tcp();
            bytes area(100), out(8 << 20);
            auto reading = receive(server, area);
            test_op lent(io_kind::borrow, server);
            test_op& reader = how == 0 ? lent : reading;
            CHECK_FALSE(r.start(reader));
            if (how == 2) r.settle();
            auto writer = send(server, out, io_op::all);
            if (how == 1) r.start(writer);
            r.settle();
            CHECK(r.call(sys_call::reset_on_close, client) == 0);
            CHECK(r.close(client) == 0);
            if (how == 1) {
                // One of the two gets the error; the other sees the end, or the same.
                r.finish(writer);
                CHECK((writer.result == -ECONNRESET || writer.result == -EPIPE));
                r.finish(reader);
                CHECK((reader.result == -ECONNRESET || reader.result == 0));
            } else {
                CHECK(r.finish(reader) == -ECONNRESET);
            }
            std::span<const std::byte> spans[] = {out, out};
            for (int i = 0; i < 2; ++i) {
                const int a = r.run(send(server, out)), b = r.run(send_vector(server, spans));
                CHECK((a == -EPIPE || a == -ECONNRESET));
                CHECK((b == -EPIPE || b == -ECONNRESET));
                CHECK(r.run(receive(server, area)) == 0);
            }
            CHECK(r.close(server) == 0);
        }
    });
}

TEST_CASE("backend: polling tells when a stream is readable or writable, and takes nothing") {
    on_each([](rig& r) {
        for (const bool lend_first : {false, true}) {
            auto [client, server] = r.tcp();
            if (lend_first) {
                test_op lent(io_kind::borrow, server);
                CHECK_FALSE(r.start(lent));
                r.io->cancel(lent);
                CHECK(r.finish(lent) == -ECANCELED);
            }
            bytes out = make_pattern(17, 0, 8 << 20), in(8 << 20);
            test_op readable(io_kind::poll_in, server), writable(io_kind::poll_out, client);
            CHECK_FALSE(r.start(readable));
            CHECK(r.run(writable) == 0);
            r.settle();
            CHECK_FALSE(readable.finished);
            CHECK(r.run(send(client, std::span(out).first(10))) == 10);
            CHECK(r.finish(readable) == 0);
            test_op again(io_kind::poll_in, server);
            CHECK(r.run(again) == 0);
            CHECK(r.run(receive(server, in)) == 10);

            int full = 0;
            while (r.try_send(client, out) > 0) ++full;
            CHECK(full > 0);
            r.settle();
            while (r.try_send(client, out) > 0) ++full;
            test_op room(io_kind::poll_out, client), cancelled(io_kind::poll_out, client);
            CHECK_FALSE(r.start(cancelled));
            r.io->cancel(cancelled);
            CHECK(r.finish(cancelled) == -ECANCELED);
            CHECK_FALSE(r.start(room));
            while (!room.finished) {
                REQUIRE(r.run(receive(server, in)) > 0);
                r.turn(r.io->now());  // what finishes at once looks at nothing else
            }
            CHECK(room.result == 0);
            r.close({client, server});
        }
    });
}

TEST_CASE("backend: try_receive keeps the order of the stream") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(18, 0, 30'000), in(30'000);
        CHECK(r.try_receive(server, in) == -EAGAIN);
        std::size_t got = 0;
        for (std::size_t sent = 0; sent < out.size(); sent += 1000) {
            test_op lent(io_kind::borrow, server);
            const bool at_once = r.start(lent);
            REQUIRE(r.run(send(client, std::span(out).subspan(sent, 1000))) == 1000);
            if (!at_once) {
                r.io->cancel(lent);
                r.finish(lent);
            }
            if (lent.result > 0) {
                std::memcpy(in.data() + got, lent.data, lent.size);
                got += lent.size;
                r.give_back(lent);
            }
            if (got == in.size()) break;  // the last piece has just come
            const std::size_t wanted = std::min(1 + sent % 1700, in.size() - got);
            const int n = r.try_receive(server, std::span(in).subspan(got, wanted));
            REQUIRE((n > 0 || n == -EAGAIN));
            if (n > 0) got += static_cast<std::size_t>(n);
        }
        while (got < out.size()) {
            const int n = r.try_receive(server, std::span(in).subspan(got));
            if (n == -EAGAIN) {
                r.settle();
            } else {
                REQUIRE(n > 0);
                got += static_cast<std::size_t>(n);
            }
        }
        CHECK(is_pattern(in, 18));
        CHECK(r.close(client) == 0);
        r.settle();
        CHECK(r.try_receive(server, in) == 0);
        r.close(server);
    });
}

// Many

TEST_CASE("backend: a ring of eight entries serves ten thousand ops") {
    backend_options tiny;
    tiny.ring_entries = 8;
    tiny.receive_buffer_count = 8;
    on_each(
        [](rig& r) {
            constexpr std::size_t pairs = 200;
            std::vector<std::pair<int, int>> ends;
            for (std::size_t i = 0; i < pairs; ++i) ends.push_back(r.pair());
            std::vector<bytes> in(pairs, bytes(100));
            bytes out = make_pattern(19, 0, 100);
            for (int round = 0; round < 13; ++round) {
                std::deque<test_op> reads, writes, cancelled;
                for (std::size_t i = 0; i < pairs; ++i) {
                    test_op& read = i % 2 == 0
                                        ? reads.emplace_back(receive(ends[i].first, in[i]))
                                        : reads.emplace_back(io_kind::borrow, ends[i].first);
                    REQUIRE_FALSE(r.start(read));
                    REQUIRE_FALSE(r.start(
                        cancelled.emplace_back(receive(ends[i].second, in[i], io_op::all))));
                }
                for (auto& each : cancelled) r.io->cancel(each);
                for (std::size_t i = 0; i < pairs; ++i)
                    r.start(writes.emplace_back(send(ends[i].second, out, io_op::all)));
                for (std::size_t i = 0; i < pairs; ++i) {
                    REQUIRE(r.finish(writes[i]) == 100);
                    REQUIRE(r.finish(reads[i]) == 100);
                    REQUIRE(r.finish(cancelled[i]) == -ECANCELED);
                    if (i % 2 == 1) r.give_back(reads[i]);
                }
            }
            for (const auto& each : ends) r.close(each);
        },
        tiny);
}

TEST_CASE("backend: what one wait cannot report comes with the next") {
    const descriptor_limit raised(4096);
    if (raised.value < 4096) return;
    on_each([](rig& r) {
        constexpr std::size_t pairs = 700;
        std::vector<std::pair<int, int>> ends;
        for (std::size_t i = 0; i < pairs; ++i) ends.push_back(r.pair());
        bytes out = make_pattern(20, 0, 10);
        std::vector<bytes> in(2 * pairs, bytes(10));
        std::deque<test_op> reads;
        for (std::size_t i = 0; i < pairs; ++i) {
            REQUIRE_FALSE(r.start(reads.emplace_back(receive(ends[i].first, in[2 * i]))));
            REQUIRE_FALSE(r.start(reads.emplace_back(receive(ends[i].second, in[2 * i + 1]))));
        }
        for (std::size_t i = 0; i < pairs; ++i) {
            REQUIRE(r.try_send(ends[i].first, out) == 10);
            REQUIRE(r.try_send(ends[i].second, out) == 10);
        }
        std::size_t reported = 0;
        while (reported < reads.size()) {
            const std::size_t n = r.turn(r.io->now() + 10s);
            REQUIRE(n > 0);
            reported += n;
        }
        for (auto& each : reads) CHECK(each.result == 10);
        reads.clear();
        // The same with cancels, and with closes behind them.
        for (std::size_t i = 0; i < pairs; ++i) {
            REQUIRE_FALSE(r.start(reads.emplace_back(receive(ends[i].first, in[2 * i]))));
            REQUIRE_FALSE(r.start(reads.emplace_back(receive(ends[i].second, in[2 * i + 1]))));
        }
        std::deque<test_op> closes;
        for (std::size_t i = 0; i < pairs; ++i) {
            r.io->cancel(reads[2 * i]);
            r.start(closes.emplace_back(io_kind::close, ends[i].first));
            r.start(closes.emplace_back(io_kind::close, ends[i].second));
        }
        for (auto& each : closes) REQUIRE(r.finish(each) == 0);
        for (std::size_t i = 0; i < reads.size(); ++i) {
            REQUIRE(reads[i].finished);
            CHECK(reads[i].result == (i % 2 == 0 ? -ECANCELED : -EBADF));
        }
    });
}

// Waking. Any thread may.

TEST_SUITE("threads") {
    TEST_CASE("backend: a wake ends the wait in progress, or the next") {
        on_each([](rig& r) {
            r.io->set_outside(1);
            r.io->wake();
            r.io->wake();
            CHECK(r.turn(rondo::never) == 0);
            CHECK(r.waited);
            for (int i = 0; i < 20; ++i) {
                std::thread other([&r, i] {
                    if (i % 2 == 0) std::this_thread::sleep_for(1ms);
                    r.io->wake();
                });
                CHECK(r.turn(rondo::never) == 0);
                other.join();
                // Joined before the wait: remembered.
                std::thread(&rondo::backend::wake, r.io.get()).join();
                CHECK(r.turn(rondo::never) == 0);
            }
            r.io->set_outside(0);
        });
    }

    TEST_CASE("backend: wakes and completions do not hide each other") {
        on_each([](rig& r) {
            const auto ends = r.pair();
            r.io->set_outside(1);
            bytes out(1), in(1);
            std::thread other([&r] {
                for (int i = 0; i < 2000; ++i) r.io->wake();
            });
            for (int i = 0; i < 2000; ++i) {
                auto read = receive(ends.first, in);
                REQUIRE_FALSE(r.start(read));
                REQUIRE(r.run(send(ends.second, out)) == 1);
                REQUIRE(r.finish(read) == 1);
            }
            other.join();
            r.io->set_outside(0);
            r.close(ends);
        });
    }
}

// Only a kernel has these.

TEST_CASE("backend: accepted descriptors are non-blocking and stay out of child processes") {
    on_real([](rig& r) {  // flags of descriptors are the kernel's
        auto [listener, at] = r.listen();
        const int client = r.connect(at);
        const int server = r.run(test_op(io_kind::accept, listener));
        for (const int fd : {client, server, listener}) {
            CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
            CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
            r.close(fd);
        }
    });
}

TEST_CASE("backend: out of descriptors, accept says so, and works again later") {
    // The limit is the process's. It is lowered first: io_uring reads it when accept is prepared.
    const descriptor_limit lowered(64);
    on_real([](rig& r) {
        auto [listener, at] = r.listen();
        for (const bool waiting : {false, true}) {
            test_op waits(io_kind::accept, listener);
            if (waiting) {
                CHECK_FALSE(r.start(waits));
                r.turn(time_point::min());
            }
            const int client = r.tcp_socket(at);
            test_op connecting(io_kind::connect, client);
            connecting.data = &at;
            {
                const hoard none_left(client);
                CHECK(r.run(connecting) == 0);
                if (!waiting) r.start(waits);
                CHECK(r.finish(waits) == -EMFILE);
                CHECK(r.run(test_op(io_kind::accept, listener)) == -EMFILE);
            }
            const int server = r.run(test_op(io_kind::accept, listener));
            CHECK(server >= 0);
            r.close({client, server});
        }
        r.close(listener);
    });
}

TEST_CASE("backend: descriptors of others can be polled, both ways, again and again") {
    on_real([](rig& r) {  // sim has no descriptors but its own
        int ends[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
        const auto poll_op = [&](io_kind kind) {
            test_op o(kind, ends[0]);
            o.flags = io_op::foreign;
            return o;
        };
        char area[4096] = {};
        for (int round = 0; round < 3; ++round) {
            auto in = poll_op(io_kind::poll_in), out = poll_op(io_kind::poll_out);
            CHECK_FALSE(r.start(in));
            CHECK(r.run(out) == 0);
            CHECK_FALSE(in.finished);
            while (write(ends[0], area, sizeof area) > 0) {
            }
            auto room = poll_op(io_kind::poll_out), second = poll_op(io_kind::poll_out);
            CHECK_FALSE(r.start(room));
            CHECK(r.run(second) == -EBUSY);
            r.settle();
            CHECK_FALSE(room.finished);
            CHECK_FALSE(in.finished);
            REQUIRE(write(ends[1], area, 1) == 1);
            CHECK(r.finish(in) == 0);
            CHECK_FALSE(room.finished);
            auto level = poll_op(io_kind::poll_in);  // still unread: still ready
            CHECK(r.run(level) == 0);
            CHECK_FALSE(room.finished);
            REQUIRE(read(ends[0], area, 1) == 1);
            auto none = poll_op(io_kind::poll_in);
            CHECK_FALSE(r.start(none));
            r.settle();
            CHECK_FALSE(none.finished);
            r.io->cancel(none);
            CHECK(r.finish(none) == -ECANCELED);
            CHECK_FALSE(room.finished);
            while (read(ends[1], area, sizeof area) > 0) {
            }
            CHECK(r.finish(room) == 0);
        }
        auto hung = poll_op(io_kind::poll_in);
        CHECK_FALSE(r.start(hung));
        close(ends[1]);
        CHECK(r.finish(hung) == 0);
        close(ends[0]);

        test_op nothing(io_kind::poll_in, ends[0]);
        nothing.flags = io_op::foreign;
        CHECK(r.run(nothing) == -EBADF);
    });
}

TEST_CASE("backend: a regular file is always ready") {
    on_real([](rig& r) {
        const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        REQUIRE(fd >= 0);
        for (const std::uint8_t flags : {std::uint8_t{io_op::foreign}, std::uint8_t{0}}) {
            test_op in(io_kind::poll_in, fd);
            in.flags = flags;
            CHECK(r.run(in) == 0);
        }
        close(fd);
    });
}

TEST_CASE("backend: a foreign descriptor closed under a poll does not harm its successor") {
    on_real([](rig& r) {
        auto [listener, at] = r.listen();
        const int client = r.tcp_socket(at);
        const int theirs = dup(client);
        REQUIRE(theirs >= 0);
        test_op lost(io_kind::poll_in, theirs);
        lost.flags = io_op::foreign;
        int pipe_ends[2];
        REQUIRE(pipe(pipe_ends) == 0);
        REQUIRE(dup2(pipe_ends[0], theirs) == theirs);
        CHECK_FALSE(r.start(lost));
        r.turn(time_point::min());
        close(theirs);
        test_op connecting(io_kind::connect, client);
        connecting.data = &at;
        CHECK(r.run(connecting) == 0);
        const int server = r.run(test_op(io_kind::accept, listener));
        CHECK(server == theirs);  // the number has a new owner
        bytes out(5), in(5);
        auto read = receive(server, in);
        CHECK_FALSE(r.start(read));
        CHECK(r.finish(lost) == -EBADF);
        CHECK(r.run(send(client, out)) == 5);
        CHECK(r.finish(read) == 5);
        close(pipe_ends[0]);
        close(pipe_ends[1]);
        for (const int fd : {client, server, listener}) r.close(fd);
    });
}

TEST_CASE("backend: inside another loop, its descriptor tells when to call wait") {
    on_real([](rig& r) {  // sim has no descriptor
        pollfd outer{r.io->poll_fd(), POLLIN, 0};
        REQUIRE(outer.fd >= 0);
        const auto host_waits = [&](int ms) {
            r.io->flush();
            return ::poll(&outer, 1, ms) == 1;
        };
        const auto ends = r.pair();
        bytes out(3), in(3);
        for (int round = 0; round < 20; ++round) {
            auto read = receive(ends.first, in);
            test_op lent(io_kind::borrow, ends.second);
            CHECK_FALSE(r.start(read));
            CHECK_FALSE(r.start(lent));
            while (host_waits(0)) r.turn(time_point::min());
            CHECK_FALSE(host_waits(5));
            REQUIRE(write(ends.second, out.data(), 3) == 3);
            while (!read.finished) {
                REQUIRE(host_waits(5000));
                r.turn(time_point::min());
            }

            r.io->cancel(lent);  // nothing for the kernel, yet `wait` has something to report
            while (!lent.finished) {
                REQUIRE(host_waits(5000));
                r.turn(time_point::min());
            }
            CHECK(lent.result == -ECANCELED);

            while (host_waits(0)) r.turn(time_point::min());
            r.io->wake();
            CHECK(host_waits(5000));
            r.turn(time_point::min());
        }
        r.close(ends);
    });
}

TEST_CASE("backend: options that make no sense are refused, by name, on every backend") {
    const auto refused = [](auto change, const char* name) {
        backend_options options;
        change(options);
        for (const backend_kind kind : {backend_kind::sim, backend_kind::epoll, backend_kind::uring}) {
            std::string why;
            CHECK(rondo::make_backend(kind, options, why) == nullptr);
            CHECK(why.find(name) != std::string::npos);
        }
    };
    for (const std::uint32_t bad : {0u, 3u, 100u, 65536u, 1u << 31, ~0u})
        refused([=](backend_options& o) { o.receive_buffer_count = bad; }, "receive_buffer_count");
    for (const std::uint32_t bad : {0u, 1u, 255u, (1u << 24) + 1, 1u << 31, ~0u})
        refused([=](backend_options& o) { o.receive_buffer_size = bad; }, "receive_buffer_size");
    for (const std::uint32_t bad : {0u, 1u, 4u, 100u, 8192u, 1u << 31, ~0u})
        refused([=](backend_options& o) { o.ring_entries = bad; }, "ring_entries");

    backend_options odd;  // the ends of what makes sense
    odd.receive_buffer_count = 1;
    odd.receive_buffer_size = 256;
    odd.ring_entries = 4096;
    on_each([](rig& r) { CHECK(r.io->armed() == 0); }, odd);
}

TEST_CASE("backend: signals in the middle change nothing") {
    static volatile sig_atomic_t alarms;
    alarms = 0;
    struct sigaction act = {}, before = {};
    act.sa_handler = [](int) { alarms = alarms + 1; };  // no SA_RESTART
    sigaction(SIGALRM, &act, &before);
    itimerval often{{0, 500}, {0, 500}}, off{};
    setitimer(ITIMER_REAL, &often, nullptr);
    on_real([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(21, 0, 2 << 20), in(2 << 20);
        for (int round = 0; round < 10; ++round) {
            auto whole = send(client, out, io_op::all);
            auto all = receive(server, in, io_op::all);
            r.start(all);
            r.start(whole);
            CHECK(r.finish(all) == 2 << 20);
            CHECK(r.finish(whole) == 2 << 20);
            CHECK(is_pattern(in, 21));
        }
        const time_point until = r.io->now() + 20ms;
        CHECK(r.turn(until) == 0);
        CHECK(r.io->now() >= until);
        r.close({client, server});
    });
    setitimer(ITIMER_REAL, &off, nullptr);
    sigaction(SIGALRM, &before, nullptr);
    if (wanted(backend_kind::epoll)) CHECK(alarms > 0);
}

TEST_CASE("backend: destroyed in mid-flight, it lets go of everything") {
    // The loop never does this to a waiting task; the kernel must not write afterwards all the same.
    for (const backend_kind kind : {backend_kind::epoll, backend_kind::uring}) {
        if (!wanted(kind)) continue;
        std::string why;
        auto made = rondo::make_backend(kind, {}, why);
        if (made == nullptr) continue;
        auto r = std::make_unique<rig>(std::move(made));
        auto [listener, at] = r->listen();
        test_op accepting(io_kind::accept, listener);
        r->start(accepting);
        std::vector<std::pair<int, int>> ends;
        std::deque<test_op> ops;
        bytes area(200 * 64), out(64, std::byte{1});
        for (std::size_t i = 0; i < 200; ++i) {
            ends.push_back(r->pair());
            r->start(ops.emplace_back(receive(ends[i].first, std::span(area).subspan(i * 64, 64))));
            r->start(ops.emplace_back(io_kind::borrow, ends[i].second));
        }
        r->turn(time_point::min());
        const auto before = std::chrono::steady_clock::now();
        r.reset();
        CHECK(std::chrono::steady_clock::now() - before < 900ms);
        for (const auto& each : ends) {
            CHECK(::send(each.second, out.data(), 64, MSG_NOSIGNAL) == 64);
            CHECK(::send(each.first, out.data(), 64, MSG_NOSIGNAL) == 64);
        }
        CHECK(std::count(area.begin(), area.end(), std::byte{0}) == 200 * 64);
        for (const auto& each : ends) {
            ::close(each.first);
            ::close(each.second);
        }
        ::close(listener);
    }
}

TEST_CASE("backend: a forked child must not use it") {
    on_real([](rig& r) {
        const auto ends = r.pair();
        bytes area(8);
        auto read = receive(ends.first, area);
        CHECK_FALSE(r.start(read));
        r.turn(time_point::min());
        const pid_t child = fork();
        if (child == 0) {
            signal(SIGABRT, SIG_DFL);
            const rlimit no_core{0, 0};
            setrlimit(RLIMIT_CORE, &no_core);
            close(STDERR_FILENO);
            rondo::completions done;
            r.io->wait(time_point::min(), done);
            _exit(0);
        }
        int status = 0;
        REQUIRE(waitpid(child, &status, 0) == child);
        CHECK(WIFSIGNALED(status));
        CHECK(r.run(send(ends.second, area)) == 8);
        CHECK(r.finish(read) == 8);
        r.close(ends);
    });
}
