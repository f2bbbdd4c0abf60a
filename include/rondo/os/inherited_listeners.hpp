// Sockets that whoever started this process has opened for it: systemd's socket activation.
#pragma once

#include <rondo/base/detail/config.hpp>

#include <string>
#include <vector>

namespace rondo {

/// One of them. It is the program's: give it to tcp_listener::from_fd(), or close it.
struct inherited_listener {
    int fd;
    std::string name;  // as FileDescriptorName= says; "unknown" if nothing does
};

/// The sockets that were handed to this process by LISTEN_FDS, in their order; none if there is no such variable, or
/// LISTEN_PID says that they are for another one. They become close-on-exec, and the variables are unset, so that
/// children do not believe that these are theirs: a second call gives none. Throws io_error: invalid_argument for a
/// variable that makes no sense, bad_file_descriptor for one of them that is not open, and the variables stay;
/// not_simulated in a simulated world. Changes the environment: call it before there are other threads.
[[nodiscard]] RONDO_API std::vector<inherited_listener> inherited_listeners();

}  // namespace rondo
