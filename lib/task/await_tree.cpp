// How the tree is taken. How it is written: await_tree_text.cpp.
//
// Two walks alternate, and neither recurses: down the tasks of a scope, in order; and from a task's
// innermost coroutine outwards, along the awaits and, in step with them, the scopes that they have entered.
#include <rondo/task/await_tree.hpp>

#include "await_tree_text.hpp"

#include <rondo/loop/detail/extras.hpp>

#include "loop/engine.hpp"
#include "loop/places.hpp"

#include <algorithm>
#include <utility>

namespace rondo {

namespace {

using detail::fiber;
using detail::promise_base;
using detail::scope;

constexpr std::size_t shown_alike = 3;  // tasks that differ in nothing but their number
constexpr std::size_t most_kinds = 16;  // told apart in one scope
constexpr std::size_t name_size = 100;

bool same_place(const std::source_location& a, const std::source_location& b) noexcept {
    return a.line() == b.line() && a.column() == b.column() && a.file_name() == b.file_name();
}

/// A line of this library says nothing to who reads the tree.
std::source_location of_the_program(const std::source_location& place) noexcept {
    return detail::is_ours(place) ? std::source_location() : place;
}

std::string cut(std::string_view text) {
    if (text.size() <= name_size) return std::string(text);
    std::size_t size = name_size - 3;
    while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;  // whole characters
    return std::string(text.substr(0, size)) + "...";
}

/// Tasks of one scope that are alike: spawned on one line, waiting on one line for one kind of thing.
struct likeness {
    std::source_location spawned;
    std::source_location waits_at;
    const op_vtable* waits_for;
    task_activity activity;
    std::uint32_t first = 0;  // its number
    std::size_t shown = 0;
    std::size_t left_out = 0;

    bool operator==(const likeness& other) const noexcept {
        return waits_for == other.waits_for && activity == other.activity && same_place(spawned, other.spawned) &&
               same_place(waits_at, other.waits_at);
    }
};

/// Takes what belongs to `tree`, one scope after the other.
class walk {
 public:
    walk(await_tree& tree, const detail::scheduler& l, const tree_options& limits)
        : tree_(tree), of_(l), limits_(limits) {}

    void run() {
        scope_tasks(of_.root(), 0);
        while (!pending_.empty()) {
            pending next = std::move(pending_.back());
            pending_.pop_back();
            if (next.tasks_of != nullptr) {
                scope_tasks(*next.tasks_of, next.node.depth);
            } else {
                tree_.nodes.push_back(std::move(next.node));
                if (next.task != nullptr) task_awaits(*next.task, *next.home);
            }
        }
    }

 private:
    /// What comes later in the order of the nodes: a node, with the task's awaits below it; or the tasks
    /// of a scope.
    struct pending {
        tree_node node;
        const fiber* task = nullptr;
        const scope* home = nullptr;  // the scope the task was spawned into
        const scope* tasks_of = nullptr;
    };

    task_activity activity_of(const fiber& f) const noexcept {
        if (&f == of_.current_fiber()) return task_activity::running;
        if (f.leaf == nullptr)
            return f.waiting == &detail::in_line ? task_activity::held_back : task_activity::not_started;
        return f.waiting != nullptr && f.waiting->pending() ? task_activity::waiting : task_activity::ready;
    }

    // The tasks to show, and how many more there are; these lines come next.
    void scope_tasks(const scope& s, std::size_t depth) {
        if (s.size() == 0) return;
        const std::size_t before = pending_.size();
        std::vector<likeness> kinds;
        std::size_t left_out = s.size();  // of no kind that is told apart
        for (const fiber* f = &s.tasks().front(); f != nullptr; f = s.tasks().after(*f)) {
            if (looked_at_ == limits_.max_visits) break;
            ++looked_at_;
            ++tree_.visits;
            const task_activity activity = activity_of(*f);
            const likeness seen{f->place, detail::shown_place(*f),
                                activity == task_activity::waiting ? f->waiting->vt : nullptr, activity};
            auto kind = std::find(kinds.begin(), kinds.end(), seen);
            if (kind == kinds.end()) {
                if (kinds.size() == most_kinds) continue;
                kind = kinds.insert(kind, seen);
                kind->first = f->id;
            }
            --left_out;
            if (kind->shown == shown_alike || tree_.shown == limits_.max_tasks) {
                ++kind->left_out;
                continue;
            }
            ++kind->shown;
            ++tree_.shown;
            pending_.push_back({task_node(*f, activity, depth), f, &s});
        }
        for (const likeness& kind : kinds) {
            if (kind.shown == 0) {
                left_out += kind.left_out;
            } else if (kind.left_out != 0) {
                push_more(kind.left_out, kind.first, kind.spawned, depth);
            }
        }
        if (left_out != 0) push_more(left_out, 0, {}, depth);
        std::reverse(pending_.begin() + static_cast<std::ptrdiff_t>(before), pending_.end());
    }

    void push_more(std::size_t count, std::uint32_t like, std::source_location spawned, std::size_t depth) {
        tree_node more;
        more.what = tree_node::kind::more;
        more.depth = depth;
        more.count = count;
        more.task = like;
        more.place = of_the_program(spawned);
        pending_.push_back({std::move(more)});
    }

    tree_node task_node(const fiber& f, task_activity activity, std::size_t depth) const {
        tree_node node;
        node.depth = depth;
        node.task = f.id;
        node.place = of_the_program(f.place);
        node.main = detail::is_main_task(f);
        node.activity = activity;
        node.cancelled = f.cancel_asked != 0;
        node.background = (f.flags & fiber::background) != 0;
        if (f.more != nullptr) node.name = cut(f.more->name);
        const observer* const by = detail::engine::of(of_).watched_by();
        if (task_time time; by != nullptr && by->time_of(f.id, time)) node.time = time;
        if (activity == task_activity::waiting) {
            char text[160] = "";
            f.waiting->vt->describe(*f.waiting, text, sizeof text);
            node.waits_for = text;
            if (f.more != nullptr && f.more->waits_since != never) node.waited = of_.now() - f.more->waits_since;
        }
        return node;
    }

    /// A coroutine of a task, or one more scope that it has entered.
    struct level {
        const promise_base* at;
        const scope* entered;
    };

    // From the innermost coroutine outwards, as far as there is room; then written the other way round.
    // The library's own coroutines show by the scopes that they enter for the program's.
    void task_awaits(const fiber& f, const scope& home) {
        const std::size_t depth = tree_.nodes.back().depth + 1;
        const std::size_t room = limits_.max_depth >= depth ? limits_.max_depth - depth + 1 : 0;
        levels_.clear();
        const promise_base* at = f.leaf;
        const scope* inside = f.inside;
        for (; at != nullptr && levels_.size() < 4 * room; at = at->parent) {
            const std::size_t before = levels_.size();
            for (; inside != &home && inside->entered_by() == at; inside = inside->parent())
                levels_.push_back({at, inside});
            if (levels_.size() == before) levels_.push_back({at, nullptr});
        }
        tree_.visits += levels_.size();

        std::vector<std::pair<tree_node, const scope*>> chain;
        for (auto it = levels_.rbegin(); it != levels_.rend(); ++it) {
            const bool ours = detail::is_ours(it->at->site);
            const bool same = it != levels_.rbegin() && (it - 1)->at == it->at;
            const bool joins = (ours || same) && !chain.empty() && chain.back().second == nullptr;
            if (it->entered == nullptr) {
                if (!ours) chain.emplace_back(await_node(it->at->site), nullptr);
            } else {
                if (!joins) chain.emplace_back(await_node(it->at->site), nullptr);
                add_scope(chain.back().first, *it->entered);
                chain.back().second = it->entered;
            }
        }
        const std::size_t dropped = chain.size() > room ? chain.size() - room : 0;
        const bool gap = room != 0 && (at != nullptr || dropped != 0);
        std::size_t below = depth;
        if (gap) {
            tree_node node;
            node.what = tree_node::kind::gap;
            node.depth = depth;
            tree_.nodes.push_back(std::move(node));
        }
        for (std::size_t i = dropped; i < chain.size(); ++i) {
            auto& [node, entered] = chain[i];
            node.depth = below++;
            node.innermost = i + 1 == chain.size();
            if (entered != nullptr && entered->size() != 0) {
                pending tasks;
                tasks.node.depth = below;
                tasks.tasks_of = entered;
                pending_.push_back(std::move(tasks));
            }
            tree_.nodes.push_back(std::move(node));
        }
    }

    static tree_node await_node(const std::source_location& site) {
        tree_node node;
        node.what = tree_node::kind::await;
        node.place = of_the_program(site);
        return node;
    }

    static void add_scope(tree_node& node, const scope& s) {
        node.scope = s.kind();
        node.count = s.size();
        node.deadline = s.deadline();
        node.cancelled = s.cancelled();
        node.shielded = s.is_shielded();
        node.reason = cut(s.reason());
    }

    await_tree& tree_;
    const detail::scheduler& of_;
    const tree_options limits_;
    std::size_t looked_at_ = 0;  // tasks
    std::vector<pending> pending_;
    std::vector<level> levels_;
};

/// Who describes a socket asks the loop that runs for its peer.
struct as_current {
    explicit as_current(const detail::scheduler& l) noexcept
        : outer(std::exchange(detail::current, const_cast<detail::scheduler*>(&l))) {}
    ~as_current() { detail::current = outer; }
    as_current(const as_current&) = delete;
    as_current& operator=(const as_current&) = delete;
    detail::scheduler* outer;
};

}  // namespace

await_tree::await_tree(const loop& l, const tree_options& options)
    : tasks(l.stats().tasks), taken(l.now()), next_timer(detail::engine::of(l).next_timer()), backend(l.kind()) {
    const detail::scheduler& of = detail::scheduler::of(l);
    of.check_thread("await_tree");
    const as_current current(of);
    walk(*this, of, options).run();
}

std::string await_tree::text() const { return text_of(*this); }

std::string await_tree::json() const { return json_of(*this); }

}  // namespace rondo
