// What the library says on standard error, and how it gets there.
//
// Standard error is shared, and whoever is at its other end may have gone, or may not read: a log collector that
// hangs, a terminal that was stopped by Ctrl-S. Neither may end the process or hold up its loop.
#pragma once

#include <rondo/base/detail/config.hpp>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string_view>

namespace rondo::detail {

/// While one lives, no write of this thread ends or stops the process by a signal: not that of a pipe without a reader,
/// of a file of the largest size allowed, or of a background job at its terminal. The write says so by its error.
class RONDO_API no_write_signals {
 public:
    no_write_signals() noexcept;
    ~no_write_signals();
    no_write_signals(const no_write_signals&) = delete;
    no_write_signals& operator=(const no_write_signals&) = delete;

 private:
    sigset_t before_;  // the thread's mask
    sigset_t pending_;  // already, so not from here
};

/// One message for standard error, of any length; written when it goes, or when the buffer is full. It is written
/// without blocking. What is not taken at once is waited for up to `patience` in all; then the rest of the message
/// is dropped and the message counts as lost. The next message that is taken says how many were.
class RONDO_API report {
 public:
    explicit report(std::chrono::milliseconds patience) noexcept : patience_(patience) {}
    ~report();
    report(const report&) = delete;
    report& operator=(const report&) = delete;

    report& add(std::string_view text) noexcept;
    report& add(char c) noexcept { return add({&c, 1}); }
    report& add(std::uint32_t number) noexcept;
    report& add(const std::source_location& place) noexcept {
        return add(place.file_name()).add(':').add(std::uint32_t{place.line()});
    }

 private:
    void flush() noexcept;
    void tell_lost() noexcept;
    bool write(std::string_view text) noexcept;
    bool wait_for_room() noexcept;

    std::chrono::milliseconds patience_;
    std::chrono::steady_clock::time_point give_up_{};  // set when it first has to wait
    std::size_t size_ = 0;
    bool begun_ = false;
    bool lost_ = false;
    char last_ = '\n';  // that was written
    char text_[2048];  // no more than a pipe takes as one piece
};

/// For what a program that is about to end has to say: long enough for a reader that is alive.
inline constexpr std::chrono::milliseconds last_words{1000};

/// Messages that standard error did not take, or not whole.
std::uint64_t reports_lost() noexcept;

/// If standard error is closed, opens it on /dev/null: else the next socket could get its number, and what anyone
/// writes to standard error would go to a peer.
void hold_standard_error() noexcept;

}  // namespace rondo::detail
