#include <rondo/observe/observers.hpp>

#include <stdexcept>

namespace rondo {

observers::observers(std::initializer_list<observer*> all) {
    if (all.size() > all_.size()) throw std::invalid_argument("rondo::observers: more than eight");
    for (observer* o : all)
        if (o != nullptr) all_[count_++] = o;
}

void observers::on_phase(phase p, time_point when) noexcept {
    each([&](observer& o) { o.on_phase(p, when); });
}
void observers::on_polled(std::size_t completions, time_point now) noexcept {
    each([&](observer& o) { o.on_polled(completions, now); });
}
void observers::on_timers(time_point due, time_point now) noexcept {
    each([&](observer& o) { o.on_timers(due, now); });
}
void observers::on_spawn(task_view task) noexcept {
    each([&](observer& o) { o.on_spawn(task); });
}
void observers::on_ready(task_view task) noexcept {
    each([&](observer& o) { o.on_ready(task); });
}
void observers::on_step(step what, task_view task, std::source_location place) noexcept {
    each([&](observer& o) { o.on_step(what, task, place); });
}
void observers::on_wait(task_view task) noexcept {
    each([&](observer& o) { o.on_wait(task); });
}
void observers::on_end(task_view task, ending how) noexcept {
    each([&](observer& o) { o.on_end(task, how); });
}
void observers::on_step_end() noexcept {
    each([](observer& o) { o.on_step_end(); });
}

}  // namespace rondo
