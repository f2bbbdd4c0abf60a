// The backend that runs everywhere: readiness from epoll, then the system call.
#pragma once

#include <rondo/loop/backend.hpp>

#include <memory>
#include <string>

namespace rondo::detail {

/// Null, with the reason in `why`, when the process is out of descriptors.
std::unique_ptr<backend> make_epoll(const backend_options& options, std::string& why);

}  // namespace rondo::detail
