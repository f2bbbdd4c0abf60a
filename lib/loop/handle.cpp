// Callbacks with handles: timers, immediates, watchers.
#include <rondo/loop/handle.hpp>

#include "engine.hpp"

#include <cerrno>

namespace rondo {

namespace detail {
namespace {
// Nodes never wait in a fiber's name: the loop fires and cancels them itself.
constexpr op_vtable node_vtable = {[](op&) noexcept {}, [](op&) noexcept {},
                                   [](const op&, char* text, std::size_t size) noexcept {
                                       if (size > 0) text[0] = '\0';
                                   }};
}  // namespace

handle_node::handle_node(void (*f)(handle_node&, act), std::source_location made) noexcept
    : linked_op(node_vtable), invoke(f), place(made) {}

}  // namespace detail

using detail::engine;
using detail::handle_node;

// --- the public handles ------------------------------------------------------------------------------

handle::handle(handle_node& node) noexcept : node_(&node) { ++node.count; }
// A handle knows no place of its use; the check names the line that made what it stands for.
[[gnu::noinline, gnu::cold]] static void check_node(const handle_node* node, const char* what) noexcept {
    if (node != nullptr && node->of != nullptr) node->of->check_thread(what, node->place);
}
static inline void check_handle(const handle_node* node, const char* what) noexcept {
    if (detail::debug_enabled) [[unlikely]]
        check_node(node, what);
}

handle::handle(const handle& other) noexcept : node_(other.node_) {
    if (node_ == nullptr) return;
    ++node_->count;
    if (detail::debug_enabled) [[unlikely]]
        check_node(node_, "copying the handle made here");
}
handle::~handle() {
    if (node_ == nullptr) return;
    if (detail::debug_enabled) [[unlikely]] {
        engine::release_checked(*node_);
    } else {
        engine::release(*node_);
    }
}

// Not inlined into timer::cancel, whose short way would pay for it.
[[gnu::noinline]] void handle::cancel() noexcept {
    check_handle(node_, "cancel() of the handle made here");
    if (node_ != nullptr && engine::is_active(*node_)) node_->of->remove(*node_);
}

bool handle::active() const noexcept {
    check_handle(node_, "active() of the handle made here");
    return node_ != nullptr && engine::is_active(*node_);
}
bool handle::referenced() const noexcept {
    check_handle(node_, "referenced() of the handle made here");
    return node_ != nullptr && node_->referenced;
}
void handle::ref() noexcept {
    if (node_ != nullptr) engine::set_referenced(*node_, true);
}
void handle::unref() noexcept {
    if (node_ != nullptr) engine::set_referenced(*node_, false);
}

timer::timer(handle_node& node) noexcept : handle(node), slot_(node.slot), loop_(node.of->serial()) {}

// On the loop's own thread, while it runs, the handle knows all that is needed: the node, which would
// be a cache miss, is left alone.
inline engine* timer::here() const noexcept {
    detail::scheduler* const s = detail::current;
    return s != nullptr && s->serial() == loop_ ? &engine::of(*s) : nullptr;
}

void timer::cancel() noexcept {
    if (engine* l = here(); l != nullptr && l->unref_nodes_ == 0 && node_ != nullptr) [[likely]] {
        if (l->timers_.armed(slot_)) l->timers_.disarm(slot_);
    } else {
        handle::cancel();
    }
}

void timer::rearm(delay after) noexcept {
    if (engine* l = here(); l != nullptr) [[likely]] {
        if (node_ != nullptr) l->arm(*node_, slot_, after);
    } else {
        rearm_elsewhere(after);
    }
}

[[gnu::noinline]] void timer::rearm_elsewhere(delay after) noexcept {
    check_handle(node_, "rearm() of the handle made here");
    if (node_ != nullptr && node_->of != nullptr) node_->of->arm(*node_, slot_, after);
}

void timer::rearm() noexcept {
    if (node_ != nullptr && node_->of != nullptr) rearm(delay(node_->of->timers_.period(slot_)));
}

void watcher::start() noexcept {
    check_handle(node_, "start() of the watcher made here");
    if (node_ == nullptr || node_->of == nullptr || node_->active) return;
    node_->of->start_watcher(*node_);
}

}  // namespace rondo

namespace rondo::detail {

// --- the loop's side: timers -------------------------------------------------------------------------

[[gnu::noinline, gnu::cold]] void engine::check_new(const handle_node& node, handle_node::sort what) const noexcept {
    constexpr const char* names[] = {"set_timeout", "set_interval", "set_immediate", "on_idle",
                                     "on_prepare",  "on_check",     "queue_close"};
    assert_thread(names[static_cast<std::size_t>(what)], node.place);
}

handle_node& engine::add_timer_node(handle_node& node, delay after, bool repeats) {
    if (debug_enabled) [[unlikely]]
        check_new(node, repeats ? handle_node::sort::interval : handle_node::sort::timer);
    try {
        node.slot = timers_.acquire(node);
    } catch (...) {
        node.invoke(node, handle_node::act::drop);
        throw;
    }
    node.of = this;
    node.what = repeats ? handle_node::sort::interval : handle_node::sort::timer;
    arm(node, node.slot, after);
    return node;
}

void engine::arm(handle_node& node, std::uint32_t slot, delay after) noexcept {
    // Of an interval that did not wait, virtual time would stand still.
    if (after.value() <= duration::zero() && node.what == handle_node::sort::interval) [[unlikely]]
        after = duration(1);
    timers_.period(slot) = after.value();
    if (timers_.armed(slot)) {
        timers_.disarm(slot);
    } else if (unref_nodes_ != 0 && !node.referenced) {
        ++unref_timers_;
    }
    timers_.arm(slot, after.after(now_));
}

// --- the others --------------------------------------------------------------------------------------

ring<handle_node>& engine::watchers(const handle_node& node) noexcept {
    switch (node.what) {
        case handle_node::sort::idle: return idle_;
        case handle_node::sort::prepare: return prepare_;
        default: return check_;
    }
}

void engine::activate(handle_node& node) noexcept {
    node.active = true;
    if (!node.referenced) ++unreferenced(node.what);
}

handle_node& engine::add_immediate_node(handle_node& node) noexcept {
    if (debug_enabled) [[unlikely]]
        check_new(node, handle_node::sort::immediate);
    node.of = this;
    node.what = handle_node::sort::immediate;
    immediates_.push_back(node);
    ++immediate_count_;
    activate(node);
    return node;
}

handle_node& engine::add_watcher_node(handle_node& node, phase in) noexcept {
    const auto what = in == phase::idle      ? handle_node::sort::idle
                      : in == phase::prepare ? handle_node::sort::prepare
                                             : handle_node::sort::check;
    if (debug_enabled) [[unlikely]]
        check_new(node, what);
    node.of = this;
    node.what = what;
    start_watcher(node);
    return node;
}

void engine::start_watcher(handle_node& node) noexcept {
    if (node.linked()) node.unlink();  // from the stopped ones
    watchers(node).push_back(node);
    ++watcher_count_;
    activate(node);
}

// Newest first: libuv keeps closing handles on a stack.
void engine::add_close_node(handle_node& node) noexcept {
    if (debug_enabled) [[unlikely]]
        check_new(node, handle_node::sort::close);
    node.of = this;
    node.what = handle_node::sort::close;
    closing_.push_front(node);
    ++closing_count_;
    activate(node);
}

// --- all of them -------------------------------------------------------------------------------------

bool engine::is_active(const handle_node& node) noexcept {
    if (!node.is_timer()) return node.active;
    return node.of != nullptr && node.of->timers_.armed(node.slot);
}

std::size_t& engine::unreferenced(handle_node::sort what) noexcept {
    switch (what) {
        case handle_node::sort::timer:
        case handle_node::sort::interval: return unref_timers_;
        case handle_node::sort::immediate: return unref_immediates_;
        default: return unref_watchers_;
    }
}

void engine::set_referenced(handle_node& node, bool referenced) noexcept {
    check_handle(&node, "ref() or unref() of the handle made here");
    if (node.referenced == referenced) return;
    node.referenced = referenced;
    engine* const l = node.of;
    if (l == nullptr) return;
    const bool active = is_active(node);
    if (referenced) {
        --l->unref_nodes_;
        if (active) --l->unreferenced(node.what);
    } else {
        ++l->unref_nodes_;
        if (active) ++l->unreferenced(node.what);
    }
}

// Ends an active node's activity, wherever it is queued.
void engine::remove(handle_node& node) noexcept {
    if (node.is_timer()) {
        timers_.disarm(node.slot);
    } else {
        if (node.linked()) node.unlink();
        switch (node.what) {
            case handle_node::sort::immediate: --immediate_count_; break;
            case handle_node::sort::close: --closing_count_; break;
            default: --watcher_count_; stopped_watchers_.push_back(node);
        }
    }
    deactivated(node);
    if (node.count == 0) forget(node);
}

// Its activity has ended: the count of unreferenced ones follows. Timers and watchers can start again.
void engine::deactivated(handle_node& node) noexcept {
    node.active = false;
    if (!node.referenced) --unreferenced(node.what);
    if (node.what != handle_node::sort::immediate && node.what != handle_node::sort::close) return;
    if (!node.referenced) --unref_nodes_;
    node.of = nullptr;
}

void engine::release(handle_node& node) noexcept {
    if (--node.count == 0 && !is_active(node)) forget(node);
}

[[gnu::noinline, gnu::cold]] void engine::release_checked(handle_node& node) noexcept {
    check_handle(&node, "dropping the handle made here");
    release(node);
}

// A node of which neither handle nor activity is left.
void engine::forget(handle_node& node) noexcept {
    if (engine* const l = node.of; l != nullptr) {
        if (!node.referenced) --l->unref_nodes_;
        if (node.is_timer()) l->timers_.release(node.slot);
    }
    if (node.linked()) node.unlink();
    node.invoke(node, handle_node::act::drop);
}

// The loop goes; handles may stay.
void engine::orphan(handle_node& node) noexcept {
    if (node.linked()) node.unlink();
    if (node.is_timer()) {
        if (timers_.armed(node.slot)) timers_.disarm(node.slot);
        timers_.release(node.slot);
    }
    node.active = false;
    node.of = nullptr;
    if (node.count == 0) forget(node);
}

// What a callable's destructor starts now is orphaned as well.
void engine::orphan_handles() noexcept {
    bool again;
    do {
        again = false;
        const auto take = [&](op& o) {
            orphan(static_cast<handle_node&>(o));
            again = true;
        };
        timers_.for_each([&](op& o, time_point) { take(o); });
        while (!immediates_.empty()) take(immediates_.front());
        for (auto* list : {&idle_, &prepare_, &check_, &stopped_watchers_, &closing_})
            while (!list->empty()) take(list->front());
    } while (again);
}

}  // namespace rondo::detail
