#include <rondo/combine/detail/children.hpp>

#include <rondo/base/exception_group.hpp>

#include <algorithm>

namespace rondo::detail {

join_scope::join_scope(const called_from& here, question ask, void* decides) noexcept
    : group(running(), &ended, "joined tasks"), ask_(ask), joiner_(decides) {
    open(*here.task, ~std::size_t{0});
    hear_of_successes(true);
}

// --- which child is which --------------------------------------------------------------------------------

void start_order::add(const fiber& child) {
    const run& last = later_.empty() ? first_ : later_.back();
    if (size_ == 0) {
        first_ = {child.id, 0};
    } else if (child.id - last.first_id != size_ - last.first_index) {
        later_.push_back({child.id, size_});
    }
    ++size_;
}

std::size_t start_order::index_of(const fiber& child) const noexcept {
    const auto age = [this](std::uint32_t id) { return id - first_.first_id; };  // survives a wrap of the counter
    const auto after = std::upper_bound(later_.begin(), later_.end(), age(child.id),
                                        [&](std::uint32_t a, const run& r) { return a < age(r.first_id); });
    const run& in = after == later_.begin() ? first_ : *(after - 1);
    return in.first_index + (child.id - in.first_id);
}

// --- ends ------------------------------------------------------------------------------------------------

void join_scope::note(const fiber& child) {
    try {
        order_.add(child);
    } catch (...) {
        fail(std::current_exception());  // so the child does not take its first step
        throw;
    }
}

void join_scope::ended(detail::scope& base, fiber& f) noexcept {
    auto& self = static_cast<join_scope&>(of_core(base));
    const bool by_itself = (f.flags & (fiber::has_value | fiber::has_error)) != 0;
    if (!by_itself && (self.cancelled() || self.was_cut_outside(f))) {
        self.cut_short_ |= !self.cancelled();
        return;
    }
    if (f.flags & fiber::has_error) {
        self.child_failed_ = true;
        f.flags |= fiber::taken;  // the joiner sees it now
    }
    try {
        if (self.ask_(self.joiner_, f, self)) self.cancel();
    } catch (...) {
        self.fail(std::current_exception());
    }
}

void join_scope::fail(std::exception_ptr error) noexcept {
    if (!failed_) {
        failed_ = std::move(error);
        failed_first_ = !child_failed_;
    }
    cancel();
}

void join_scope::body_ended(const std::exception_ptr& error) noexcept {
    if (!error) return;
    if (!is_cancellation(error)) return fail(error);
    cut_short_ |= !cancelled();
    cancel();
}

std::exception_ptr join_scope::end(std::exception_ptr error) noexcept {
    close();
    if (failed_ && error) {
        try {
            std::vector<std::exception_ptr> both = {failed_, error};
            if (!failed_first_) std::swap(both[0], both[1]);
            return std::make_exception_ptr(exception_group(std::move(both)));
        } catch (...) {
            return failed_first_ ? failed_ : error;
        }
    }
    if (failed_) return failed_;
    if (error) return error;
    if (cut_short_) return std::make_exception_ptr(rondo::cancelled());
    return nullptr;
}

}  // namespace rondo::detail
