// Random programs of everything a task can do: as data, as text, made from a seed, and made smaller.
//
// Each statement has a number of its own and runs once at most, so what it said and when is all that there is to
// compare. Time goes in units from 0, and few moments are used, so that much happens at one and the same.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

namespace random_program {

enum class verb {
    // waits
    sleep,       // until `at`
    requeue,     // `number`: yield, microtask, next_tick, immediate
    // how `body` ends
    fail,        // throws error `id`
    give_up,     // throws `cancelled`, although nobody cancelled anything
    call,        // awaits `body` as a task of its own
    swallow,     // a `cancelled` out of `body` is over
    convert,     // the same, but becomes error `id`
    handle,      // an error out of `body` is over
    cleanup,     // `body`, then `other`, for `limit` at most
    generate,    // `body`: the parts of a generator; the first `limit` are asked for
    // scopes of a task
    scope,       // with_cancel_scope; shielded if `flag`; until `at` unless that is 0
    timeout,     // with_deadline
    move_on,     // move_on_at
    shield,      // and move_on_at in it: nothing waits for ever
    // groups, with `limit` at once unless that is 0
    group,
    supervisors,  // with_supervisor_group
    spawn,        // `body`, into the innermost group of this body; its handle is kept if `flag`
    beside,       // the same, into the group that this task is a child of
    background,
    start,        // group.start(): ready between `body` and `other`
    join,         // awaits the handle of `number`
    drop,         // that handle
    // combinators: `body` has the parts
    all,
    any,
    race,
    settled,
    map,          // `limit` at once
    part,         // one of them
    restarted,    // with_supervisor: `other` has the children, each a part
    // between tasks
    send,         // to channel `number`
    receive,
    close,
    permit,       // `body` with `limit` permits of semaphore `number`
    lock,         // `body` with the mutex
    condition,    // waits for it, in a body with the mutex
    notify,       // one, or all if `flag`
    await_event,
    set_event,
    select,       // a way of select_one(), `limit`; see arms_of()
    // what anyone may do to others
    cancel_task,   // of `number`'s handle
    cancel_scope,  // scope or group `number`
    set_deadline,  // of scope `number`, to `at`
    flip_shield,   // of scope `number`
};
inline constexpr const char* verb_names[] = {
    "sleep until",  "requeue",      "fail",       "give_up", "call",        "swallow",   "convert", "handle",
    "cleanup",      "generate",     "scope",      "timeout", "move_on",     "shield",    "group",   "supervisors",
    "spawn",        "beside",       "background", "start",   "join",        "drop",      "all",     "any",
    "race",         "settled",      "map",        "part",    "restarted",   "send",      "receive", "close",
    "permit",       "lock",         "condition",  "notify",  "await_event", "set_event", "select",  "cancel_task",
    "cancel_scope", "set_deadline", "flip_shield"};

struct node {
    verb what = verb::sleep;
    int id = 0;
    int number = 0;
    int limit = 0;
    int at = 0;
    bool flag = false;
    std::vector<node> body;
    std::vector<node> other;
};
using block = std::vector<node>;

/// From where something is done to the program at a moment.
enum class from { timer, tick, microtask, immediate, close, post, task };
inline constexpr const char* from_names[] = {"timer", "tick", "microtask", "immediate", "close", "post", "task"};

struct event {
    int at;
    from how;
    node what;
};

inline constexpr int channels = 3;    // of capacity 0, 1, 2
inline constexpr int semaphores = 2;  // of 1, 2 permits
inline constexpr int events = 2;

struct program {
    block main;
    std::vector<event> events;
    int ids = 1;   // 0 is the main task
    int end = 1;   // from here on everything is cancelled, again and again
    bool has_model = true;
};

enum class arm { receive, send, sleep, event, permit, join };
struct one_arm {
    arm what;
    int number;
};
inline constexpr int ways_of_select = 5;
inline std::vector<one_arm> arms_of(const node& n) {
    switch (n.limit) {
        case 0: return {{arm::receive, n.number % channels}, {arm::sleep, n.at}, {arm::event, n.number % events}};
        case 1: return {{arm::permit, n.number % semaphores}, {arm::sleep, n.at}};
        case 2:
            return {{arm::receive, n.number % channels}, {arm::receive, (n.number + 1) % channels}, {arm::event, 0}};
        case 3:
            return {{arm::send, n.number % channels}, {arm::receive, (n.number + 1) % channels}, {arm::sleep, n.at}};
        default: return {{arm::join, n.number}, {arm::sleep, n.at}};
    }
}

// --- as text -------------------------------------------------------------------------------------------------

inline std::string line(const node& n) {
    std::string text = verb_names[static_cast<int>(n.what)];
    if (n.at != 0) text += " " + std::to_string(n.at);
    text += "  #" + std::to_string(n.id);
    if (n.number != 0) text += " number " + std::to_string(n.number);
    if (n.limit != 0) text += " limit " + std::to_string(n.limit);
    if (n.flag) text += " flag";
    return text + "\n";
}
inline std::string print(const block& all, std::size_t indent = 0) {
    std::string text;
    for (const node& n : all) {
        text += std::string(indent * 2, ' ') + line(n) + print(n.body, indent + 1);
        if (!n.other.empty()) text += std::string(indent * 2, ' ') + "and\n" + print(n.other, indent + 1);
    }
    return text;
}
inline std::string print(const program& p) {
    std::string text = print(p.main);
    for (const event& e : p.events)
        text += "at " + std::to_string(e.at) + " from a " + from_names[static_cast<int>(e.how)] + ": " + line(e.what);
    return text + "from " + std::to_string(p.end) + " on: the end\n";
}

// --- from a seed ---------------------------------------------------------------------------------------------

/// Dice has below(n), a number in [0, n), and one_in(n).
template <class Dice>
class generator {
 public:
    explicit generator(Dice& dice) : dice_(dice) {}

    program make() {
        left_ = 8 + number(dice_.one_in(3) ? 80 : 30);
        theme_ = number(2 * 4);
        latest_ = dice_.one_in(2) ? 2 + number(3) : 4 + number(12);
        made_.main = body({});
        // An error of one statement is not always the end of the others.
        for (node& n : made_.main) {
            if (dice_.one_in(3)) continue;
            node kept = made(verb::handle);
            std::swap(kept, n);
            n.body.push_back(std::move(kept));
        }
        for (int i = number(8); i > 0; --i) {
            event e{moment(), static_cast<from>(number(7)), {}};
            e.what = action();
            made_.events.push_back(std::move(e));
        }
        aim(made_.main);
        for (event& e : made_.events) aim(e.what);
        made_.end = latest_ + 2;
        made_.ids = ids_;
        return std::move(made_);
    }

 private:
    struct place {
        int depth = 0;
        bool in_group = false;    // whose body or part this is
        bool is_child = false;    // of a group
        bool has_mutex = false;   // this task does
        bool is_plain = false;    // may run more than once, so nothing that others refer to
        bool in_cleanup = false;
    };

    int number(std::size_t n) { return static_cast<int>(dice_.below(n)); }
    int moment() { return 1 + number(static_cast<std::size_t>(latest_)); }

    node made(verb what) {
        node n;
        n.what = what;
        n.id = ids_++;
        --left_;
        return n;
    }

    block body(place in, std::size_t most = 5) {
        block all;
        std::vector<int> joinable;
        const int least = in.depth == 0 ? 3 : 1;
        for (int i = least + number(most); i > 0 && left_ > 0; --i) all.push_back(one(in, joinable));
        return all;
    }
    block parts(const place& in, bool in_the_same_task = false) {
        block all;
        place inside = in;
        ++inside.depth;
        inside.has_mutex &= in_the_same_task;
        inside.in_group &= in_the_same_task;
        inside.is_child &= in_the_same_task;
        for (int i = 1 + number(3); i > 0; --i) {
            node p = made(verb::part);
            p.body = body(inside, 3);
            all.push_back(std::move(p));
        }
        return all;
    }

    node one(const place& in, std::vector<int>& joinable) {
        place inside = in;
        ++inside.depth;
        const int roll = number(100);
        if (in.in_group && !in.is_plain && roll < 50) {
            if (!joinable.empty() && roll < 12) {
                node n = made(roll < 6 ? verb::join : roll < 9 ? verb::select : verb::drop);
                n.flag = dice_.one_in(3);
                if (n.what == verb::select) {
                    n.limit = ways_of_select - 1;
                    n.at = moment();
                }
                n.number = joinable.back();
                joinable.pop_back();
                return n;
            }
            if (roll < 16) {
                node n = made(verb::start);
                n.flag = dice_.one_in(3);
                inside.in_group = false;
                inside.is_child = true;
                inside.has_mutex = false;
                n.body = body(inside, 3);
                n.other = body(inside, 3);
                return n;
            }
            return spawned(dice_.one_in(6) ? verb::background : verb::spawn, in, joinable);
        }
        if (in.is_child && !in.is_plain && roll < 6) return spawned(verb::beside, in, joinable);
        if (in.depth >= 6 || roll < (in.depth < 2 ? 15 : 55)) return simple(in);
        const int which = number(100);
        if (which < 34) {
            const int kind = number(4);
            node n = made(kind == 0   ? verb::timeout
                          : kind == 1 ? verb::move_on
                          : kind == 2 ? verb::shield
                                      : verb::scope);
            n.at = n.what != verb::scope || dice_.one_in(3) ? moment() : 0;
            n.flag = dice_.one_in(3);
            if (n.what == verb::scope && !in.is_plain) scopes_.push_back(n.id);
            n.body = body(inside);
            return n;
        }
        if (which < 58 && !in.is_plain) {
            node n = made(dice_.one_in(3) ? verb::supervisors : verb::group);
            n.limit = dice_.one_in(2) ? 1 + number(2) : 0;
            groups_.push_back(n.id);
            inside.in_group = true;
            n.body = body(inside, 7);
            return n;
        }
        if (which < 72 && !in.is_plain) {
            const int kind = number(5);
            node n = made(kind == 0   ? verb::all
                          : kind == 1 ? verb::any
                          : kind == 2 ? verb::race
                          : kind == 3 ? verb::settled
                                      : verb::map);
            n.limit = n.what == verb::map ? 1 + number(2) : 0;
            n.body = parts(in);
            return n;
        }
        if (which < 78) {
            node n = made(verb::generate);
            n.body = parts(in, true);
            n.limit = number(4);
            return n;
        }
        if (which < 84) {
            node n = made(verb::cleanup);
            n.limit = 1 + number(3);
            n.body = body(inside);
            inside.in_cleanup = true;
            n.other = body(inside, 3);
            return n;
        }
        if (which < 86 && !in.is_plain && dice_.one_in(2)) {
            node n = made(verb::restarted);
            made_.has_model = false;
            n.body = body(inside);
            place again = inside;
            again.is_plain = true;
            again.has_mutex = false;
            n.other = parts(again);
            for (node& p : n.other) p.limit = number(3);  // permanent, transient, temporary
            return n;
        }
        node n = made(which < 90 ? verb::swallow : which < 93 ? verb::convert : which < 97 ? verb::handle : verb::call);
        n.body = body(inside);
        return n;
    }

    node spawned(verb how, place in, std::vector<int>& joinable) {
        node n = made(how);
        n.flag = dice_.one_in(2);
        if (n.flag) tasks_.push_back(n.id);
        if (n.flag && how == verb::spawn) joinable.push_back(n.id);
        ++in.depth;
        in.in_group = false;
        in.is_child = true;
        in.has_mutex = false;
        n.body = body(in);
        return n;
    }

    node simple(const place& in) {
        int roll = number(100);
        // Some programs are mostly about one thing, so that their tasks meet there.
        constexpr std::pair<int, int> themes[] = {{40, 19}, {59, 5}, {64, 9}, {79, 7}};
        if (theme_ < std::ssize(themes) && dice_.one_in(2))
            roll = themes[theme_].first + number(static_cast<std::size_t>(themes[theme_].second));
        node n = made(verb::sleep);
        n.flag = dice_.one_in(4);
        if (roll < 22) {
            n.at = moment();
        } else if (roll < 36) {
            n.what = verb::requeue;
            n.number = number(4);
        } else if (roll < 40 && in.depth > 1) {
            n.what = !in.in_cleanup && dice_.one_in(6) ? verb::give_up : verb::fail;
        } else if (roll < 49) {
            n.what = verb::send;
            n.number = dice_.one_in(3) ? number(channels) : 0;
        } else if (roll < 58) {
            n.what = verb::receive;
            n.number = dice_.one_in(3) ? number(channels) : 0;
        } else if (roll < 59) {
            n.what = verb::close;
            n.number = number(channels);
        } else if (roll < 64 && left_ > 1) {
            n.what = verb::permit;
            n.number = dice_.one_in(3) ? 0 : 1;
            n.limit = 1 + number(static_cast<std::size_t>(n.number) + 1);
            place inside = in;
            ++inside.depth;
            n.body = in.depth < 6 ? body(inside, 2) : block{};
        } else if (roll < 69 && !in.has_mutex) {
            n.what = verb::lock;
            place inside = in;
            ++inside.depth;
            inside.has_mutex = true;
            n.body = in.depth < 6 ? body(inside, 3) : block{};
        } else if (roll < 72) {
            n.what = in.has_mutex ? verb::condition : verb::notify;
        } else if (roll < 73) {
            n.what = verb::notify;
        } else if (roll < 77) {
            n.what = verb::await_event;
            n.number = number(events);
        } else if (roll < 79) {
            n.what = verb::set_event;
            n.number = number(events);
        } else if (roll < 86) {
            n.what = verb::select;
            n.number = number(6);
            n.limit = number(ways_of_select - 1);
            n.at = moment();
        } else {
            const int id = n.id;
            n = action();
            n.id = id;
        }
        return n;
    }

    node action() {
        constexpr verb all[] = {verb::cancel_task,  verb::cancel_task, verb::cancel_scope, verb::cancel_scope,
                                verb::set_deadline, verb::flip_shield, verb::flip_shield,  verb::set_event,
                                verb::close,        verb::notify};
        node n;
        n.what = all[dice_.below(std::size(all))];
        n.number = n.what == verb::set_event ? number(events) : n.what == verb::close ? number(channels) : 0;
        n.at = n.what == verb::set_deadline ? moment() : 0;
        n.flag = dice_.one_in(2);
        return n;
    }

    // Whom an action concerns is chosen when all are known. Nobody: it becomes something else.
    void aim(block& all) {
        for (node& n : all) {
            aim(n);
            aim(n.body);
            aim(n.other);
        }
    }
    void aim(node& n) {
        std::vector<int> whom;
        if (n.what == verb::cancel_task) whom = tasks_;
        if (n.what == verb::cancel_scope || n.what == verb::set_deadline || n.what == verb::flip_shield) whom = scopes_;
        if (n.what == verb::cancel_scope) whom.insert(whom.end(), groups_.begin(), groups_.end());
        if (n.what != verb::cancel_task && n.what != verb::cancel_scope && n.what != verb::set_deadline &&
            n.what != verb::flip_shield)
            return;
        if (!whom.empty()) {
            n.number = whom[dice_.below(whom.size())];
        } else {
            n.what = verb::set_event;
            n.at = 0;
        }
    }

    Dice& dice_;
    program made_;
    std::vector<int> tasks_, scopes_, groups_;
    int ids_ = 1;
    int left_ = 0;
    int latest_ = 0;
    int theme_ = 0;
};

// --- smaller -------------------------------------------------------------------------------------------------

/// Every program with one thing less, one after the other, as long as `still(p)` says that it may stay so.
template <class Still>
class shrinker {
 public:
    shrinker(program& p, Still& still) : p_(p), still_(still) {}
    void run() {
        do {
            again_ = false;
            for (std::size_t i = p_.events.size(); i-- > 0;) {
                const event kept = p_.events[i];
                p_.events.erase(p_.events.begin() + static_cast<std::ptrdiff_t>(i));
                if (!better()) p_.events.insert(p_.events.begin() + static_cast<std::ptrdiff_t>(i), kept);
            }
            for (event& e : p_.events) {
                if (e.how == from::timer) continue;
                const from kept = std::exchange(e.how, from::timer);
                if (!better()) e.how = kept;
            }
            smaller(p_.main);
        } while (again_);
    }

 private:
    bool better() {
        if (!still_(p_)) return false;
        again_ = true;
        return true;
    }
    void smaller(block& all) {
        for (std::size_t i = all.size(); i-- > 0;) {
            node kept = all[i];
            all.erase(all.begin() + static_cast<std::ptrdiff_t>(i));
            if (better()) continue;
            // A statement that is not needed around its body.
            if (kept.what != verb::part && kept.what != verb::spawn && kept.what != verb::beside &&
                kept.other.empty() && !kept.body.empty() && kept.body[0].what != verb::part) {
                all.insert(all.begin() + static_cast<std::ptrdiff_t>(i), kept.body.begin(), kept.body.end());
                if (better()) continue;
                all.erase(all.begin() + static_cast<std::ptrdiff_t>(i),
                          all.begin() + static_cast<std::ptrdiff_t>(i + kept.body.size()));
            }
            all.insert(all.begin() + static_cast<std::ptrdiff_t>(i), std::move(kept));
            smaller(all[i].body);
            smaller(all[i].other);
        }
    }
    program& p_;
    Still& still_;
    bool again_ = false;
};
template <class Still>
void shrink(program& p, Still still) {
    shrinker<Still>(p, still).run();
}

}  // namespace random_program
