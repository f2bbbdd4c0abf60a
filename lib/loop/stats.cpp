#include <rondo/loop/stats.hpp>

#include <rondo/loop/detail/extras.hpp>

#include "engine.hpp"
#include "places.hpp"
#include "remote_state.hpp"

#include <chrono>
#include <cstdio>

namespace rondo::detail {

bool engine::alive() const noexcept {
    return timers_.size() > unref_timers_ || immediate_count_ > unref_immediates_ || armed_io_ != 0 ||
           backend_->reaping() != 0 || closing_count_ != 0 || watcher_count_ > unref_watchers_ || work_queued() ||
           shared_->handle_count() != 0 || shared_->has_posts() || !ready_at_fork_.empty();
}

namespace {

std::string describe(const op& o) {
    char text[160] = "";
    o.vt->describe(o, text, sizeof text);
    return text;
}

std::string due_in(time_point deadline, time_point now) {
    if (deadline == never) return "never due";
    char text[64];
    const double ms = std::chrono::duration<double, std::milli>(deadline - now).count();
    std::snprintf(text, sizeof text, "due in %.3f ms", ms > 0 ? ms : 0);
    return text;
}

}  // namespace

std::vector<alive_entry> engine::why_alive(std::source_location called_at) const {
    check_thread("why_alive", called_at);
    std::vector<alive_entry> all;
    timers_.for_each([&](const op& o, time_point deadline) {
        if (o.owner != nullptr) return;  // a sleeping task: listed below
        const auto& node = static_cast<const handle_node&>(o);
        if (!node.referenced || !timers_.armed(node.slot)) return;
        const char* what = node.what == handle_node::sort::interval ? "interval, " : "timer, ";
        all.push_back({what + due_in(deadline, now_), node.place});
    });
    immediates_.for_each([&](const linked_op& o) {
        if (o.owner != nullptr) return;
        const auto& node = static_cast<const handle_node&>(o);
        if (node.referenced) all.push_back({"immediate", node.place});
    });
    closing_.for_each([&](const handle_node& node) { all.push_back({"close callback", node.place}); });
    const auto watcher = [&](const char* what) {
        return [&all, what](const handle_node& node) {
            if (node.referenced) all.push_back({what, node.place});
        };
    };
    idle_.for_each(watcher("idle watcher"));
    prepare_.for_each(watcher("prepare watcher"));
    check_.for_each(watcher("check watcher"));
    const auto queued = [&](const char* what) {
        return [&all, what](const ready_node& node) {
            if (node.what == ready_node::kind::callback)
                all.push_back({what, static_cast<const callback&>(node).place});
        };  // a task: listed below
    };
    ticks_.for_each(queued("tick"));
    microtasks_.for_each(queued("microtask"));
    shared_->for_each(queued("post from another thread"));
    for_each_task([&](const fiber& f) {
        std::string what = std::string(task_label(f).text) + ": ";
        if (&f == current_fiber_) {
            what += "running";
        } else if (f.waiting != nullptr && f.waiting->pending()) {
            what += describe(*f.waiting);
        } else {
            what += "ready to run";
        }
        all.push_back({std::move(what), shown_place(f)});
    });
    if (const std::size_t n = shared_->handle_count(); n != 0)
        all.push_back({std::to_string(n) + (n == 1 ? " remote handle" : " remote handles"), remote_place_});
    if (!put_off_.empty())
        all.push_back({std::to_string(put_off_.size()) + (put_off_.size() == 1 ? " operation" : " operations") +
                           " put off to the next turn",
                       {}});
    if (const std::size_t n = backend_->reaping(); n != 0)
        all.push_back({std::to_string(n) + (n == 1 ? " socket is" : " sockets are") + " being closed", {}});
    if (escaped_) all.push_back({"an error that the error hook threw", {}});
    return all;
}

loop_stats engine::stats() const noexcept {
    check_thread("stats");
    loop_stats now = stats_;
    scopes_.for_each([&](const scope& s) { now.tasks += s.size(); });
    now.timers = timers_.size();
    now.operations = armed_io_ + backend_->reaping();
    now.remotes = shared_->handle_count();
    now.posts_waiting = shared_->waiting();
    return now;
}

std::string engine::backend_info() const { return backend_->describe() + " (" + why_backend_ + ")"; }

time_point engine::next_deadline() const noexcept {
    check_thread("next_deadline");
    if (work_queued() || !idle_.empty() || shared_->has_posts()) return now_;
    return next_timer();
}

int engine::poll_fd() {
    check_thread("poll_fd");
    embedded_ = true;
    if (!running_ && !shared_->sleep()) backend_->wake();
    return backend_->poll_fd();
}

void engine::spin(delay by) noexcept {
    check_thread("spin");
    backend_->spin(by.value());
    refresh_now();
}

}  // namespace rondo::detail
