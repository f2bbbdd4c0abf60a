// The io_uring backend: the kernel does the operation and tells when it is done.
#pragma once

#include <rondo/loop/backend.hpp>

#include <memory>
#include <string>

namespace rondo::detail {

/// Null, with the reason in `why`, where io_uring is missing, forbidden or too old. The ring belongs
/// to the thread that calls this: no other may use the backend, except for wake().
std::unique_ptr<backend> make_uring(const backend_options& options, std::string& why);

}  // namespace rondo::detail
