#include <rondo/io/buffered_reader.hpp>

namespace rondo::detail {

void throw_too_long(const char* operation, std::size_t limit) {
    throw io_error(std::make_error_code(std::errc::message_size), operation,
                   "no end within " + std::to_string(limit) + " bytes");
}

}  // namespace rondo::detail
