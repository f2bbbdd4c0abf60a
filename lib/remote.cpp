#include "remote_state.hpp"

#include <sched.h>

namespace rondo {

void detail::remote_state::close() noexcept {
    queue<ready_node> rest = post_box::close();
    while (visited()) sched_yield();  // a push and a wake away
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

bool remote::post_callback(detail::callback& c) const noexcept {
    if (state_ != nullptr && state_->post(c)) return true;
    c.invoke(c, detail::callback::act::drop);
    return false;
}

remote loop::remote(std::source_location place) {
    check_thread("remote", place);
    remote_place_ = place;
    return rondo::remote(*shared_);
}

}  // namespace rondo
