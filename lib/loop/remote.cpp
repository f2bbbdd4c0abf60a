#include <rondo/loop/remote.hpp>

#include "engine.hpp"
#include "forked.hpp"
#include "remote_state.hpp"

#include <sched.h>

namespace rondo {

void detail::remote_state::close() noexcept {
    queue<ready_node> rest = post_box::close();
    while (!left_behind && visited()) sched_yield();  // a push and a wake away; a child has no visitors
    while (!rest.empty()) {
        auto& c = static_cast<callback&>(rest.pop());
        c.invoke(c, callback::act::drop);
    }
}

remote::remote(detail::remote_state& state) noexcept : state_(&state) {
    state_->retain();
    state_->handles.fetch_add(1, std::memory_order_seq_cst);
}

remote::remote(const remote& other) noexcept : state_(other.state_) {
    if (state_ == nullptr) return;
    state_->retain();
    state_->handles.fetch_add(1, std::memory_order_seq_cst);
}

remote::~remote() {
    if (state_ != nullptr) state_->drop_handle();
}

bool detail::remote_state::in_child() const noexcept {
    if (!left_behind) return false;
    if (!detail::unwinding_in_child()) detail::used_in_child("a post");
    return true;
}

bool remote::post_callback(detail::callback& c) const noexcept {
    return state_ != nullptr && !state_->in_child() && state_->post(c);
}

detail::post_place remote::reserve() const noexcept {
    if (state_ == nullptr || state_->in_child() || state_->closed()) return detail::post_place(post_status::closed);
    if (!state_->reserve()) return detail::post_place(post_status::full);
    return detail::post_place(*state_);
}

void detail::post_place::give_up(remote_state& state) noexcept { state.unreserve(); }

remote detail::engine::remote(std::source_location place) {
    check_thread("remote", place);
    if (place.line() != 0) remote_place_ = place;
    return shared_->handle();
}

detail::remote_state& detail::remote_state::of(loop& l) noexcept { return *engine::of(l).shared_; }

}  // namespace rondo
