// The log of a run that may be of no interest: kept back until somebody knows.
#pragma once

#include <rondo/base/log.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace rondo::detail {

/// While one lives, the lines that this thread would write to standard error are kept in here. A sink of the user's
/// gets its records as ever. One at a time; an assertion that fails prints what is held.
class RONDO_API held_log {
 public:
    held_log() noexcept;
    ~held_log();
    held_log(const held_log&) = delete;
    held_log& operator=(const held_log&) = delete;

    /// Writes to standard error what has been kept, if that is anything, behind a line with a title; and forgets it.
    void print(std::string_view title) noexcept;

    held_log& add(std::string_view text) noexcept;
    held_log& add(char c) noexcept { return add({&c, 1}); }
    held_log& add(std::uint32_t number) noexcept;

 private:
    static constexpr std::size_t most = 256 * 1024;
    std::string text_;
    std::size_t left_out_ = 0;  // lines, for which there was no room
    held_log* outer_;
};

/// What this thread holds; null: nothing is held.
held_log* log_held() noexcept;

}  // namespace rondo::detail
