#include <rondo/base/exception_group.hpp>

#include <rondo/loop/loop.hpp>

#include <stdexcept>

namespace rondo {

namespace {

// The group that `error` is; null if it is none.
const exception_group* as_group(const std::exception_ptr& error) noexcept {
    try {
        std::rethrow_exception(error);
    } catch (const exception_group& group) {
        return &group;  // lives as long as `error`
    } catch (...) {
        return nullptr;
    }
}

std::string count_of(const std::vector<std::exception_ptr>& errors) {
    std::string text = std::to_string(errors.size());
    return text.append(errors.size() == 1 ? " error" : " errors");
}

// What tree() shows, as the await tree does: more would bury what matters.
constexpr std::size_t most_lines = 100;
constexpr std::size_t most_levels = 40;
// What what() spells out: "1 error: 1 error: connection refused".
constexpr std::size_t most_prefixes = 8;

}  // namespace

exception_group::exception_group(std::vector<std::exception_ptr> errors) : errors_(std::move(errors)) {
    if (errors_.empty()) throw std::invalid_argument("an exception_group holds at least one error");
    for (const std::exception_ptr& error : errors_)
        if (!error) throw std::invalid_argument("an exception_group was given an error that is none");
    const exception_group* const nested = as_group(first());
    origin_ = nested != nullptr ? nested->origin_ : first();
    levels_ = nested != nullptr ? nested->levels_ + 1 : 0;
    what_ = count_of(errors_);
    what_.append(errors_.size() == 1 ? ": " : "; the first: ");
    if (nested == nullptr) {
        what_.append(detail::message_of(origin_));
    } else if (levels_ <= most_prefixes) {
        what_.append(nested->what_);
    } else {
        what_.append(further_in());
    }
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

std::string exception_group::further_in() const {
    return std::to_string(levels_).append(levels_ == 1 ? " group" : " groups").append(" further in: ") +
           detail::message_of(origin_);
}

std::string exception_group::tree() const {
    struct level {
        const exception_group* group;
        std::size_t next;
    };
    std::vector<level> open = {{this, 0}};
    std::string text = count_of(errors_);
    std::string indent;
    std::size_t lines = 0;
    while (!open.empty()) {
        level& at = open.back();
        const auto& errors = at.group->errors_;
        if (at.next == errors.size()) {
            open.pop_back();
            if (!open.empty()) indent.resize(indent.size() - 3);
            continue;
        }
        const std::size_t left = errors.size() - at.next;
        if (lines == most_lines) {
            text.append("\n").append(indent).append("`- ... and ").append(std::to_string(left)).append(" more");
            at.next = errors.size();
            continue;
        }
        ++lines;
        text.append("\n").append(indent).append(left == 1 ? "`- " : "|- ");
        const std::exception_ptr& error = errors[at.next++];
        const exception_group* const nested = as_group(error);
        if (nested == nullptr) {
            text += detail::message_of(error);
        } else if (open.size() == most_levels) {
            text.append(count_of(nested->errors_)).append(nested->errors_.size() == 1 ? ": " : "; the first: ");
            text += nested->levels_ == 0 ? detail::message_of(nested->origin_) : nested->further_in();
        } else {
            text.append(count_of(nested->errors_));
            indent.append(left == 1 ? "   " : "|  ");
            open.push_back({nested, 0});
        }
    }
    return text;
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
            } else if (const exception_group* const nested = as_group(error)) {
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
