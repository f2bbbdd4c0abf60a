#include <rondo/channel/watch.hpp>

#include <cstdio>

namespace rondo::detail {

const op_vtable changed_wait::table = {
    [](op& o) noexcept {
        auto& self = static_cast<changed_wait&>(o);
        self.of->waits.cancel(self);
    },
    &wake_owner,
    [](const op&, char* text, std::size_t size) noexcept { std::snprintf(text, size, "a watched value to change"); },
};

watch_core::~watch_core() { RONDO_ASSERT(waits.empty(), "a watch was destroyed while a task waits on it"); }

void watch_core::wake_all(std::int32_t result) noexcept {
    while (!waits.empty()) waits.complete_first(result);
}

}  // namespace rondo::detail
