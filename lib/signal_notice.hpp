// Signals as callbacks on a loop.
#pragma once

#include "remote_state.hpp"

#include <initializer_list>

namespace rondo::detail {

/// While one of these lives, its signals run `react` on its loop, in the pending phase of the next turn,
/// instead of what they did. What was installed before comes back with the last one of that signal. A signal
/// that comes again before `react` has run is the same one. At most 32 of these at a time in a process.
class signal_notice {
 public:
    /// Throws io_error for a signal that cannot be caught, or with too many of these; then nothing is installed.
    signal_notice(loop& l, std::initializer_list<int> signals, void (*react)(void*), void* context);
    ~signal_notice();
    signal_notice(const signal_notice&) = delete;
    signal_notice& operator=(const signal_notice&) = delete;

    struct letter;

 private:
    letter* letter_;
};

}  // namespace rondo::detail
