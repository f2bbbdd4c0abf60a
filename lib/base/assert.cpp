#include <rondo/base/detail/assert.hpp>

#include <rondo/loop/detail/extras.hpp>
#include <rondo/loop/loop.hpp>

#include "report.hpp"

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
    {
        report text(last_words);
        text.add("rondo: assertion failed: ").add(what).add('\n');
        if (place.line() != 0) {
            text.add("  at ").add(place);
            if (condition != nullptr) text.add(" (").add(condition).add(')');
            text.add('\n');
        }
        if (current != nullptr && current->current_fiber() != nullptr) {
            const fiber& f = *current->current_fiber();
            text.add("  in ").add(task_label(f).text);
            if (f.place.line() != 0) text.add(", spawned at ").add(f.place);
            if (f.leaf != nullptr)
                text.add(", last await at ").add(f.leaf->site);
            text.add('\n');
        }
    }
    std::abort();
}

}  // namespace rondo::detail
