#include <rondo/io/detail/byte_buffer.hpp>

#include <algorithm>

namespace rondo::detail {

std::span<std::byte> byte_buffer::room(std::size_t least) {
    if (capacity_ - end_ < least) {
        const std::size_t held = size();
        if (capacity_ - held < least) {
            const std::size_t larger = std::max(held + least, 2 * capacity_);
            std::unique_ptr<std::byte[]> memory(new std::byte[larger]);
            if (held != 0) std::memcpy(memory.get(), memory_.get() + begin_, held);
            memory_ = std::move(memory);
            capacity_ = larger;
        } else if (held != 0) {
            std::memmove(memory_.get(), memory_.get() + begin_, held);
        }
        begin_ = 0;
        end_ = held;
    }
    return {memory_.get() + end_, capacity_ - end_};
}

}  // namespace rondo::detail
