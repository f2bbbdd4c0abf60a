#include <rondo/detail/assert.hpp>

#include <rondo/detail/extras.hpp>
#include <rondo/loop.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace rondo::detail {

namespace {
bool read_debug_switch() noexcept {
    const char* value = std::getenv("RONDO_DEBUG");
    return value != nullptr && std::strcmp(value, "") != 0 && std::strcmp(value, "0") != 0;
}
}  // namespace

bool debug_enabled = read_debug_switch();

void assertion_failed(const char* what, const char* condition, std::source_location place) noexcept {
    std::fprintf(stderr, "rondo: assertion failed: %s\n", what);
    if (place.line() != 0) {
        std::fprintf(stderr, "  at %s:%u", place.file_name(), static_cast<unsigned>(place.line()));
        if (condition != nullptr) std::fprintf(stderr, " (%s)", condition);
        std::fputc('\n', stderr);
    }
    if (current != nullptr && current->current_fiber() != nullptr) {
        const fiber& f = *current->current_fiber();
        std::fprintf(stderr, "  in %s", task_label(f).text);
        if (f.place.line() != 0)
            std::fprintf(stderr, ", spawned at %s:%u", f.place.file_name(),
                         static_cast<unsigned>(f.place.line()));
        if (f.leaf != nullptr)
            std::fprintf(stderr, ", last await at %s:%u", f.leaf->site.file_name(),
                         static_cast<unsigned>(f.leaf->site.line()));
        std::fputc('\n', stderr);
    }
    std::abort();
}

}  // namespace rondo::detail
