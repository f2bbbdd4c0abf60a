// A stream of bytes that is no descriptor: what it gives, and in which pieces, is written down beforehand.
#pragma once

#include "test.hpp"

#include <rondo/io/stream.hpp>

#include <algorithm>
#include <cstring>
#include <deque>
#include <string>
#include <system_error>
#include <utility>

namespace test {

class scripted_stream {
 public:
    /// Each read gives one piece, or what of it fits; "!" is a connection_reset. Then the stream has ended.
    explicit scripted_stream(std::deque<std::string> pieces = {}) : pieces_(std::move(pieces)) {}

    rondo::task<std::size_t> read_some(rondo::writable_bytes into) {
        ++reads;
        co_await rondo::immediate();
        if (pieces_.empty() || into.size() == 0) co_return 0;
        if (pieces_.front() == "!") {
            pieces_.pop_front();
            throw rondo::io_error(std::make_error_code(std::errc::connection_reset), "read");
        }
        std::string& piece = pieces_.front();
        const std::size_t count = std::min(into.size(), piece.size());
        std::memcpy(into.data(), piece.data(), count);
        piece.erase(0, count);
        if (piece.empty()) pieces_.pop_front();
        co_return count;
    }
    rondo::task<std::size_t> read_exactly(rondo::writable_bytes into) {
        std::size_t got = 0;
        while (got < into.size()) {
            const std::size_t n =
                co_await read_some(rondo::writable_bytes(static_cast<char*>(into.data()) + got, into.size() - got));
            if (n == 0) break;
            got += n;
        }
        co_return got;
    }

    rondo::task<std::size_t> write_some(rondo::bytes_view from) { return write_all(from); }
    /// Takes `at_once` bytes, lets others run, and takes the next ones; `fails_after` so many bytes it is broken.
    rondo::task<std::size_t> write_all(rondo::bytes_view from, std::size_t* written = nullptr) {
        ++writes;
        std::size_t done = 0;
        if (written != nullptr) *written = 0;
        while (done < from.size()) {
            co_await rondo::immediate();
            if (taken.size() >= fails_after)
                throw rondo::io_error(std::make_error_code(std::errc::broken_pipe), "write", "the script");
            const std::size_t count = std::min({at_once, from.size() - done, fails_after - taken.size()});
            taken.append(static_cast<const char*>(from.data()) + done, count);
            done += count;
            if (written != nullptr) *written = done;
        }
        co_return done;
    }

    void shutdown() { ended = true; }
    rondo::task<> close() { co_return; }
    rondo::result<void> try_reset_on_close() noexcept {
        resets = true;
        return {};
    }

    std::string taken;
    std::size_t at_once = 1000;
    std::size_t fails_after = ~std::size_t{0};
    int reads = 0;
    int writes = 0;
    bool ended = false;
    bool resets = false;

 private:
    std::deque<std::string> pieces_;
};

static_assert(rondo::byte_stream<scripted_stream>);

}  // namespace test
