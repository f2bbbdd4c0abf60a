// SIGINT and SIGTERM as callbacks on a loop.
#pragma once

#include "remote_state.hpp"

namespace rondo::detail {

/// While one of these lives, SIGINT and SIGTERM run `react` on its loop instead of ending the process.
/// What was installed before comes back with the last one. At most 32 at a time in a process.
class stop_signals {
 public:
    stop_signals(loop& l, void (*react)(void*), void* context);
    ~stop_signals();
    stop_signals(const stop_signals&) = delete;
    stop_signals& operator=(const stop_signals&) = delete;

    struct notice;

 private:
    notice* notice_;
};

}  // namespace rondo::detail
