#include <rondo/combine/map_concurrent.hpp>

#include <stdexcept>

namespace rondo::detail {

void throw_limit_of_zero() { throw std::invalid_argument("map_concurrent: at most 0 at once"); }

}  // namespace rondo::detail
