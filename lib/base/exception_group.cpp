#include <rondo/base/exception_group.hpp>

#include "base/error_report.hpp"

#include <new>
#include <stdexcept>

namespace rondo {

namespace {

// What what() spells out: "1 error: 1 error: connection refused".
constexpr std::size_t most_prefixes = 8;

}  // namespace

exception_group::exception_group(std::vector<std::exception_ptr> errors) : errors_(std::move(errors)) {
    if (errors_.empty()) throw std::invalid_argument("an exception_group holds at least one error");
    for (const std::exception_ptr& error : errors_)
        if (!error) throw std::invalid_argument("an exception_group was given an error that is none");
    const exception_group* const nested = detail::as_group(first());
    origin_ = nested != nullptr ? nested->origin_ : first();
    levels_ = nested != nullptr ? nested->levels_ + 1 : 0;
    detail::to_string text;
    detail::write_count(text, *this);
    text.add(errors_.size() == 1 ? ": " : "; the first: ");
    if (nested != nullptr && levels_ <= most_prefixes) {
        text.add(nested->what_);
    } else {
        write_origin(text);
    }
    what_ = std::move(text.text);
}
exception_group::exception_group(const exception_group&) = default;

// Groups in groups go one after another, not one inside the other: the outermost takes over what the others
// hold, however deep they are. It has room for a chain; without memory for more, they do recurse.
exception_group::~exception_group() {
    static constinit thread_local std::vector<std::exception_ptr>* going = nullptr;
    if (going != nullptr) {
        try {
            going->insert(going->end(), errors_.begin(), errors_.end());
        } catch (const std::bad_alloc&) {
        }
        return;
    }
    going = &errors_;
    while (!errors_.empty()) {
        const std::exception_ptr last = std::move(errors_.back());
        errors_.pop_back();
    }
    going = nullptr;
}

std::string exception_group::tree() const {
    detail::to_string to;
    detail::write_count(to, *this);
    detail::group_tree::write(to, *this);
    return std::move(to.text);
}

exception_group::parts exception_group::split_by(bool (*matches)(const std::exception_ptr&)) const {
    struct level {
        const exception_group* group;
        std::size_t next = 0;
        parts found = {};
    };
    std::vector<level> open;
    open.push_back({this});
    for (;;) {
        level& at = open.back();
        if (at.next != at.group->errors_.size()) {
            const std::exception_ptr& error = at.group->errors_[at.next++];
            if (matches(error)) {
                at.found.matching.push_back(error);
            } else if (const exception_group* const nested = detail::as_group(error)) {
                open.push_back({nested});
            } else {
                at.found.rest.push_back(error);
            }
            continue;
        }
        parts inner = std::move(at.found);
        open.pop_back();
        if (open.empty()) return inner;
        parts& found = open.back().found;
        if (inner.matching.empty()) {
            found.rest.push_back(open.back().group->errors_[open.back().next - 1]);
        } else if (!inner.rest.empty()) {
            found.rest.push_back(std::make_exception_ptr(exception_group(std::move(inner.rest))));
        }
        found.matching.insert(found.matching.end(), inner.matching.begin(), inner.matching.end());
    }
}

void exception_group::throw_all(std::vector<std::exception_ptr> errors) {
    if (errors.empty()) return;
    if (errors.size() == 1) std::rethrow_exception(errors.front());
    throw exception_group(std::move(errors));
}

}  // namespace rondo
