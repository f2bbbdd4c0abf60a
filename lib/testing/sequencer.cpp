#include <rondo/testing/sequencer.hpp>

#include <cstdio>

namespace rondo::testing {

const op_vtable sequencer::awaiter::table = {
    [](op& o) noexcept {
        auto& self = static_cast<awaiter&>(o);
        self.unlink();
        self.of_.give_up(self.position_);
        detail::current->complete(o, -ECANCELED);
    },
    &detail::wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept {
        const auto& self = static_cast<const awaiter&>(o);
        std::snprintf(text, size, "turn %zu; it is turn %zu now", self.position_, self.of_.now_);
    },
};

sequencer::awaiter::awaiter(sequencer& of, std::size_t position) noexcept
    : wait_op(table), of_(of), position_(position) {}

bool sequencer::awaiter::start() noexcept {
    RONDO_ASSERT(position_ >= of_.now_ && !(position_ == of_.now_ && of_.taken_), "a turn is taken twice");
    if (position_ == of_.now_) {
        of_.taken_ = true;
        result = 0;
        return false;
    }
    state = op::armed;
    of_.waits_.push_back(*this);
    return true;
}

sequencer::turn sequencer::awaiter::await_resume() {
    if (result < 0) {
        // Cancelled before it began to wait: its turn is given up all the same.
        if (state == op::done && position_ >= of_.now_) of_.give_up(position_);
        detail::throw_failure(result, "wait for a turn");
    }
    return turn(of_);
}

sequencer::~sequencer() { RONDO_ASSERT(waits_.empty(), "a sequencer is destroyed while a task waits for its turn"); }

void sequencer::pass_on() noexcept {
    taken_ = false;
    ++now_;
    go_on();
}

/// The one whose turn it is may go on, if it waits already.
void sequencer::go_on() noexcept {
    while (now_ < given_up_.size() && given_up_[now_]) ++now_;
    awaiter* next = nullptr;
    waits_.for_each([&](awaiter& w) {
        if (w.position_ == now_) next = &w;
    });
    if (next == nullptr) return;
    next->unlink();
    taken_ = true;
    detail::current->complete(*next, 0);
}

void sequencer::give_up(std::size_t position) noexcept {
    if (given_up_.size() <= position) given_up_.resize(position + 1);
    given_up_[position] = true;
    if (!taken_) go_on();
}

}  // namespace rondo::testing
