#include <rondo/task/detail/failures.hpp>

#include <rondo/base/exception_group.hpp>

#include "base/trace.hpp"

#include <utility>
#include <vector>

namespace rondo::detail {

failures::~failures() {
    while (!failed_.empty()) take_first();
}

void failures::add(fiber& child) noexcept {
    child.kept = 1;
    // Many may fail when the first one does, and that is the one which people will ask about.
    if (failed_.empty()) need_trace(child.vt->error(child), true);
    failed_.push_back(child);
}

std::exception_ptr failures::take_first() noexcept {
    fiber& f = failed_.pop_front();
    std::exception_ptr error = f.vt->error(f);
    need_trace(error, false);
    f.kept = 0;
    f.flags |= fiber::taken;
    if (!(f.flags & fiber::held)) f.vt->free(f);
    return error;
}

std::exception_ptr failures::take(one single, std::exception_ptr before, std::exception_ptr after) noexcept {
    std::vector<std::exception_ptr> errors;
    std::exception_ptr first;
    bool lost = false;
    const auto add = [&](std::exception_ptr error) {
        if (!error) return;
        if (!first) first = error;
        try {
            errors.push_back(std::move(error));
        } catch (const std::bad_alloc&) {
            lost = true;
        }
    };
    add(std::move(before));
    while (!failed_.empty()) add(take_first());
    // A body that awaited the handle of a child passes on what it met there: that is one error.
    bool met = false;
    for (const std::exception_ptr& error : errors) met = met || error == after;
    if (!met) add(std::move(after));
    if (!first || lost || (errors.size() == 1 && single == one::as_it_is)) return first;
    try {
        return std::make_exception_ptr(exception_group(std::move(errors)));
    } catch (...) {
        return first;
    }
}

}  // namespace rondo::detail
