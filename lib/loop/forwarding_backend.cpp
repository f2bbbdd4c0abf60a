#include <rondo/loop/forwarding_backend.hpp>

namespace rondo {

forwarding_backend::~forwarding_backend() = default;

backend_kind forwarding_backend::kind() const noexcept { return inside_->kind(); }
std::string forwarding_backend::describe() const { return inside_->describe(); }

time_point forwarding_backend::now() noexcept { return inside_->now(); }
std::int64_t forwarding_backend::wall_now() noexcept { return inside_->wall_now(); }
std::uint64_t forwarding_backend::random() noexcept { return inside_->random(); }
std::uint32_t forwarding_backend::choose(choice point, std::uint32_t alternatives) noexcept {
    return inside_->choose(point, alternatives);
}
void forwarding_backend::spin(duration by) noexcept { inside_->spin(by); }

bool forwarding_backend::submit(io_op& what) noexcept { return inside_->submit(what); }
void forwarding_backend::cancel(io_op& what) noexcept { inside_->cancel(what); }
int forwarding_backend::control(sys_op& what) noexcept { return inside_->control(what); }
void forwarding_backend::reap(int fd) noexcept {
    inside_->reap(fd);
    reaping_ = inside_->reaping();
}
void forwarding_backend::give_back(void* data, std::uint32_t size, std::uint16_t buffer) noexcept {
    inside_->give_back(data, size, buffer);
}
std::size_t forwarding_backend::armed() const noexcept { return inside_->armed(); }

bool forwarding_backend::wait(time_point until, completions& done) noexcept {
    const bool goes_on = inside_->wait(until, done);
    reaping_ = inside_->reaping();
    return goes_on;
}
void forwarding_backend::wake() noexcept { inside_->wake(); }
int forwarding_backend::poll_fd() noexcept { return inside_->poll_fd(); }
void forwarding_backend::flush() noexcept { inside_->flush(); }

int forwarding_backend::watch_signals(signal_watch& who) noexcept { return inside_->watch_signals(who); }
void forwarding_backend::unwatch_signals(signal_watch& who) noexcept { inside_->unwatch_signals(who); }
std::size_t forwarding_backend::descriptor_limit() noexcept { return inside_->descriptor_limit(); }
std::size_t forwarding_backend::open_descriptors() noexcept { return inside_->open_descriptors(); }
void forwarding_backend::left_to_parent() noexcept { inside_->left_to_parent(); }

bool forwarding_backend::is_closed_world() const noexcept { return inside_->is_closed_world(); }
void forwarding_backend::expect_wakes(std::size_t handles, duration patience) noexcept {
    inside_->expect_wakes(handles, patience);
}

}  // namespace rondo
