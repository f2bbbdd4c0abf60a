#include <rondo/loop/loop.hpp>

#include "engine.hpp"

namespace rondo {

using detail::engine;
using detail::handle_node;

loop::loop(const loop_options& options) : scheduler_(*new engine(*this, options)) {}
loop::~loop() { delete &engine::of(*this); }

remote loop::remote(std::source_location place) { return engine::of(*this).remote(place); }

void loop::run() { engine::of(*this).run(); }
bool loop::run_once() { return engine::of(*this).run_turn(true); }
bool loop::run_nowait() { return engine::of(*this).run_turn(false); }
void loop::stop(std::source_location place) noexcept { engine::of(*this).stop(place); }
bool loop::running() const noexcept { return engine::of(*this).is_running(); }
bool loop::stopped() const noexcept { return engine::of(*this).stopped(); }
bool loop::left_behind() const noexcept { return scheduler_.left_behind(); }

int loop::poll_fd() { return engine::of(*this).poll_fd(); }
time_point loop::next_deadline() const noexcept { return engine::of(*this).next_deadline(); }

void loop::update_now(std::source_location place) noexcept {
    scheduler_.check_thread("update_now", place);
    engine::of(*this).refresh_now();
}
void loop::spin(delay by) noexcept { engine::of(*this).spin(by); }

bool loop::alive() const noexcept { return engine::of(*this).alive(); }
std::vector<alive_entry> loop::why_alive(std::source_location place) const {
    return engine::of(*this).why_alive(place);
}
loop_stats loop::stats() const noexcept { return engine::of(*this).stats(); }
std::string loop::backend_info() const { return engine::of(*this).backend_info(); }
backend_kind loop::kind() const noexcept { return engine::of(*this).kind(); }
phase loop::current_phase() const noexcept { return engine::of(*this).current_phase(); }

void loop::on_unhandled(error_hook hook, void* context) noexcept { on_unhandled(hook, context, nullptr); }
void loop::on_unhandled(error_hook hook, void* context, std::shared_ptr<void> kept) noexcept {
    engine::of(*this).on_unhandled({hook, context, std::move(kept)});
}
void loop::on_dead_letter(dead_letter_hook hook, void* context) noexcept { on_dead_letter(hook, context, nullptr); }
void loop::on_dead_letter(dead_letter_hook hook, void* context, std::shared_ptr<void> kept) noexcept {
    engine::of(*this).on_dead_letter({hook, context, std::move(kept)});
}

timer loop::start_timer(handle_node& node, delay after) {
    return timer(engine::of(*this).add_timer_node(node, after, false));
}
timer loop::start_interval(handle_node& node, delay period) {
    return timer(engine::of(*this).add_timer_node(node, period, true));
}
immediate_handle loop::start_immediate(handle_node& node) noexcept {
    return immediate_handle(engine::of(*this).add_immediate_node(node));
}
watcher loop::start_watcher(handle_node& node, phase in) noexcept {
    return watcher(engine::of(*this).add_watcher_node(node, in));
}
void loop::start_close(handle_node& node) noexcept { engine::of(*this).add_close_node(node); }

}  // namespace rondo
