#include <rondo/io/buffer.hpp>

#include <cstdlib>

namespace rondo {

void buffer::free_stash() noexcept { std::free(data_); }

}  // namespace rondo
