// The signals of this process, as the real backends watch them.
#pragma once

#include <rondo/loop/backend.hpp>

namespace rondo::detail {

/// backend::watch_signals and unwatch_signals; any thread.
///
/// Handlers are installed with the first watch of a signal; what was there before comes back with the last one. A
/// forked child has none of them: it did not ask, and its signals do what they did before.
int watch_process_signals(signal_watch& who) noexcept;
void unwatch_process_signals(signal_watch& who) noexcept;

}  // namespace rondo::detail
