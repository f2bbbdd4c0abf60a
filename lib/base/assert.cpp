#include <rondo/base/detail/assert.hpp>

#include "held_log.hpp"
#include "report.hpp"
#include "who_runs.hpp"

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
    if (held_log* const held = log_held()) held->print("--- the log so far");
    {
        report text(last_words);
        text.add("rondo: assertion failed: ").add(what).add('\n');
        if (place.line() != 0) {
            text.add("  at ").add(place);
            if (condition != nullptr) text.add(" (").add(condition).add(')');
            text.add('\n');
        }
        if (const who_runs* const who = asked_who_runs.load(std::memory_order_acquire)) who->describe(text);
    }
    std::abort();
}

}  // namespace rondo::detail
