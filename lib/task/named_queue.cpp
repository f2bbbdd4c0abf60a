#include <rondo/task/detail/named_queue.hpp>

#include "loop/places.hpp"

#include <algorithm>
#include <cstdio>

namespace rondo::detail {

std::size_t named_queue::write_title(char* text, std::size_t size) const noexcept {
    const int length =
        *name_ == '\0' ? std::snprintf(text, size, "%s", kind_) : std::snprintf(text, size, "%s '%s'", kind_, name_);
    return std::min(static_cast<std::size_t>(length), size - 1);
}

std::string named_queue::title() const {
    char text[120];
    return {text, write_title(text, sizeof text)};
}

void named_queue::describe(char* text, std::size_t size) const noexcept {
    const std::size_t written = write_title(text, size);
    std::snprintf(text + written, size - written, ", %zu waiting", this->size());
}

void named_queue::destroyed_with_waiters() const noexcept {
    char what[120];
    write_title(what, sizeof what);
    char text[200];
    std::snprintf(text, sizeof text, "%s was destroyed while %zu %s for it, task %u the first", what, size(),
                  size() == 1 ? "task waits" : "tasks wait", static_cast<unsigned>(front().owner->id));
    assertion_failed(text, nullptr, shown_place(*front().owner));
}

const op_vtable queue_wait::table = {
    [](op& o) noexcept {
        auto& w = static_cast<queue_wait&>(o);
        w.in->cancel(w);
    },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept {
        static_cast<const queue_wait&>(o).in->describe(text, size);
    },
};

}  // namespace rondo::detail
