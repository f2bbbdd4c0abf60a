#include "places.hpp"

#include <rondo/base/log.hpp>
#include <rondo/loop/detail/extras.hpp>
#include <rondo/loop/detail/scheduler.hpp>

#include <algorithm>
#include <cstdio>

namespace rondo::detail {

std::source_location shown_place(const fiber& f) noexcept {
    for (const promise_base* p = f.leaf; p != nullptr; p = p->parent)
        if (!is_ours(p->site)) return p->site;
    return is_ours(f.place) ? std::source_location() : f.place;
}

std::source_location calling_place() noexcept {
    const fiber* f = running().current_fiber();
    return f != nullptr ? shown_place(*f) : std::source_location();
}

bool is_main_task(const fiber& f) noexcept { return is_ours(f.place) && base_name(f.place) == "run.hpp"; }

std::string at_place(const std::source_location& place) {
    if (place.line() == 0) return {};
    return std::string(" at ") + place.file_name() + ":" + std::to_string(place.line());
}

namespace {

/// The first tasks of the root scope, and where they are: " task 2 at main.cpp:7, task 3 at main.cpp:9, ...".
struct root_tasks {
    explicit root_tasks(const scope& root) noexcept {
        constexpr std::size_t most_named = 4;
        std::size_t size = 0;
        std::size_t named = 0;
        const fiber* f = &root.tasks().front();
        for (; f != nullptr && named < most_named; f = root.tasks().after(*f), ++named) {
            const std::source_location place = shown_place(*f);
            const std::string_view file = base_name(place);
            int n = std::snprintf(text + size, sizeof text - size, "%s %s", named == 0 ? "" : ",", task_label(*f).text);
            size = std::min(size + static_cast<std::size_t>(n), sizeof text - 1);
            if (place.line() == 0) continue;
            n = std::snprintf(text + size, sizeof text - size, " at %.*s:%u",
                              static_cast<int>(std::min(file.size(), std::size_t{40})), file.data(),
                              static_cast<unsigned>(place.line()));
            size = std::min(size + static_cast<std::size_t>(n), sizeof text - 1);
        }
        if (named < root.size()) std::snprintf(text + size, sizeof text - size, ", ...");
    }
    char text[610] = "";
};

}  // namespace

void log_leftovers(const scope& root, const char* when) noexcept {
    if (root.size() == 0) return;
    static log_gate gate;
    write_log(gate, log_level::debug, root.tasks().front().place, "%zu %s left %s, and cancelled:%s", root.size(),
              root.size() == 1 ? "task was" : "tasks were", when, root_tasks(root).text);
}

void log_stranded(const scope& root) noexcept {
    static log_gate gate;
    write_log(gate, log_level::error, root.tasks().front().place,
              "%zu %s, although cancelled when the program ended, and nothing is left that would end them. Is there "
              "a shield without a deadline?%s",
              root.size(), root.size() == 1 ? "task waits" : "tasks wait", root_tasks(root).text);
}

}  // namespace rondo::detail
