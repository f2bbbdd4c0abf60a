// Small programs of scopes, groups and tasks, and a model that says what each of their tasks has to see. The
// model knows the rules of docs/scopes.md and docs/cancellation.md, and nothing of the library.
//
// Time goes in ticks. Each tick has one event: a wait ends, or something is cancelled from outside, or a shield
// goes up or down. Then everything runs until it waits again, so that what follows does not depend on who of those
// that one event has woken runs first; only the order of errors may, and the model says when.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace scope_model {

// --- programs ------------------------------------------------------------------------------------------------

enum class verb {
    wait,           // until tick `number`; at once if that has passed
    fail,           // throws error `number`
    give_up,        // throws `cancelled`, although nobody cancelled anything
    scope,          // `body` in cancel scope `number`; shielded if `flag`
    group,          // `body` in task group `number`, `limit` at once
    supervisor,     // the same of a supervisor group
    spawn,          // task `number` with `body`, into the innermost group of this body; its handle is kept if `flag`
    spawn_beside,   // the same, into the group that this task is a child of
    background,     // like spawn, and the group does not wait for it
    join,           // awaits the handle of task `number`
    swallow,        // `body`; a `cancelled` that comes out of it is swallowed
    convert,        // the same, but becomes error `number`
    handle_errors,  // `body`; an error that comes out of it is noted, and is over
};

struct statement {
    verb what = verb::wait;
    int number = 0;
    bool flag = false;
    int limit = 0;  // 0: none
    std::vector<statement> body;
};
using block = std::vector<statement>;

struct event {
    enum class kind { end_wait, cancel_scope, expire_scope, cancel_group, cancel_task, shield, unshield } what;
    int number;
};

struct program {
    block main;                 // of task 0
    std::vector<event> events;  // that of tick 1 first
    int tasks = 1, scopes = 0;  // scopes and groups are numbered together
};

/// What a task sees: one line per thing that happened to it, in order.
struct line {
    std::string text;
    std::string first_error;  // of a group that failed: its first; from the model empty if either might be

    bool matches(const line& model) const {
        return text == model.text && (model.first_error.empty() || first_error == model.first_error);
    }
};
using trace = std::vector<line>;

/// A program as text, for a test that failed.
inline std::string print(const block& all, std::size_t indent = 0) {
    static const char* const names[] = {"wait",       "fail",    "give_up",      "scope",      "group",
                                        "supervisor", "spawn",   "spawn_beside", "background", "join",
                                        "swallow",    "convert", "handle_errors"};
    std::string text;
    for (const statement& s : all) {
        text += std::string(indent * 2, ' ') + names[static_cast<int>(s.what)] + " " + std::to_string(s.number);
        if (s.flag) text += s.what == verb::scope ? " shielded" : " held";
        if (s.limit != 0) text += " limit " + std::to_string(s.limit);
        text += "\n" + print(s.body, indent + 1);
    }
    return text;
}
inline std::string print(const program& p) {
    static const char* const names[] = {"end wait",    "cancel scope", "expire scope", "cancel group",
                                        "cancel task", "shield",       "unshield"};
    std::string text = print(p.main);
    for (std::size_t i = 0; i < p.events.size(); ++i)
        text += "at " + std::to_string(i + 1) + ": " + names[static_cast<int>(p.events[i].what)] + " " +
                std::to_string(p.events[i].number) + "\n";
    return text;
}

/// A group of errors as text, whatever their order.
inline std::string grouped(std::vector<std::string> errors) {
    std::sort(errors.begin(), errors.end());
    std::string text = "(";
    for (const std::string& e : errors) text += (text.size() == 1 ? "" : " ") + e;
    return text + ")";
}

// --- random programs -----------------------------------------------------------------------------------------

/// `below(n)` gives a random number in [0, n).
template <class Dice>
class generator {
 public:
    explicit generator(Dice& dice) : dice_(dice) {}

    program make() {
        left_ = 4 + static_cast<int>(dice_.below(40));
        made_.main = body(0, false, false);
        if (one_in(4)) add(event::kind::cancel_task, 0);
        for (std::size_t i = made_.events.size(); i > 1; --i)
            std::swap(made_.events[i - 1], made_.events[dice_.below(i)]);
        // A wait is known by its tick, and that is where its event came to stand.
        std::vector<int> tick_of(made_.events.size() + 1);
        for (std::size_t i = 0; i < made_.events.size(); ++i)
            if (made_.events[i].what == event::kind::end_wait) {
                tick_of[static_cast<std::size_t>(made_.events[i].number)] = static_cast<int>(i) + 1;
                made_.events[i].number = static_cast<int>(i) + 1;
            }
        number_waits(made_.main, tick_of);
        return std::move(made_);
    }

 private:
    bool one_in(std::size_t n) { return dice_.below(n) == 0; }
    void add(event::kind what, int number) { made_.events.push_back({what, number}); }

    // In a group's body there is someone to spawn into; a child has siblings.
    block body(int depth, bool in_group, bool is_child) {
        block all;
        std::vector<int> joinable;
        const std::size_t count = 1 + dice_.below(5);
        for (std::size_t i = 0; i < count && left_ > 0; ++i) all.push_back(one(depth, in_group, is_child, joinable));
        return all;
    }

    statement one(int depth, bool in_group, bool is_child, std::vector<int>& joinable) {
        --left_;
        statement s;
        const std::size_t roll = dice_.below(100);
        if (in_group && roll < 35) return spawn(one_in(6) ? verb::background : verb::spawn, depth, joinable);
        if (in_group && roll < 50 && !joinable.empty()) {
            s.what = verb::join;
            s.number = joinable.back();
            joinable.pop_back();
            if (one_in(2)) add(event::kind::cancel_task, s.number);
            return s;
        }
        if (is_child && roll < 10) return spawn(verb::spawn_beside, depth, joinable);
        if (depth >= 6 || (depth > 1 && roll < 40)) return wait();
        if (depth > 1 && roll < 48) {
            s.what = one_in(6) ? verb::give_up : verb::fail;
            if (s.what == verb::fail) s.number = ++errors_;
            return s;
        }
        const std::size_t which = dice_.below(100);
        s.what = which < 24   ? verb::scope
                 : which < 55 ? verb::group
                 : which < 72 ? verb::supervisor
                 : which < 80 ? verb::swallow
                 : which < 90 ? verb::convert
                              : verb::handle_errors;
        if (s.what == verb::scope || s.what == verb::group || s.what == verb::supervisor) {
            s.number = made_.scopes++;
            const bool group = s.what != verb::scope;
            s.flag = !group && one_in(3);
            s.limit = group && one_in(3) ? 1 + static_cast<int>(dice_.below(2)) : 0;
            if (group && one_in(4)) add(event::kind::cancel_group, s.number);
            if (!group && one_in(2)) add(one_in(2) ? event::kind::cancel_scope : event::kind::expire_scope, s.number);
            if (!group && one_in(5)) add(s.flag ? event::kind::unshield : event::kind::shield, s.number);
            s.body = body(depth + 1, group, is_child);
            return s;
        }
        if (s.what == verb::convert) s.number = ++errors_;
        s.body = body(depth + 1, false, is_child);
        return s;
    }

    statement wait() {
        statement s;
        s.number = ++waits_;
        add(event::kind::end_wait, s.number);
        return s;
    }

    statement spawn(verb how, int depth, std::vector<int>& joinable) {
        statement s;
        s.what = how;
        s.number = made_.tasks++;
        s.flag = one_in(2);
        if (s.flag && one_in(3)) add(event::kind::cancel_task, s.number);
        if (s.flag && how == verb::spawn) joinable.push_back(s.number);
        s.body = body(depth + 1, false, true);
        return s;
    }

    static void number_waits(block& all, const std::vector<int>& tick_of) {
        for (statement& s : all) {
            if (s.what == verb::wait) s.number = tick_of[static_cast<std::size_t>(s.number)];
            number_waits(s.body, tick_of);
        }
    }

    Dice& dice_;
    program made_;
    int left_ = 0, waits_ = 0, errors_ = 0;
};

// --- the model -----------------------------------------------------------------------------------------------

class model {
 public:
    explicit model(const program& p) : program_(p) {
        open_.resize(static_cast<std::size_t>(p.scopes));
        tasks_.resize(static_cast<std::size_t>(p.tasks));
        start(0, p.main, nullptr, false, false);
        drain();
        for (now_ = 1; now_ <= static_cast<int>(p.events.size()); ++now_) {
            happens(p.events[static_cast<std::size_t>(now_) - 1]);
            drain();
        }
    }

    /// What task `number` sees; nothing if it was never spawned.
    const trace& of(int number) const { return tasks_[static_cast<std::size_t>(number)].seen; }
    /// The errors that went to the handlers of supervisor groups, sorted.
    std::vector<std::string> handled() const {
        std::vector<std::string> all = handled_;
        std::sort(all.begin(), all.end());
        return all;
    }

 private:
    /// Nothing, `cancelled`, or an error.
    struct thrown {
        enum class kind { nothing, cancelled, error } what = kind::nothing;
        std::string text = {};
        std::string first = {};  // of a group's error, if it is certain
        explicit operator bool() const { return what != kind::nothing; }
        bool is_cancelled() const { return what == kind::cancelled; }
    };
    static thrown cancelled() { return {thrown::kind::cancelled}; }
    static thrown error(std::string text) { return {thrown::kind::error, std::move(text)}; }

    struct scope {
        int holder;     // a task
        int depth;      // which of the holder's scopes it is, outermost 0
        bool is_cancelled = false, is_shielded = false;
        // of groups
        bool is_group = false, is_supervisor = false;
        int slots = 1 << 30;
        int alive = 0, background = 0;
        std::deque<int> queued = {};  // children that wait for a slot
        bool body_over = false, absorbs = false, incomplete = false;
        thrown body_result = {};
        std::vector<std::string> errors = {};
        std::string first_error = {};
        bool first_is_certain = false;
    };

    struct frame {
        const statement* of;  // null: the task's own body
        const block* list;
        std::size_t next = 0;
    };

    enum class state { unborn, waits_for_slot, unstarted, ready, waits_for_tick, joins, waits_for_children, over };

    struct task {
        state is = state::unborn;
        const block* body = nullptr;
        scope* home = nullptr;  // null: of nobody's
        std::vector<frame> frames;
        std::vector<std::unique_ptr<scope>> inside;
        int awaits = 0;  // a tick or a task
        thrown wake;     // what its wait ends with
        thrown result;
        int joined_by = -1;
        bool cancel_asked = false, is_background = false, is_held = false, has_slot = false;
        trace seen;
    };

    task& at(int number) { return tasks_[static_cast<std::size_t>(number)]; }

    // --- cancellation: a walk outwards, as the documentation tells it

    bool is_cancelled(int number) { return is_cancelled(number, at(number).inside.size()); }
    /// Whether a wait in the outermost `depth` scopes of a task is cancelled.
    bool is_cancelled(int number, std::size_t depth) {
        task* t = &at(number);
        for (;;) {
            while (depth-- > 0) {
                const scope& s = *t->inside[depth];
                if (s.is_cancelled) return true;
                if (s.is_shielded) return false;
            }
            if (t->cancel_asked) return true;
            if (t->home == nullptr) return false;
            if (t->home->is_cancelled) return true;
            depth = static_cast<std::size_t>(t->home->depth);
            t = &at(t->home->holder);
        }
    }

    /// Whether a group, hence each of its children, is.
    bool is_cancelled(const scope& g) {
        return g.is_cancelled || is_cancelled(g.holder, static_cast<std::size_t>(g.depth));
    }

    /// After something was cancelled or unshielded: every wait that has to end ends, also that for a slot.
    void interrupt() {
        for (int i = 0; i < program_.tasks; ++i) {
            task& t = at(i);
            if (t.is == state::waits_for_slot && is_cancelled(i)) {
                std::erase(t.home->queued, i);
                t.is = state::unstarted;
                ready_.push_back(i);
            }
            if ((t.is == state::waits_for_tick || t.is == state::joins) && is_cancelled(i)) {
                if (t.is == state::joins) at(t.awaits).joined_by = -1;
                make_ready(i, cancelled());
            }
        }
    }
    void cancel(scope& s) {
        s.is_cancelled = true;
        interrupt();
    }

    void happens(const event& e) {
        scope* const s = e.what == event::kind::end_wait || e.what == event::kind::cancel_task
                             ? nullptr
                             : open_[static_cast<std::size_t>(e.number)];
        switch (e.what) {
            case event::kind::end_wait:
                for (int i = 0; i < program_.tasks; ++i)
                    if (at(i).is == state::waits_for_tick && at(i).awaits == now_) make_ready(i, {});
                break;
            case event::kind::cancel_scope:
            case event::kind::expire_scope:
            case event::kind::cancel_group:
                if (s != nullptr) cancel(*s);
                break;
            case event::kind::cancel_task:
                if (at(e.number).is == state::unborn || at(e.number).is == state::over) break;
                at(e.number).cancel_asked = true;
                interrupt();
                break;
            case event::kind::shield:
            case event::kind::unshield:
                if (s == nullptr) break;
                s->is_shielded = e.what == event::kind::shield;
                interrupt();
                break;
        }
    }

    // --- tasks

    void start(int number, const block& body, scope* home, bool background, bool held) {
        task& t = at(number);
        t.is = state::unstarted;
        t.body = &body;
        t.home = home;
        t.is_background = background;
        t.is_held = held;
        if (home != nullptr) {
            ++home->alive;
            home->background += background;
            if (!is_cancelled(*home)) {  // else it needs no slot to end
                if (home->slots == 0) {
                    t.is = state::waits_for_slot;
                    return home->queued.push_back(number);
                }
                --home->slots;
                t.has_slot = true;
            }
        }
        ready_.push_back(number);
    }
    void make_ready(int number, thrown with) {
        at(number).is = state::ready;
        at(number).wake = std::move(with);
        ready_.push_back(number);
    }
    void drain() {
        while (!ready_.empty()) {
            const int number = ready_.front();
            ready_.pop_front();
            step(number);
        }
    }

    void step(int number) {
        task& t = at(number);
        if (t.is == state::unstarted) {
            if (is_cancelled(number)) {
                note(t, "never ran");
                return ends(number, cancelled());
            }
            t.frames.push_back({nullptr, t.body});
        }
        t.is = state::ready;
        if (resume(number, std::exchange(t.wake, {}))) ends(number, std::exchange(t.result, {}));
    }

    /// Goes on until the task waits (false) or has ended (true).
    bool resume(int number, thrown flying) {
        task& t = at(number);
        for (;;) {
            frame& f = t.frames.back();
            const bool finishing = f.of != nullptr && is_group(*f.of) && t.inside.back()->body_over;
            if (flying || finishing || f.next == f.list->size()) {
                // This frame is left: normally, or because of what flies.
                if (f.of == nullptr) {
                    t.frames.pop_back();
                    t.result = std::move(flying);
                    return true;
                }
                if (!leave(number, flying)) return false;
                continue;
            }
            const statement& s = (*f.list)[f.next++];
            if (!execute(number, s, flying)) return false;
        }
    }

    static bool is_group(const statement& s) { return s.what == verb::group || s.what == verb::supervisor; }

    /// False: the task waits now.
    bool execute(int number, const statement& s, thrown& flying) {
        task& t = at(number);
        switch (s.what) {
            case verb::wait:
                if (is_cancelled(number)) {
                    flying = cancelled();
                } else if (s.number > now_) {
                    t.awaits = s.number;
                    t.is = state::waits_for_tick;
                    return false;
                }
                return true;
            case verb::join: {
                task& child = at(s.number);
                if (is_cancelled(number)) {
                    flying = cancelled();
                } else if (child.is != state::over) {
                    child.joined_by = number;
                    t.awaits = s.number;
                    t.is = state::joins;
                    return false;
                } else {
                    flying = joined(child);
                }
                return true;
            }
            case verb::fail: flying = error("e" + std::to_string(s.number)); return true;
            case verb::give_up: flying = cancelled(); return true;
            case verb::spawn:
            case verb::background:
                start(s.number, s.body, innermost_group(t), s.what == verb::background, s.flag);
                return true;
            case verb::spawn_beside: start(s.number, s.body, t.home, false, s.flag); return true;
            case verb::scope:
            case verb::group:
            case verb::supervisor: {
                auto made = std::make_unique<scope>(scope{number, static_cast<int>(t.inside.size())});
                made->is_shielded = s.what == verb::scope && s.flag;
                made->is_group = s.what != verb::scope;
                made->is_supervisor = s.what == verb::supervisor;
                if (s.limit != 0) made->slots = s.limit;
                open_[static_cast<std::size_t>(s.number)] = made.get();
                t.inside.push_back(std::move(made));
                t.frames.push_back({&s, &s.body});
                return true;
            }
            case verb::swallow:
            case verb::convert:
            case verb::handle_errors: t.frames.push_back({&s, &s.body}); return true;
        }
        return true;
    }

    scope* innermost_group(task& t) {
        for (std::size_t i = t.inside.size(); i-- > 0;)
            if (t.inside[i]->is_group) return t.inside[i].get();
        return nullptr;
    }

    /// What awaiting the handle of an ended task gives.
    static thrown joined(const task& child) { return child.result.is_cancelled() ? error("canceled") : child.result; }

    /// Leaves the innermost frame with what flies out of it, and says what flies on. False: it has to wait first.
    bool leave(int number, thrown& flying) {
        task& t = at(number);
        const statement& s = *t.frames.back().of;
        const std::string name = std::to_string(s.number);
        switch (s.what) {
            case verb::swallow:
                if (flying.is_cancelled()) {
                    note(t, "swallowed");
                    flying = {};
                }
                break;
            case verb::convert:
                if (flying.is_cancelled()) flying = error("e" + name);
                break;
            case verb::handle_errors:
                if (flying && !flying.is_cancelled()) {
                    note(t, "handled " + flying.text, flying.first);
                    flying = {};
                }
                break;
            case verb::scope: {
                const scope left = std::move(*t.inside.back());
                t.inside.pop_back();
                open_[static_cast<std::size_t>(s.number)] = nullptr;
                // It ends its own cancellation; but not one that comes from further out.
                if (flying.is_cancelled() && left.is_cancelled && (left.is_shielded || !is_cancelled(number))) {
                    note(t, "scope " + name + " cut short");
                    flying = {};
                } else if (!flying) {
                    note(t, "scope " + name + " done");
                }
                break;
            }
            default: {
                scope& g = *t.inside.back();
                if (!g.body_over) body_ends(g, flying);
                flying = {};
                if (g.alive != 0) {
                    t.is = state::waits_for_children;
                    return false;
                }
                open_[static_cast<std::size_t>(s.number)] = nullptr;
                const std::unique_ptr<scope> left = std::move(t.inside.back());
                t.inside.pop_back();
                flying = outcome(number, *left);
                if (!flying) note(t, "group " + name + " done");
            }
        }
        t.frames.pop_back();
        return true;
    }

    void body_ends(scope& g, const thrown& with) {
        g.body_over = true;
        g.body_result = with;
        g.absorbs = g.is_cancelled;
        if (with && !with.is_cancelled() && !g.is_supervisor) add_error(g, with.text);
        if (with || (g.alive != 0 && g.alive == g.background)) cancel(g);
    }

    void add_error(scope& g, const std::string& text) {
        if (g.errors.empty()) {
            g.first_error = text;
            // In a group that is cancelled already, several may fail because of that, in any order.
            g.first_is_certain = !is_cancelled(g);
        }
        g.errors.push_back(text);
    }

    /// What a group that its task has left throws.
    thrown outcome(int number, const scope& g) {
        if (!g.errors.empty())
            return {thrown::kind::error, grouped(g.errors), g.first_is_certain ? g.first_error : std::string()};
        if (g.body_result && !g.body_result.is_cancelled()) return g.body_result;  // of a supervisor group
        const bool from_outside = is_cancelled(number);
        if (g.body_result.is_cancelled() && g.absorbs && !from_outside) return {};
        if (!g.body_result && g.incomplete && from_outside) return cancelled();
        return g.body_result;
    }

    void ends(int number, thrown with) {
        task& t = at(number);
        t.is = state::over;
        t.result = with;
        if (with.is_cancelled()) {
            note(t, "ended cancelled");
        } else if (with) {
            note(t, "ended with " + with.text, with.first);
        } else {
            note(t, "ended");
        }
        scope* const home = t.home;
        if (home != nullptr) {
            --home->alive;
            if (t.is_background) {
                --home->background;
            } else if (with.is_cancelled()) {
                home->incomplete = true;
            }
            if (with && !with.is_cancelled() && !home->is_supervisor) {
                add_error(*home, with.text);
                cancel(*home);
            }
            if (with && !with.is_cancelled() && home->is_supervisor && !t.is_held) handled_.push_back(with.text);
            if (home->body_over && home->alive != 0 && home->alive == home->background) cancel(*home);
            home->slots += t.has_slot;
            if (home->slots != 0 && !home->queued.empty()) {
                const int next = home->queued.front();
                home->queued.pop_front();
                --home->slots;
                at(next).has_slot = true;
                at(next).is = state::unstarted;
                ready_.push_back(next);
            }
        }
        if (t.joined_by >= 0) make_ready(std::exchange(t.joined_by, -1), joined(t));
        if (home != nullptr && home->alive == 0 && at(home->holder).is == state::waits_for_children &&
            at(home->holder).inside.back().get() == home)
            make_ready(home->holder, {});
    }

    static void note(task& t, std::string text, std::string first = {}) {
        t.seen.push_back({std::move(text), std::move(first)});
    }

    const program& program_;
    int now_ = 0;
    std::vector<scope*> open_;
    std::vector<task> tasks_;
    std::deque<int> ready_;
    std::vector<std::string> handled_;
};

}  // namespace scope_model
