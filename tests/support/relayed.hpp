// What the tests of relay and copy share: two connections with a place between them, and bytes that go through it.
#pragma once

#include "net.hpp"

#include <utility>

namespace test {

/// client <-> (near, far) <-> server
struct relayed {
    connection left;
    connection right;
    rondo::tcp_stream& client() { return left.client; }
    rondo::tcp_stream& near_end() { return left.server; }
    rondo::tcp_stream& far_end() { return right.client; }
    rondo::tcp_stream& server() { return right.server; }
};
inline rondo::task<relayed> in_between() {
    connection left = co_await connected();
    connection right = co_await connected();
    co_return relayed{std::move(left), std::move(right)};
}
inline rondo::task<> sends(rondo::tcp_stream& to, std::size_t which, std::size_t size) {
    const bytes all = make_pattern(which, 0, size);
    co_await to.write_all(all);
    to.shutdown();
}
inline rondo::task<> gets(rondo::tcp_stream& from, std::size_t which, std::size_t size) {
    const bytes all = co_await read_to_end(from);
    CHECK(all.size() == size);
    CHECK(is_pattern(all, which));
}
inline constexpr bool both_ways[] = {true, false};

/// io_uring receives into a ring of buffers, as much as there is; only what it leaves is spliced. With one buffer that
/// is soon.
inline rondo::loop_options one_buffer() {
    rondo::loop_options options;
    options.backend.receive_buffer_count = 1;
    return options;
}
template <class Body>
void run_relay(Body body) {
    run(one_buffer(), body);
}

}  // namespace test
