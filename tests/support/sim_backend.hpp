// A simulated backend driven by hand, without a loop: a world whose operations are started one by one, and whose waits
// say what they reported.
#pragma once

#include "../../lib/backend/sim/sim.hpp"

#include "raw_ops.hpp"

#include <rondo/loop/oracle.hpp>

#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace test::sim {

using namespace ops;

inline raw_address v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d, int port) {
    raw_address address;
    address.kind = raw_address::family::v4;
    address.port = static_cast<std::uint16_t>(port);
    const std::uint8_t bytes[] = {a, b, c, d};
    std::memcpy(address.bytes, bytes, sizeof bytes);
    return address;
}

inline raw_address local(int port) { return v4(127, 0, 0, 1, port); }
inline raw_address any(int port) { return v4(0, 0, 0, 0, port); }

inline raw_address v6(std::uint8_t last, int port) {
    raw_address address;
    address.kind = raw_address::family::v6;
    address.port = static_cast<std::uint16_t>(port);
    address.bytes[15] = last;
    return address;
}

inline std::string text_of(const raw_address& a) {
    const bool four = a.kind == raw_address::family::v4;
    std::string text;
    for (int i = 0; i < (four ? 4 : 16); ++i) text += (i ? "." : "") + std::to_string(a.bytes[i]);
    return text + ":" + std::to_string(a.port);
}

constexpr int still_armed = -100'000;

/// An op with what it needs to live, and its result.
struct test_op : io_op {
    test_op(io_kind what, int descriptor) : io_op(no_table, what, descriptor) {}

    std::string bytes;
    std::vector<std::span<const std::byte>> spans;
    raw_address address;
    int got = still_armed;
};

/// A simulated world without a loop.
struct world {
    explicit world(rondo::oracle* decisions = nullptr, std::uint32_t borrow_size = 16384) {
        rondo::backend_options options;
        options.receive_buffer_size = borrow_size;
        sim = rondo::make_sim(options, {.decisions = decisions});
    }
    ~world() {  // closing a descriptor ends the ops at it
        for (const int fd : open) {
            if (fd >= 0) close(fd);
        }
        while (sim->armed() > 0) wait(rondo::never);
    }

    // Operations: they are started, and `wait` fills in `got`.
    test_op& start(test_op& o) {
        if (sim->submit(o)) o.got = o.result;
        return o;
    }
    test_op& make(io_kind what, int fd) { return *ops.emplace_back(new test_op(what, fd)); }
    test_op& accept(int fd) { return start(make(io_kind::accept, fd)); }
    test_op& connect(int fd, const raw_address& to) {
        test_op& o = make(io_kind::connect, fd);
        o.address = to;
        o.data = &o.address;
        return start(o);
    }
    test_op& receive(int fd, std::size_t size, bool all = false) {
        test_op& o = make(io_kind::receive, fd);
        o.bytes.resize(size);
        o.data = o.bytes.data();
        o.size = static_cast<std::uint32_t>(size);
        if (all) o.flags |= io_op::all;
        return start(o);
    }
    test_op& borrow(int fd) { return start(make(io_kind::borrow, fd)); }
    test_op& send(int fd, std::string text, bool all = false) {
        test_op& o = make(io_kind::send, fd);
        o.bytes = std::move(text);
        o.data = o.bytes.data();
        o.size = static_cast<std::uint32_t>(o.bytes.size());
        if (all) o.flags |= io_op::all;
        return start(o);
    }
    test_op& send_vector(int fd, const std::vector<std::string_view>& parts, bool all = false) {
        test_op& o = make(io_kind::send_vector, fd);
        for (const std::string_view part : parts) o.spans.push_back(std::as_bytes(std::span(part)));
        o.data = o.spans.data();
        o.size = static_cast<std::uint32_t>(o.spans.size());
        if (all) o.flags |= io_op::all;
        return start(o);
    }
    test_op& poll_in(int fd) { return start(make(io_kind::poll_in, fd)); }
    test_op& poll_out(int fd) { return start(make(io_kind::poll_out, fd)); }
    test_op& close(int fd) {
        std::erase(open, fd);
        return start(make(io_kind::close, fd));
    }
    void cancel(test_op& o) { sim->cancel(o); }

    bool wait(time_point until) {
        done.clear();
        const bool alive = sim->wait(until, done);
        last.clear();
        for (const rondo::completion& c : done) {
            auto& o = static_cast<test_op&>(*c.what);
            REQUIRE(o.got == still_armed);
            REQUIRE(o.state == rondo::op::done);
            o.got = c.result;
            last.push_back(&o);
        }
        return alive;
    }
    bool look() { return wait(time_point{}); }
    /// Lets all of that time pass, whatever is reported meanwhile.
    void pass(rondo::duration by) {
        const time_point until = sim->now() + by;
        do {
            wait(until);
        } while (sim->now() < until);
    }
    /// Until nothing can happen any more.
    void settle() {
        while (wait(rondo::never)) {
        }
    }

    // Calls.
    int control(sys_call what, int fd, const std::function<void(sys_op&)>& fill = {}) {
        sys_op o{};
        o.what = what;
        o.fd = fd;
        if (fill) fill(o);
        return sim->control(o);
    }
    int socket(raw_address::family family = raw_address::family::v4) {
        raw_address address;
        address.kind = family;
        const int fd = control(sys_call::tcp_socket, -1, [&](sys_op& o) { o.address = &address; });
        if (fd >= 0) open.push_back(fd);
        return fd;
    }
    int bind(int fd, raw_address to) {
        return control(sys_call::bind, fd, [&](sys_op& o) { o.address = &to; });
    }
    int listen(int fd, int backlog = 10) {
        return control(sys_call::listen, fd, [&](sys_op& o) { o.value = backlog; });
    }
    int set(int fd, sys_option which, int value) {
        return control(sys_call::set_option, fd, [&](sys_op& o) { o.which = which, o.value = value; });
    }
    int get(int fd, sys_option which) {
        sys_op o{};
        o.what = sys_call::get_option;
        o.fd = fd;
        o.which = which;
        const int result = sim->control(o);
        return result < 0 ? result : o.value;
    }
    int try_send(int fd, std::string_view text) {
        return control(sys_call::try_send, fd, [&](sys_op& o) {
            o.data = const_cast<char*>(text.data());
            o.size = text.size();
        });
    }
    int try_receive(int fd, std::string& into, std::size_t size) {
        into.resize(size);
        const int n = control(sys_call::try_receive, fd, [&](sys_op& o) {
            o.data = into.data();
            o.size = size;
        });
        into.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
        return n;
    }
    std::string address(int fd, sys_call which) {
        raw_address address;
        const int result = control(which, fd, [&](sys_op& o) { o.address = &address; });
        return result < 0 ? std::to_string(result) : text_of(address);
    }
    std::string local_address(int fd) { return address(fd, sys_call::local_address); }
    std::string peer_address(int fd) { return address(fd, sys_call::peer_address); }

    int listener(int port = 80, int backlog = 10) {
        const int fd = socket();
        REQUIRE(bind(fd, local(port)) == 0);
        REQUIRE(listen(fd, backlog) == 0);
        return fd;
    }
    /// {client, server}, connected through a listener on `port`, which is closed again.
    std::pair<int, int> connection(int port = 80, const std::function<void(int, int)>& options = {}) {
        const int server = listener(port);
        const int client = socket();
        if (options) options(client, server);
        test_op& accepted = accept(server);
        test_op& connected = connect(client, local(port));
        settle();
        REQUIRE(connected.got == 0);
        REQUIRE(accepted.got >= 0);
        close(server);
        open.push_back(accepted.got);
        return {client, accepted.got};
    }
    std::pair<int, int> pair() {
        sys_op o{};
        o.what = sys_call::stream_pair;
        REQUIRE(sim->control(o) == 0);
        open.insert(open.end(), {o.fds[0], o.fds[1]});
        return {o.fds[0], o.fds[1]};
    }

    std::uint64_t hash() const { return rondo::event_hash(*sim); }

    std::unique_ptr<rondo::backend> sim;
    std::deque<std::unique_ptr<test_op>> ops;
    std::vector<int> open;
    rondo::completions done;
    std::vector<test_op*> last;  // what the last wait reported, in order
};

using reported = std::vector<test_op*>;

inline std::string prefix(const test_op& o) { return o.bytes.substr(0, o.moved); }

}  // namespace test::sim
