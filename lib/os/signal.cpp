#include <rondo/os/signal.hpp>

#include <rondo/loop/loop.hpp>

#include "loop/places.hpp"
#include "loop/signal_notice.hpp"

#include <bit>
#include <span>

namespace rondo {

struct signals::core {
    explicit core(std::span<const int> which) : notice(this_loop(), which, &heard, this) {}

    static void heard(void* self, std::uint64_t signals) {
        auto& to = *static_cast<core*>(self);
        to.come |= signals;
        while (to.come != 0 && !to.waits.empty()) to.waits.complete_first(to.take());
    }
    int take() noexcept {
        const int lowest = std::countr_zero(come) + 1;
        come &= come - 1;
        return lowest;
    }

    std::uint64_t come = 0;  // and nobody has had: bit n - 1 is signal n
    detail::named_queue waits{"signals", ""};
    detail::signal_notice notice;
};

signals::signals(const int* which, std::size_t count)
    : core_(std::make_unique<core>(std::span<const int>(which, count))) {}
signals::~signals() = default;

int signals::take() noexcept { return core_->come != 0 ? core_->take() : 0; }

void signals::put_back(int signal) noexcept { core::heard(core_.get(), signal_watch::bit(signal)); }

signals::next_awaiter signals::next() noexcept { return next_awaiter(*this); }

std::optional<int> signals::try_next() noexcept {
    const int signal = take();
    if (signal == 0) return std::nullopt;
    return signal;
}

signals::next_awaiter::next_awaiter(signals& from) noexcept : queue_wait(from.core_->waits), from_(&from) {}

bool signals::next_awaiter::start() noexcept {
    result = from_->take();
    if (result != 0) return false;
    alive_ = this_loop().remote(detail::shown_place(*owner));
    return stand();
}

}  // namespace rondo
