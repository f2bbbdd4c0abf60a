#include <rondo/sync/semaphore.hpp>

#include <stdexcept>

namespace rondo {

semaphore::semaphore(std::size_t permits, const char* name, std::size_t most) noexcept
    : waits_("semaphore", name), available_(permits), made_with_(permits), most_(most) {
    RONDO_ASSERT(permits <= most, "a semaphore begins with more permits than it may have");
}

detail::lost_permits& detail::permits_lost() noexcept {
    static thread_local lost_permits lost;
    return lost;
}

std::string detail::lost_permits::since(std::size_t before) const {
    if (count == before) return {};
    return "permits that nobody gave back: " + std::to_string(count - before) + " of " + from;
}

void semaphore::went_incomplete() const noexcept {
    detail::lost_permits& lost = detail::permits_lost();
    lost.count += made_with_ - available_;
    waits_.write_title(lost.from, sizeof lost.from);
}

void semaphore::release(std::size_t n) {
    if (n > most_ - available_) throw std::overflow_error(waits_.title() + ": released more often than acquired");
    give(n);
}

void semaphore::give(std::size_t n) noexcept {
    // The usual case: what one gives back is what the next one wants.
    if (available_ == 0 && !waits_.empty() && first().n == n && !waits_.first_is_arm()) return waits_.wake_first();
    RONDO_ASSERT(n <= most_ - available_, "a permit comes back to a semaphore that has all of them already");
    available_ += n;
    grant();
}

void semaphore::grant() noexcept {
    while (!waits_.empty() && first().n <= available_) {
        available_ -= first().n;
        waits_.complete_first();
    }
}

bool semaphore::wait_or_refuse(wait& w) noexcept {
    if (w.n > most_) {
        w.result = -EINVAL;
        return false;
    }
    waits_.push(w);
    return true;
}

const op_vtable semaphore::wait::table = {
    [](op& o) noexcept {
        auto& w = static_cast<wait&>(o);
        semaphore& s = *w.of;
        s.waits_.cancel(w);
        s.grant();  // who stood behind it may ask for less
    },
    &detail::wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept {
        static_cast<const wait&>(o).of->waits_.describe(text, size);
    },
};

result<semaphore::permit> semaphore::acquire_awaiter::finish() const {
    if (result == -EINVAL) return detail::failure_thrown_by(errno_code(EINVAL), [this] { fail(); });
    return await_resume();
}

void semaphore::acquire_awaiter::fail() const {
    if (result == -ECANCELED) detail::throw_failure(result, "acquire");
    throw io_error(errno_code(-result), "acquire",
                   std::to_string(n) + " of " + of->waits_.title() + ", which never has so many");
}

}  // namespace rondo
