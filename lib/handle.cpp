// Callbacks with handles: timers, immediates, watchers.
#include <rondo/loop.hpp>

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

using detail::handle_node;

// --- the public handles ------------------------------------------------------------------------------

handle::handle(handle_node& node) noexcept : node_(&node) { ++node.count; }
handle::handle(const handle& other) noexcept : node_(other.node_) {
    if (node_ != nullptr) ++node_->count;
}
handle::~handle() {
    if (node_ != nullptr) loop::release(*node_);
}

void handle::cancel() noexcept {
    if (node_ == nullptr || node_->of == nullptr) return;
    node_->of->check_thread("cancel");
    node_->of->remove(*node_);
}

bool handle::active() const noexcept { return node_ != nullptr && node_->active; }
bool handle::referenced() const noexcept { return node_ != nullptr && node_->referenced; }

void handle::ref() noexcept {
    if (node_ != nullptr && node_->of != nullptr) node_->of->set_referenced(*node_, true);
}
void handle::unref() noexcept {
    if (node_ != nullptr && node_->of != nullptr) node_->of->set_referenced(*node_, false);
}

void timer::rearm(delay after) {
    if (node_ == nullptr || node_->of == nullptr) return;
    loop& l = *node_->of;
    l.check_thread("rearm");
    handle_node& node = *node_;
    node.period = after.value();
    const time_point deadline = after.after(l.now());
    if (!node.active) return l.arm(node, deadline);
    if (node.pending()) l.timers_.remove(node);
    node.state = op::done;
    try {
        l.timers_.insert(node, deadline);
    } catch (...) {
        l.remove(node);
        throw;
    }
}

void timer::rearm() {
    if (node_ != nullptr) rearm(delay(node_->period));
}

void watcher::start() noexcept {
    if (node_ == nullptr || node_->of == nullptr || node_->active) return;
    loop& l = *node_->of;
    l.check_thread("start");
    l.watchers(*node_).push_back(*node_);
    l.activate(*node_);
}

// --- the loop's side ---------------------------------------------------------------------------------

std::size_t& loop::unreferenced(handle_node::sort what) noexcept {
    switch (what) {
        case handle_node::sort::timer:
        case handle_node::sort::interval: return unref_timers_;
        case handle_node::sort::immediate: return unref_immediates_;
        default: return unref_watchers_;
    }
}

detail::ring<handle_node>& loop::watchers(const handle_node& node) noexcept {
    switch (node.what) {
        case handle_node::sort::idle: return idle_;
        case handle_node::sort::prepare: return prepare_;
        default: return check_;
    }
}

// Active: queued somewhere, counted, and owned by the loop.
void loop::activate(handle_node& node) noexcept {
    node.active = true;
    ++node.count;
    if (!node.referenced) ++unreferenced(node.what);
}

void loop::deactivate(handle_node& node) noexcept {
    node.active = false;
    if (!node.referenced) --unreferenced(node.what);
}

void loop::set_referenced(handle_node& node, bool referenced) noexcept {
    check_thread("ref");
    if (node.referenced == referenced) return;
    node.referenced = referenced;
    if (!node.active) return;
    if (referenced) {
        --unreferenced(node.what);
    } else {
        ++unreferenced(node.what);
    }
}

handle_node& loop::add_timer(handle_node& node, delay after, bool repeats) {
    node.of = this;
    node.what = repeats ? handle_node::sort::interval : handle_node::sort::timer;
    node.period = after.value();
    try {
        arm(node, after.after(now_));
    } catch (...) {
        node.invoke(node, handle_node::act::drop);
        throw;
    }
    return node;
}

void loop::arm(handle_node& node, time_point deadline) {
    timers_.insert(node, deadline);
    activate(node);
}

handle_node& loop::add_immediate(handle_node& node) noexcept {
    node.of = this;
    node.what = handle_node::sort::immediate;
    immediates_.push_back(node);
    ++immediate_count_;
    activate(node);
    return node;
}

void loop::add_immediate(detail::linked_op& o) noexcept {
    o.state = op::armed;
    immediates_.push_back(o);
    ++immediate_count_;
}

void loop::remove_immediate(detail::linked_op& o) noexcept {
    o.unlink();
    --immediate_count_;
}

handle_node& loop::add_watcher(handle_node& node, handle_node::sort what) noexcept {
    node.of = this;
    node.what = what;
    watchers(node).push_back(node);
    ++watcher_count_;
    activate(node);
    return node;
}

// Newest first: libuv keeps closing handles on a stack.
void loop::add_close(handle_node& node) noexcept {
    node.of = this;
    node.what = handle_node::sort::close;
    closing_.push_front(node);
    ++closing_count_;
    activate(node);
}

// Ends an active node's activity, wherever it is queued.
void loop::remove(handle_node& node) noexcept {
    if (!node.active) return;
    deactivate(node);
    if (node.what <= handle_node::sort::interval) [[likely]] {
        if (node.pending()) timers_.remove(node);
        node.state = op::done;
        return release(node);
    }
    switch (node.what) {
        case handle_node::sort::immediate:
            if (node.linked()) node.unlink();
            --immediate_count_;
            break;
        case handle_node::sort::close:
            if (node.linked()) node.unlink();
            --closing_count_;
            break;
        default:
            if (node.linked()) node.unlink();
            --watcher_count_;
            break;
    }
    release(node);
}

void loop::release(handle_node& node) noexcept {
    if (--node.count == 0) node.invoke(node, handle_node::act::drop);
}

}  // namespace rondo
