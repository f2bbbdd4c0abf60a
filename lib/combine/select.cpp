#include <rondo/combine/select.hpp>

#include <cstdio>
#include <cstring>

namespace rondo::detail {

const op_vtable select_op::table = {&cancel, &wake_owner, &describe};
const op_vtable select_op::arm_table = {[](op&) noexcept {}, &arm_done, &describe_arm};

const op_vtable otherwise_vtable = {
    [](op&) noexcept {}, [](op&) noexcept {},
    [](const op&, char* text, std::size_t size) noexcept { std::snprintf(text, size, "otherwise"); }};

bool select_op::start_arms(arm* arms, std::size_t count) noexcept {
    arms_ = arms;
    count_ = static_cast<std::uint8_t>(count);
    state = armed;
    starting_ = true;
    std::uint32_t at = 0;
    if (!in_order_ && count > 1) at = current->io().choose(choice::select_order, count_);
    for (std::size_t i = 0; i < count && chosen_ == none; ++i, ++at) {
        const auto index = static_cast<std::uint8_t>(at < count ? at : at - count);
        if (arms[index].kind->start == nullptr) {
            otherwise_ = index;
        } else {
            start_arm(index);
        }
    }
    if (chosen_ != none || otherwise_ != none) cancel_arms();
    starting_ = false;
    if (left_ != 0) return true;
    if (chosen_ == none) chosen_ = otherwise_;
    state = done;
    return false;
}

void select_op::start_arm(std::uint8_t index) noexcept {
    arm& a = arms_[index];
    op& o = *a.what;
    o.owner = owner;
    if ((owner->flags & fiber::checked) && a.vt->belongs_to != nullptr) [[unlikely]]
        if (const scheduler* of = a.vt->belongs_to(o)) of->assert_here("select_one", owner->leaf->site);
    o.vt = &arm_table;
    ++left_;
    const bool waits = a.kind->start(o);
    owner->waiting = this;
    if (waits) return;
    --left_;
    // Beginning this one may have let another of ours through: it took what a task was waiting for who, as a
    // consequence, left a queue in which we are next. This one has happened, that one can be undone.
    if (chosen_ != none) arms_[chosen_].kind->give_back(*arms_[chosen_].what);
    chosen_ = index;
}

void select_op::cancel_arms() noexcept {
    cancelling_ = true;
    // What is not pending has not been begun, or is done and on its way to arm_done.
    for (std::uint8_t i = 0; i < count_; ++i)
        if (arms_[i].what->pending()) arms_[i].vt->cancel(*arms_[i].what);
}

void select_op::cancel(op& o) noexcept {
    auto& self = static_cast<select_op&>(o);
    if (!self.cancelling_) self.cancel_arms();
}

void select_op::arm_done(op& o) noexcept {
    auto& self = static_cast<select_op&>(*o.owner->waiting);
    std::uint8_t index = 0;
    while (self.arms_[index].what != &o) ++index;
    const arm& a = self.arms_[index];
    if (a.vt->settled != nullptr && !a.vt->settled(o)) {
        if (self.cancelling_) a.vt->cancel(o);
        return;
    }
    --self.left_;
    if (o.result != -ECANCELED || !self.cancelling_) {
        if (self.chosen_ == none) {
            self.chosen_ = index;
        } else {
            a.kind->give_back(o);
        }
    }
    if (self.starting_) return;
    if (!self.cancelling_) self.cancel_arms();
    if (self.left_ != 0 || self.state == done) return;
    if (self.chosen_ == none) self.chosen_ = self.otherwise_;
    current->complete(self, self.chosen_ == none ? -ECANCELED : 0);
}

void select_op::describe(const op& o, char* text, std::size_t size) noexcept {
    const auto& self = static_cast<const select_op&>(o);
    std::size_t used = static_cast<std::size_t>(std::snprintf(text, size, "one of: "));
    for (std::uint8_t i = 0; i < self.count_ && used + 1 < size; ++i) {
        if (i != 0) used += static_cast<std::size_t>(std::snprintf(text + used, size - used, ", "));
        if (used + 1 >= size) return;
        self.arms_[i].vt->describe(*self.arms_[i].what, text + used, size - used);
        used += std::strlen(text + used);
    }
}

void select_op::describe_arm(const op&, char* text, std::size_t size) noexcept {
    std::snprintf(text, size, "an arm of select_one");
}

}  // namespace rondo::detail
