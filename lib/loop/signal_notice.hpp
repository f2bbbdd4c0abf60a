// Signals as callbacks on a loop.
#pragma once

#include "remote_state.hpp"

#include <cstdint>
#include <initializer_list>
#include <span>

namespace rondo::detail {

/// While one of these lives, its signals run `react` on its loop, in the pending phase of the next turn,
/// instead of what they did. A signal that comes again before `react` has run is the same one. What signals
/// are, the loop's backend knows: those of the process, or those of a simulated host.
class signal_notice {
 public:
    /// `signals`: all that have come since it was called last, bit n - 1 for signal n.
    using reaction = void (*)(void* context, std::uint64_t signals);

    /// Throws io_error for a signal that cannot be caught; then nothing is watched. Throws bad_alloc.
    signal_notice(loop& l, std::span<const int> signals, reaction react, void* context)
        : signal_notice(l, signals, react, context, false) {}
    signal_notice(loop& l, std::initializer_list<int> signals, reaction react, void* context)
        : signal_notice(l, std::span(signals.begin(), signals.size()), react, context) {}
    /// Hears only of signals that nobody else listens for, and of the first one; the second one ends the process, as
    /// if nobody were there.
    static signal_notice of_last_resort(loop& l, std::initializer_list<int> signals, reaction react, void* context) {
        return signal_notice(l, std::span(signals.begin(), signals.size()), react, context, true);
    }
    ~signal_notice();
    signal_notice(const signal_notice&) = delete;
    signal_notice& operator=(const signal_notice&) = delete;

    struct letter;

 private:
    signal_notice(loop& l, std::span<const int> signals, reaction react, void* context, bool last_resort);

    backend& backend_;
    letter* letter_;
};

}  // namespace rondo::detail
