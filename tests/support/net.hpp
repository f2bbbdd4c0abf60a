// What the tests of streams and servers share: connected streams, recognisable bytes, and counting
// descriptors.
#pragma once

#include "test.hpp"

#include <dirent.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

namespace test {

using bytes = std::vector<std::byte>;

/// Byte `i` of stream `which`: neighbours differ, and so do streams.
inline std::byte pattern(std::size_t which, std::size_t i) {
    return static_cast<std::byte>((i * 7 + (i >> 8) * 31 + (i >> 16) * 13 + which * 101) & 0xff);
}

inline bytes make_pattern(std::size_t which, std::size_t from, std::size_t size) {
    bytes made(size);
    for (std::size_t i = 0; i < size; ++i) made[i] = pattern(which, from + i);
    return made;
}

inline bool is_pattern(std::span<const std::byte> seen, std::size_t which, std::size_t from = 0) {
    for (std::size_t i = 0; i < seen.size(); ++i)
        if (seen[i] != pattern(which, from + i)) return false;
    return true;
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

inline std::string as_text(std::span<const std::byte> data) {
    return {reinterpret_cast<const char*>(data.data()), data.size()};
}

/// A listener on a free port of the loopback address.
inline rondo::tcp_listener listen(const rondo::listen_options& options = {}) {
    return rondo::tcp_listener::bind("127.0.0.1", 0, options);
}

/// Two ends of one connection: who connected, and who accepted.
struct connection {
    rondo::tcp_stream client;
    rondo::tcp_stream server;
    connection(rondo::tcp_stream c, rondo::tcp_stream s) : client(std::move(c)), server(std::move(s)) {}
};

inline rondo::task<connection> connect_to(rondo::tcp_listener& listener) {
    rondo::tcp_stream client = co_await rondo::tcp_stream::connect(listener.local());
    rondo::tcp_stream server = co_await listener.accept();
    co_return connection(std::move(client), std::move(server));
}

inline rondo::task<connection> connected() {
    rondo::tcp_listener listener = listen();
    connection made = co_await connect_to(listener);
    co_await listener.close();
    co_return made;
}

/// Small buffers in the kernel, so that a writer soon has to wait.
inline void keep_small(connection& c) {
    for (rondo::tcp_stream* s : {&c.client, &c.server}) {
        s->send_buffer_size(32768);
        s->receive_buffer_size(32768);
    }
}

/// Reads to the end of the stream.
inline rondo::task<bytes> read_to_end(rondo::tcp_stream& from) {
    bytes all;
    std::byte part[16384];
    for (;;) {
        const std::size_t n = co_await from.read_some(part);
        if (n == 0) co_return all;
        all.insert(all.end(), part, part + n);
    }
}

/// Borrows a text of that size, which may come in pieces; shorter at the end of the stream.
inline rondo::task<std::string> receive_text(rondo::tcp_stream& from, std::size_t size) {
    std::string all;
    while (all.size() < size) {
        const rondo::buffer part = co_await from.receive();
        if (part.empty()) break;
        all += part.text();
    }
    co_return all;
}

/// A session that gives back what comes.
inline rondo::task<> echo_session(rondo::tcp_stream& peer) {
    for (;;) {
        auto data = co_await peer.receive();
        if (data.empty()) co_return;
        co_await peer.write_all(data);
    }
}

/// Lets happen what happens at once: packets on their way arrive, closing descriptors close.
inline rondo::task<> settle() {
    const rondo::delay a_while = on_sim() ? 100ms : 1ms;
    for (int i = 0; i < 3; ++i) {
        co_await rondo::sleep_for(a_while.value());
        co_await rondo::immediate();
    }
}

/// The error an awaited I/O operation throws; no error if it does not.
template <class Awaitable>
rondo::task<std::error_code> error_of(Awaitable operation) {
    try {
        static_cast<void>(co_await std::move(operation));
    } catch (const std::system_error& e) {
        co_return e.code();
    }
    co_return std::error_code{};
}

/// How many descriptors this process has open.
inline std::size_t open_descriptors() {
    std::size_t count = 0;
    DIR* all = ::opendir("/proc/self/fd");
    if (all == nullptr) return 0;
    while (::readdir(all) != nullptr) ++count;
    ::closedir(all);
    return count - 3;  // ".", ".." and the directory
}

/// How many descriptors a simulated world has open; 0 elsewhere.
inline std::size_t simulated_descriptors(rondo::loop& l) {
    rondo::backend& io = rondo::detail::scheduler::of(l).io();
    return io.is_closed_world() ? io.open_descriptors() : 0;
}

/// A small generator of its own, so that a printed seed is all it takes to run a test again.
class dice {
 public:
    explicit dice(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    /// In [0, n).
    std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }
    bool one_in(std::size_t n) { return below(n) == 0; }

 private:
    std::uint64_t state_;
};

}  // namespace test
