// What the loop says about itself: alive, why, statistics.
#include <rondo/loop/detail/extras.hpp>
#include <rondo/loop/loop.hpp>
#include <rondo/task/spawn.hpp>

#include "places.hpp"
#include "remote_state.hpp"

#include <algorithm>
#include <cstdio>
#include <string_view>

namespace rondo {

namespace detail {

bool is_ours(const std::source_location& place) noexcept {
    constexpr std::string_view here = __FILE__;
    constexpr std::string_view folder = here.substr(0, here.size() - std::string_view("loop/stats.cpp").size());
    const std::string_view file = place.file_name();
    if (!folder.empty() && file.starts_with(folder)) return true;
    // A header's path is as the compiler of the user found it; inside this library it begins with rondo/.
    return file.ends_with(".hpp") &&
           (file.starts_with("rondo/") || file.find("include/rondo/") != std::string_view::npos);
}

std::source_location shown_place(const fiber& f) noexcept {
    for (const promise_base* p = f.leaf; p != nullptr; p = p->parent)
        if (!is_ours(p->site)) return p->site;
    return f.place.line() != 0 || f.leaf == nullptr ? f.place : f.leaf->site;
}

std::string_view base_name(const std::source_location& place) noexcept {
    const std::string_view path = place.file_name();
    return path.substr(path.rfind('/') + 1);
}

// "void ns::f(f(int)::_ZN2ns1fEi.Frame*)" (GCC), "task ns::f(int)" (clang): the name in it.
std::string_view function_of(const std::source_location& place) noexcept {
    std::string_view name = place.function_name();
    constexpr std::string_view deduced = "decltype(auto) ";
    if (name.starts_with(deduced)) name.remove_prefix(deduced.size());
    name = name.substr(0, name.find('('));
    name = name.substr(name.rfind(' ') + 1);
    constexpr std::string_view unnamed = "{anonymous}::";  // it says nothing, and takes room
    if (const std::size_t at = name.rfind(unnamed); at != name.npos) name.remove_prefix(at + unnamed.size());
    return name;
}

std::string at_place(const std::source_location& place) {
    if (place.line() == 0) return {};
    return std::string(" at ") + place.file_name() + ":" + std::to_string(place.line());
}

namespace {

/// The first tasks of the root scope, and where they are: " task 2 at main.cpp:7, task 3 at main.cpp:9, ...".
struct root_tasks {
    explicit root_tasks(const scope& root) noexcept {
        constexpr std::size_t most_named = 4;
        std::size_t size = 0;
        std::size_t named = 0;
        const fiber* f = &root.fibers.front();
        for (; f != nullptr && named < most_named; f = root.fibers.after(*f), ++named) {
            const std::source_location place = shown_place(*f);
            const std::string_view file = base_name(place);
            const int n = std::snprintf(text + size, sizeof text - size, "%s %s at %.*s:%u", named == 0 ? "" : ",",
                                        task_label(*f).text, static_cast<int>(std::min(file.size(), std::size_t{40})),
                                        file.data(), static_cast<unsigned>(place.line()));
            size = std::min(size + static_cast<std::size_t>(n), sizeof text - 1);
        }
        if (named < root.count) std::snprintf(text + size, sizeof text - size, ", ...");
    }
    char text[610] = "";
};

}  // namespace

void log_leftovers(const loop& l, const char* when) noexcept {
    const scope& root = l.root();
    if (root.count == 0) return;
    static log_gate gate;
    write_log(gate, log_level::debug, root.fibers.front().place, "%zu %s left %s, and cancelled:%s", root.count,
              root.count == 1 ? "task was" : "tasks were", when, root_tasks(root).text);
}

void log_stranded(const loop& l) noexcept {
    const scope& root = l.root();
    static log_gate gate;
    write_log(gate, log_level::error, root.fibers.front().place,
              "%zu %s, although cancelled when the program ended, and nothing is left that would end them. Is there "
              "a shield without a deadline?%s",
              root.count, root.count == 1 ? "task waits" : "tasks wait", root_tasks(root).text);
}

}  // namespace detail

std::uint32_t task_view::number() const noexcept { return f_ != nullptr ? f_->id : 0; }

std::string_view task_view::name() const noexcept {
    return f_ != nullptr ? detail::name_of(*f_) : std::string_view();
}

std::source_location task_view::spawned() const noexcept {
    return f_ != nullptr ? f_->place : std::source_location();
}

std::source_location task_view::place() const noexcept {
    return f_ != nullptr ? detail::shown_place(*f_) : std::source_location();
}

std::size_t task_view::sites(std::source_location* into, std::size_t most) const noexcept {
    std::size_t count = 0;
    if (f_ == nullptr) return count;
    for (const detail::promise_base* p = f_->leaf; p != nullptr && count < most; p = p->parent) into[count++] = p->site;
    return count;
}

std::size_t task_view::waits_for(char* text, std::size_t room) const noexcept {
    *text = '\0';
    if (f_ == nullptr || f_->waiting == nullptr) return 0;
    f_->waiting->vt->describe(*f_->waiting, text, room);
    return std::string_view(text).size();
}

bool loop::alive() const noexcept {
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

std::vector<alive_entry> loop::why_alive(std::source_location called_at) const {
    check_thread("why_alive", called_at);
    using detail::handle_node;
    std::vector<alive_entry> all;
    timers_.for_each([&](const op& o, time_point deadline) {
        if (o.owner != nullptr) return;  // a sleeping task: listed below
        const auto& node = static_cast<const handle_node&>(o);
        if (!node.referenced || !timers_.armed(node.slot)) return;
        const char* what = node.what == handle_node::sort::interval ? "interval, " : "timer, ";
        all.push_back({what + due_in(deadline, now_), node.place});
    });
    immediates_.for_each([&](const detail::linked_op& o) {
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
        return [&all, what](const detail::ready_node& node) {
            if (node.what == detail::ready_node::kind::callback)
                all.push_back({what, static_cast<const detail::callback&>(node).place});
        };  // a task: listed below
    };
    ticks_.for_each(queued("tick"));
    microtasks_.for_each(queued("microtask"));
    shared_->for_each(queued("post from another thread"));
    for_each_task([&](const detail::fiber& f) {
        std::string what = std::string(detail::task_label(f).text) + ": ";
        if (&f == current_fiber_) {
            what += "running";
        } else if (f.waiting != nullptr && f.waiting->pending()) {
            what += describe(*f.waiting);
        } else {
            what += "ready to run";
        }
        all.push_back({std::move(what), detail::shown_place(f)});
    });
    if (const std::size_t n = shared_->handle_count(); n != 0)
        all.push_back({std::to_string(n) + (n == 1 ? " remote handle" : " remote handles"), remote_place_});
    if (!put_off_.empty())
        all.push_back({std::to_string(put_off_.size()) +
                           (put_off_.size() == 1 ? " operation" : " operations") + " put off to the next turn",
                       {}});
    if (const std::size_t n = backend_->reaping(); n != 0)
        all.push_back({std::to_string(n) + (n == 1 ? " socket is" : " sockets are") +
                           " being closed",
                       {}});
    if (escaped_) all.push_back({"an error that the error hook threw", {}});
    return all;
}

loop_stats loop::stats() const noexcept {
    check_thread("stats");
    loop_stats now = stats_;
    scopes_.for_each([&](const detail::scope& s) { now.tasks += s.count; });
    now.timers = timers_.size();
    now.operations = armed_io_ + backend_->reaping();
    now.remotes = shared_->handle_count();
    now.posts_waiting = shared_->waiting();
    return now;
}

std::string loop::backend_info() const {
    return backend_->describe() + " (" + why_backend_ + ")";
}

time_point loop::next_deadline() const noexcept {
    check_thread("next_deadline");
    if (work_queued() || !idle_.empty() || shared_->has_posts()) return now_;
    return next_timer();
}

int loop::poll_fd() {
    check_thread("poll_fd");
    embedded_ = true;
    if (!running_ && !shared_->sleep()) backend_->wake();
    return backend_->poll_fd();
}

void loop::spin(delay by) noexcept {
    check_thread("spin");
    if (!backend_->advance(by.value())) {
        const time_point until = by.after(backend_->now());
        while (backend_->now() < until) {
        }
    }
    refresh_now();
}

}  // namespace rondo
