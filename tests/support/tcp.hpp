// What several files of tests of byte streams over TCP need.
#pragma once

#include "support/net.hpp"

namespace test::streams {

using namespace rondo;
using namespace std::literals;
using test::as_bytes;
using test::as_text;
using test::bytes;
using test::connected;
using test::connection;
using test::error_of;
using test::is_pattern;
using test::make_pattern;

inline task<> check_closed(tcp_stream& s) {
    std::byte into[16];
    const bytes from(16);
    CHECK_FALSE(s.is_open());
    CHECK_FALSE(static_cast<bool>(s));
    CHECK(s.native_handle() == -1);
    const auto bad = std::errc::bad_file_descriptor;
    const std::error_code some = co_await error_of(s.read_some(into));
    CHECK(some == bad);
    const std::error_code exact = co_await error_of(s.read_exactly(into));
    CHECK(exact == bad);
    const std::error_code borrowed = co_await error_of(s.receive());
    CHECK(borrowed == bad);
    const std::error_code wrote = co_await error_of(s.write_some(from));
    CHECK(wrote == bad);
    std::size_t written = 99;
    const std::error_code all = co_await error_of(s.write_all(from, &written));
    CHECK(all == bad);
    CHECK(written == 0);
    const std::span<const std::byte> parts[] = {from, from};
    const std::error_code vectored = co_await error_of(s.write_all(parts));
    CHECK(vectored == bad);
    auto attempted = co_await attempt(s.read_some(into));
    CHECK(attempted.error() == bad);
    CHECK(s.try_read_some(into).error() == bad);
    CHECK(s.try_write_some(from).error() == bad);
    CHECK(s.try_shutdown().error() == bad);
    CHECK(s.try_reset_on_close().error() == bad);
    CHECK(s.try_no_delay(true).error() == bad);
    CHECK(s.try_keep_alive(true).error() == bad);
    CHECK(s.try_receive_buffer_size(1).error() == bad);
    CHECK(s.try_send_buffer_size(1).error() == bad);
    CHECK(s.try_local().error() == bad);
    CHECK_THROWS_AS(s.shutdown(), io_error);
    CHECK_THROWS_AS(s.reset_on_close(), io_error);
    CHECK_THROWS_AS(s.no_delay(true), io_error);
    CHECK_THROWS_AS(s.keep_alive(true), io_error);
    CHECK_THROWS_AS(s.receive_buffer_size(1), io_error);
    CHECK_THROWS_AS(s.send_buffer_size(1), io_error);
    CHECK_THROWS_AS(static_cast<void>(s.local()), io_error);
    co_await s.close();  // closing what is closed is nothing
}

/// A read_exactly of `size` bytes on `from`, cancelled after what was sent has arrived.
inline task<> interrupted_read(tcp_stream& from, std::size_t size) {
    bytes into(size);
    auto reader = spawn([&]() -> task<> { co_await from.read_exactly(into); });
    co_await test::settle();
    CHECK_FALSE(reader.done());
    reader.cancel();
    const auto ended = co_await attempt(reader);
    CHECK(ended.error() == std::errc::operation_canceled);
    CHECK(reader.state() == task_state::cancelled);
}

}  // namespace test::streams
