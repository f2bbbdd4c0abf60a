// A backend driven by hand: raw operations, no loop. A case runs on every backend that this machine offers, or on the
// one that RONDO_BACKEND names.
#pragma once

#include "net.hpp"
#include "raw_ops.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace test::raw {

using namespace ops;

using test::bytes;
using test::is_pattern;
using test::make_pattern;

struct test_op : io_op {
    test_op(io_kind k, int descriptor) : io_op(no_table, k, descriptor) {}
    bool finished = false;
};

inline test_op over(io_kind k, int fd, std::span<std::byte> area, std::uint8_t f = 0) {
    test_op o(k, fd);
    o.data = area.data();
    o.size = static_cast<std::uint32_t>(area.size());
    o.flags = f;
    return o;
}
inline test_op receive(int fd, std::span<std::byte> into, std::uint8_t f = 0) {
    return over(io_kind::receive, fd, into, f);
}
inline test_op send(int fd, std::span<std::byte> from, std::uint8_t f = 0) { return over(io_kind::send, fd, from, f); }
inline test_op send_vector(int fd, std::span<std::span<const std::byte>> spans, std::uint8_t f = 0) {
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

inline bool wanted(backend_kind kind) {
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

}  // namespace test::raw
