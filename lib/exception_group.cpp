#include <rondo/exception_group.hpp>

#include <rondo/loop.hpp>

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

void print(const exception_group& group, std::string& text, const std::string& indent) {
    const auto& errors = group.errors();
    for (std::size_t i = 0; i < errors.size(); ++i) {
        const bool last = i + 1 == errors.size();
        text.append("\n").append(indent).append(last ? "`- " : "|- ");
        const exception_group* nested = as_group(errors[i]);
        if (nested == nullptr) {
            text += detail::message_of(errors[i]);
        } else {
            text.append(count_of(nested->errors()));
            std::string deeper = indent;
            print(*nested, text, deeper.append(last ? "   " : "|  "));
        }
    }
}

}  // namespace

exception_group::exception_group(std::vector<std::exception_ptr> errors) : errors_(std::move(errors)) {
    if (errors_.empty()) throw std::invalid_argument("an exception_group holds at least one error");
    const exception_group* nested = as_group(first());
    const std::string one = nested != nullptr ? nested->what_ : detail::message_of(first());
    what_ = count_of(errors_);
    what_.append(errors_.size() == 1 ? ": " : "; the first: ").append(one);
}
exception_group::exception_group(const exception_group&) = default;
exception_group::~exception_group() = default;

std::string exception_group::tree() const {
    std::string text = count_of(errors_);
    print(*this, text, "");
    return text;
}

exception_group::parts exception_group::split_by(bool (*matches)(const std::exception_ptr&)) const {
    parts found;
    for (const std::exception_ptr& error : errors_) {
        if (matches(error)) {
            found.matching.push_back(error);
        } else if (const exception_group* nested = as_group(error)) {
            parts inner = nested->split_by(matches);
            found.matching.insert(found.matching.end(), inner.matching.begin(), inner.matching.end());
            if (inner.matching.empty()) {
                found.rest.push_back(error);
            } else if (!inner.rest.empty()) {
                found.rest.push_back(std::make_exception_ptr(exception_group(std::move(inner.rest))));
            }
        } else {
            found.rest.push_back(error);
        }
    }
    return found;
}

void exception_group::throw_all(std::vector<std::exception_ptr> errors) {
    if (errors.empty()) return;
    if (errors.size() == 1) std::rethrow_exception(errors.front());
    throw exception_group(std::move(errors));
}

}  // namespace rondo
