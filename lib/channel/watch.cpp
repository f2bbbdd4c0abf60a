#include <rondo/channel/watch.hpp>

#include <cstdio>

namespace rondo::detail {

const op_vtable changed_wait::table = {
    [](op& o) noexcept {
        auto& self = static_cast<changed_wait&>(o);
        self.of->waits.cancel(self);
    },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept {
        const char* const name = static_cast<const changed_wait&>(o).of->name;
        if (*name == '\0') {
            std::snprintf(text, size, "a watched value to change");
        } else {
            std::snprintf(text, size, "watch '%s' to change", name);
        }
    },
};

watch_core::~watch_core() { RONDO_ASSERT(waits.empty(), "a watch was destroyed while a task waits on it"); }

void watch_core::wake_all(std::int32_t result) noexcept {
    while (!waits.empty()) waits.complete_first(result);
}

}  // namespace rondo::detail
