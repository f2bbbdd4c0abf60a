// A signal by which a program that runs tells what its tasks are doing.
#pragma once

#include <rondo/loop/loop.hpp>

namespace rondo {

/// While it lives, `signal` (SIGQUIT, which is Ctrl-\ on a terminal) makes `l` print its await tree to
/// standard error, and does nothing else; then what was installed before comes back. The signal may come on
/// any thread. The tree is printed in the pending phase of the loop's next turn, so not while a callback or a
/// task keeps the loop busy; a second signal until then is the same one. It waits 100 ms at most for a
/// reader that is slow; then the rest is lost. It does not keep the loop alive. To be made and destroyed on the
/// loop's thread, before the loop goes. Throws io_error for a signal that cannot be caught, and bad_alloc. Of a
/// host of a world, it is the signal that host::signal sends.
class RONDO_API dump_on_signal {
 public:
    explicit dump_on_signal(int signal, loop& l = this_loop());
    ~dump_on_signal();
    dump_on_signal(const dump_on_signal&) = delete;
    dump_on_signal& operator=(const dump_on_signal&) = delete;

 private:
    struct notice;
    notice* notice_;
};

}  // namespace rondo
