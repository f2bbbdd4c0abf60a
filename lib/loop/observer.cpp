#include <rondo/loop/observer.hpp>

#include <rondo/loop/detail/extras.hpp>
#include <rondo/loop/detail/unwinding.hpp>

#include "base/error_text.hpp"
#include "places.hpp"

#include <algorithm>
#include <cerrno>

namespace rondo {

std::uint32_t task_view::number() const noexcept { return f_ != nullptr ? f_->id : 0; }

std::string_view task_view::name() const noexcept {
    return f_ != nullptr && f_->more != nullptr ? std::string_view(f_->more->name) : std::string_view();
}

std::source_location task_view::spawned() const noexcept { return f_ != nullptr ? f_->place : std::source_location(); }

std::source_location task_view::place() const noexcept {
    return f_ != nullptr ? detail::shown_place(*f_) : std::source_location();
}

std::size_t task_view::sites(std::source_location* into, std::size_t most) const noexcept {
    std::size_t count = 0;
    if (f_ == nullptr) return count;
    for (const detail::promise_base* p = f_->leaf; p != nullptr && count < most; p = p->parent) into[count++] = p->site;
    return count;
}

std::size_t task_view::waits_for(char* text, std::size_t room) const noexcept {
    *text = '\0';
    if (f_ == nullptr || f_->waiting == nullptr) return 0;
    f_->waiting->vt->describe(*f_->waiting, text, room);
    return std::string_view(text).size();
}

std::source_location task_view::root() const noexcept {
    std::source_location found;
    if (f_ == nullptr) return found;
    for (const detail::promise_base* p = f_->leaf; p != nullptr; p = p->parent)
        if (!detail::is_ours(p->site)) found = p->site;
    return found;
}

std::int32_t task_view::result() const noexcept {
    if (f_ == nullptr || f_->waiting == nullptr) return 0;
    if (f_->waiting == &detail::in_queue) return f_->told_cancelled ? -ECANCELED : 0;
    return f_->waiting->result;
}

std::size_t task_view::error(char* text, std::size_t room) const noexcept {
    *text = '\0';
    if (f_ == nullptr || (f_->flags & detail::fiber::has_error) == 0) return 0;
    struct into_text {
        into_text& add(std::string_view more) noexcept {
            const std::size_t n = std::min(more.size(), room - 1 - size);
            more.copy(text + size, n);
            size += n;
            return *this;
        }
        char* text;
        std::size_t room;
        std::size_t size = 0;
    } to{text, room};
    detail::write_message(to, f_->vt->error(const_cast<detail::fiber&>(*f_)));
    text[to.size] = '\0';
    return to.size;
}

std::source_location task_view::failed_at() const noexcept {
    if (f_ == nullptr || (f_->flags & detail::fiber::has_error) == 0) return {};
    return detail::thrown_at(f_->vt->error(const_cast<detail::fiber&>(*f_)));
}

observer::~observer() = default;

bool observer::time_of(std::uint32_t, task_time&) const noexcept { return false; }

}  // namespace rondo
