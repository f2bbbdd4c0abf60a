// What a random program has to do, by the rules of docs/scopes.md, docs/cancellation.md, docs/combine.md,
// docs/sync.md and docs/order.md, and with nothing of the library.
//
// Which of several ready tasks is next is left to whoever asks. Following the order in which a run of the library
// said things, the model says the same things, or one of the two is wrong. Whether a task is cancelled is computed
// anew each time, by walking outwards: no flag is kept that could be out of date.
#pragma once

#include "random_program.hpp"

#include <coroutine>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <tuple>

namespace random_program {

/// Something that a task has said: statement `node` ended, a child began. Task -1: an error went to a handler.
struct entry {
    int task;
    int node;
    std::int64_t when;  // in thousandths of a unit
    std::string what;

    friend bool operator<(const entry& a, const entry& b) {
        return std::tie(a.node, a.when, a.what) < std::tie(b.node, b.when, b.what);
    }
    friend bool operator==(const entry& a, const entry& b) {
        return a.node == b.node && a.when == b.when && a.what == b.what;
    }
};
using story = std::vector<entry>;

/// Errors of a group: which was first is promised, the order of the others is not.
inline std::string grouped(std::vector<std::string> all) {
    if (all.size() > 1) std::sort(all.begin() + 1, all.end());
    std::string text = "(";
    for (const std::string& one : all) text += (text.size() == 1 ? "" : " ") + one;
    return text + ")";
}

// --- coroutines that no loop knows -----------------------------------------------------------------------------

template <class T>
class co;

namespace detail {
struct co_promise_base {
    std::coroutine_handle<> next = std::noop_coroutine();
    std::exception_ptr error;
    std::suspend_always initial_suspend() noexcept { return {}; }
    struct at_end {
        bool await_ready() noexcept { return false; }
        template <class P>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<P> h) noexcept {
            return h.promise().next;
        }
        void await_resume() noexcept {}
    };
    at_end final_suspend() noexcept { return {}; }
    void unhandled_exception() noexcept { error = std::current_exception(); }
};
template <class T>
struct co_promise : co_promise_base {
    co<T> get_return_object() noexcept;
    void return_value(T v) { value.emplace(std::move(v)); }
    std::optional<T> value;
};
template <>
struct co_promise<void> : co_promise_base {
    co<void> get_return_object() noexcept;
    void return_void() noexcept {}
};
}  // namespace detail

template <class T = void>
class [[nodiscard]] co {
 public:
    using promise_type = detail::co_promise<T>;
    co() = default;
    explicit co(std::coroutine_handle<promise_type> h) noexcept : frame(h) {}
    co(co&& other) noexcept : frame(std::exchange(other.frame, nullptr)) {}
    co& operator=(co&& other) noexcept {
        std::swap(frame, other.frame);
        return *this;
    }
    ~co() {
        if (frame) frame.destroy();
    }
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> who) noexcept {
        frame.promise().next = who;
        return frame;
    }
    T await_resume() {
        if (frame.promise().error) std::rethrow_exception(frame.promise().error);
        if constexpr (!std::is_void_v<T>) return std::move(*frame.promise().value);
    }
    std::coroutine_handle<promise_type> frame;
};
template <class T>
co<T> detail::co_promise<T>::get_return_object() noexcept {
    return co<T>(std::coroutine_handle<co_promise>::from_promise(*this));
}
inline co<void> detail::co_promise<void>::get_return_object() noexcept {
    return co<void>(std::coroutine_handle<co_promise>::from_promise(*this));
}

// --- the model -----------------------------------------------------------------------------------------------

/// Says who is next: an index into so many ready ones, oldest first.
class any_order {
 public:
    virtual ~any_order() = default;
    virtual std::size_t pick(std::size_t ready) = 0;
};

class model {
 public:
    /// `guide`: what the library's run has said, in that order, or nothing. `order`: asked if there is no guide.
    model(const program& p, const story* guide, any_order* order) : program_(p), order_(order) {
        for (int i = 0; i < channels; ++i) channels_[i].capacity = static_cast<std::size_t>(i);
        for (int i = 0; i < semaphores; ++i) semaphores_[i].available = i + 1;
        if (guide != nullptr) {
            guide_ = guide;
            for (std::size_t i = 0; i < guide->size(); ++i) {
                said_[(*guide)[i].task].push_back(i);
                answers_[(*guide)[i].node] = &(*guide)[i].what;
            }
            guided_ = true;
        }
        run();
    }
    model(const model&) = delete;

    const story& told() const { return story_; }
    /// Whether it came to an end at all; if not, the model is wrong.
    bool ended() const { return ended_; }

 private:
    struct stop {};  // `cancelled`
    struct failure {
        std::string text;
        int which;  // two with one number are one error that was passed on
        bool is_system() const { return text == "timeout" || text == "canceled" || text == "closed"; }
    };
    /// How something ended: neither error nor stopped: well.
    struct outcome {
        std::optional<failure> error = {};
        bool stopped = false;
        bool good() const { return !error && !stopped; }
        std::string text() const { return error ? error->text : stopped ? "cancelled" : "ok"; }
    };
    failure new_failure(std::string text) { return {std::move(text), ++failures_}; }
    static std::string codes(const std::vector<failure>& all) {
        std::vector<std::string> texts;
        for (const failure& f : all) texts.push_back(f.text);
        return grouped(std::move(texts));
    }

    struct task;
    struct starting;
    enum class sort { scope, group, supervisors, join };
    struct scope {
        sort what;
        int node;
        task* holder = nullptr;
        std::size_t depth = 0;
        bool cancelled = false, shielded = false, expired = false;
        int timer = 0;
        // of those that have children
        std::size_t limit = ~std::size_t{0};
        std::size_t alive = 0, background = 0;
        std::deque<task*> queued = {};
        bool body_over = false, absorbs = false, incomplete = false, cut_short = false, body_failed_first = false;
        std::vector<failure> errors = {};
        std::function<bool(task&)> ask = {};  // of a join: whether the others are to stop
        bool waited_for = false;
    };

    enum class state { queued, unstarted, ready, blocked, over };
    struct where {
        task* self;
        scope* in;       // the innermost group of this body
        bool has_mutex;  // this task has it, around this body
    };
    struct task {
        int number = 0;  // under which it says things
        state is = state::unstarted;
        scope* home = nullptr;
        std::vector<scope*> inside = {};
        std::function<co<>(task&)> code = {};
        co<> body = {};
        std::coroutine_handle<> point = {};
        std::function<void()> undo = {};  // takes its wait back
        bool shielded_wait = false, cut = false;
        bool cancel_asked = false, is_background = false, held = false, seen = false, silent = false;
        std::function<void()> joined_by = {};  // wakes who awaits its handle
        outcome result = {};
        starting* starts = nullptr;  // who waits for it to be ready
        bool told = false;                  // it is one that says when it begins and ends
    };
    struct starting {
        task* caller = nullptr;
        bool ready = false, asked = false;
    };

    struct blocked {
        task& t;
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) noexcept {
            t.is = state::blocked;
            t.point = h;
        }
        void await_resume() const {
            t.shielded_wait = false;
            if (std::exchange(t.cut, false)) throw stop{};
        }
    };

    struct in_queue {
        task& t;
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) noexcept { t.point = h; }
        void await_resume() const noexcept {}
    };

    // --- saying

    void say(int who, int node, std::string what) {
        story_.push_back({who, node, now_, std::move(what)});
        ++count_[who];
    }

    // --- cancellation

    bool is_cancelled(const task& t) const { return is_cancelled(&t, t.inside.size()); }
    bool is_cancelled(const task* t, std::size_t depth) const {
        for (;;) {
            while (depth-- > 0) {
                if (t->inside[depth]->cancelled) return true;
                if (t->inside[depth]->shielded) return false;
            }
            if (t->cancel_asked) return true;
            if (t->home == nullptr) return false;
            if (t->home->cancelled) return true;
            depth = t->home->depth;
            t = t->home->holder;
        }
    }
    /// Whether what is spawned into it is.
    bool is_cancelled(const scope& s) const { return s.cancelled || is_cancelled(s.holder, s.depth); }
    void check(const task& t) const {
        if (is_cancelled(t)) throw stop{};
    }
    /// Ends every wait that has to end. In which order is open, and one that ends may let another through first.
    void interrupt() {
        std::vector<task*> all, later;
        for (task& t : tasks_)
            if (t.is == state::queued || t.is == state::blocked)
                (guided_ && !says_cancelled(t) ? later : all).push_back(&t);
        all.insert(all.end(), later.begin(), later.end());
        if (order_ != nullptr)
            for (std::size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[order_->pick(i)]);
        for (task* const t : all) {
            if (t->is == state::queued && is_cancelled(*t)) {
                std::erase(t->home->queued, t);
                t->is = state::unstarted;
                ready_.push_back(t);
            }
            if (t->is != state::blocked || t->shielded_wait || !is_cancelled(*t)) continue;
            if (const std::function<void()> undo = t->undo) undo();
        }
    }
    /// Whether, by the guide, the next that this task says is that it was cancelled.
    bool says_cancelled(const task& t) const {
        const auto said = said_.find(t.number);
        const auto count = count_.find(t.number);
        const std::size_t n = count == count_.end() ? 0 : static_cast<std::size_t>(count->second);
        return said != said_.end() && n < said->second.size() && (*guide_)[said->second[n]].what.ends_with("cancelled");
    }
    void cancel(scope& s) {
        s.cancelled = true;
        interrupt();
    }
    void wake(task& t, bool cut = false) {
        t.undo = nullptr;
        t.cut = cut;
        t.is = state::ready;
        ready_.push_back(&t);
    }

    // --- time

    int arm_at(std::int64_t when, std::function<void()> fire) {
        timers_.emplace(std::pair(when, ++timer_), std::move(fire));
        times_[timer_] = when;
        return timer_;
    }
    void disarm(int timer) { timers_.erase(std::pair(times_[timer], timer)); }

    void run() {
        for (const event& e : program_.events) arm_at(e.at * unit, [this, &e] { from_outside(e); });
        arm_at(program_.end * unit, [this] { the_end(); });
        tasks_.emplace_back();
        tasks_[0].told = true;
        tasks_[0].held = true;
        tasks_[0].code = [this](task& t) { return whole(t, program_.main); };
        handles_[0] = &tasks_[0];
        ready_.push_back(&tasks_[0]);
        drain();
        while (tasks_[0].is != state::over && steps_ < most_steps) turn();
        if (tasks_[0].is != state::over) return;
        ended_ = true;
        for (auto& [number, t] : handles_)
            if (t != nullptr) drop(number);
    }
    void turn() {
        for (auto& f : std::exchange(posts_, {})) call(f);
        if (tasks_[0].is == state::over) return;
        if (immediates_.empty() && closing_.empty() && posts_.empty() && !timers_.empty())
            now_ = std::max(now_, timers_.begin()->first.first);
        std::map<int, std::function<void()>> round = std::exchange(immediates_, {});
        round_ = &round;
        while (!round.empty()) {
            const std::function<void()> f = std::move(round.begin()->second);
            round.erase(round.begin());
            call(f);
        }
        round_ = nullptr;
        for (auto& f : std::exchange(closing_, {})) call(f);
        std::vector<std::pair<std::int64_t, int>> due;
        for (const auto& [key, f] : timers_)
            if (key.first <= now_) due.push_back(key);
        for (const auto& key : due) {
            const auto found = timers_.find(key);
            if (found == timers_.end()) continue;
            const std::function<void()> f = std::move(found->second);
            timers_.erase(found);
            call(f);
        }
    }
    /// A callback of a phase. A completed wait is none: the task that it wakes is, so ticks that this one
    /// queues come before the others that the completion woke.
    void call(const std::function<void()>& f) {
        if (tasks_[0].is == state::over) return;
        is_callback_ = false;
        f();
        if (!is_callback_ && !ready_.empty()) {
            const std::size_t i = next();
            if (ready_[i]->is == state::ready) take(i);
        }
        drain();
    }
    void take(std::size_t i) {
        task* const t = ready_[i];
        ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(i));
        step(*t);
    }
    void drain() {
        do {
            while (!ticks_.empty()) {
                const std::function<void()> f = std::move(ticks_.front());
                ticks_.pop_front();
                f();
            }
            while (!ready_.empty()) {
                if (++steps_ > most_steps) return;
                take(next());
            }
        } while (!ticks_.empty());
    }

    /// Of those that are ready: whoever said something next. Who says nothing more is on its way out, and others may
    /// wait for that; but who has not begun waits to be cancelled.
    std::size_t next() {
        if (!guided_) return order_ == nullptr || ready_.size() < 2 ? 0 : order_->pick(ready_.size());
        std::size_t best = 0;
        std::size_t best_at = ~std::size_t{0};
        for (std::size_t i = 0; i < ready_.size(); ++i) {
            const std::size_t at = position(*ready_[i]);
            if (at < best_at) {
                best = i;
                best_at = at;
            }
        }
        return best;
    }
    std::size_t position(const task& t) {
        const std::vector<std::size_t>& all = said_[t.number];
        const std::size_t n = static_cast<std::size_t>(count_[t.number]);
        if (n < all.size()) return all[n];
        return t.is == state::unstarted && !is_cancelled(t) ? ~std::size_t{0} - 1 : 0;
    }

    // --- tasks

    void start(scope& home, int number, std::function<co<>(task&)> code, task*& made) {
        tasks_.emplace_back();
        task& t = tasks_.back();
        made = &t;
        t.number = number;
        t.home = &home;
        t.code = std::move(code);
        const bool full = home.alive - home.queued.size() >= home.limit;
        ++home.alive;
        if (full && !is_cancelled(home)) {
            t.is = state::queued;
            home.queued.push_back(&t);
        } else {
            ready_.push_back(&t);
        }
    }
    void step(task& t) {
        if (t.is == state::unstarted) {
            if (is_cancelled(t)) {
                if (t.told && !t.silent) say(t.number, t.number, "never ran");
                t.result.stopped = true;
                return ends(t);
            }
            t.body = t.code(t);
            t.point = t.body.frame;
        }
        t.is = state::ready;
        t.point.resume();
        if (!t.body.frame.done()) return;
        try {
            if (t.body.frame.promise().error) std::rethrow_exception(t.body.frame.promise().error);
        } catch (const stop&) {
            t.result.stopped = true;
        } catch (const failure& f) {
            t.result.error = f;
        }
        ends(t);
    }

    void ends(task& t) {
        t.is = state::over;
        scope* const home = t.home;
        if (home != nullptr) {
            --home->alive;
            while (!home->queued.empty() && home->alive - home->queued.size() < home->limit) {
                task* const next = home->queued.front();
                home->queued.pop_front();
                next->is = state::unstarted;
                ready_.push_back(next);
            }
            ended(*home, t);
        }
        if (t.starts != nullptr) {
            wake(*t.starts->caller);
        } else if (const std::function<void()> joiner = std::exchange(t.joined_by, nullptr)) {
            joiner();
        }
        if (home != nullptr && home->alive == 0 && home->waited_for) {
            home->waited_for = false;
            wake(*home->holder);
        }
    }

    void ended(scope& home, task& t) {
        if (home.what == sort::join) {
            const bool by_itself = !t.result.stopped;
            if (!by_itself && is_cancelled(home)) {
                home.cut_short |= !home.cancelled;
                return;
            }
            if (home.ask(t)) cancel(home);
            return;
        }
        if (t.is_background) {
            --home.background;
        } else if (t.result.stopped && t.starts == nullptr) {
            home.incomplete = true;
        }
        if (home.body_over && home.alive == home.background && home.alive != 0) cancel(home);
        if (!t.result.error || t.starts != nullptr) return;
        if (home.what == sort::group) {
            home.errors.push_back(*t.result.error);
            t.seen = true;
            cancel(home);
        } else if (!t.held) {
            say(-1, -1, "handled " + t.result.error->text);
        }
    }

    void drop(int number) {
        task* const t = std::exchange(handles_[number], nullptr);
        if (t == nullptr) return;
        t->held = false;
        if (t->is == state::over && t->result.error && !t->seen) say(-1, -1, "unhandled " + t->result.error->text);
    }

    // --- what is done to others

    void from_outside(const event& e) {
        is_callback_ = true;
        const auto f = [this, &e] {
            is_callback_ = true;
            act(e.what);
        };
        switch (e.how) {
            case from::timer: return f();
            case from::tick: return ticks_.push_back(f);
            case from::microtask: return ticks_.push_back(f);  // nothing else is ready
            case from::immediate: immediates_[++immediate_] = f; return;
            case from::close: closing_.insert(closing_.begin(), f); return;
            case from::post: return posts_.push_back(f);
            case from::task: return ticks_.push_back(f);
        }
    }
    void the_end() {
        is_callback_ = true;
        for (auto& [node, s] : open_)
            if (s != nullptr && s->what == sort::scope) s->shielded = false;
        interrupt();
        for (int i = 0; i < events; ++i) set_event(i);
        for (int i = 0; i < channels; ++i) close(channels_[i]);
        notify(true);
        tasks_[0].cancel_asked = true;
        interrupt();
        arm_at(now_ + unit, [this] { the_end(); });
    }
    void act(const node& n) {
        const auto opened = open_.find(n.number);
        scope* const s = opened == open_.end() ? nullptr : opened->second;
        switch (n.what) {
            case verb::cancel_task: {
                task* const t = handles_[n.number];
                if (t == nullptr || t->is == state::over) return;
                t->cancel_asked = true;
                return interrupt();
            }
            case verb::cancel_scope:
                if (s != nullptr) cancel(*s);
                return;
            case verb::set_deadline:
                if (s == nullptr || s->cancelled) return;
                disarm(s->timer);
                return set_deadline(*s, n.at * unit);
            case verb::flip_shield:
                if (s == nullptr) return;
                s->shielded = !s->shielded;
                return interrupt();
            case verb::set_event: return set_event(n.number);
            case verb::close: return close(channels_[n.number]);
            case verb::notify: return notify(n.flag);
            case verb::drop: return drop(n.number);
            default: return;
        }
    }

    // --- statements

    co<> whole(task& self, const block& body) {
        say(self.number, self.number, "began");
        const outcome out = co_await outcome_of(all(body, {&self, nullptr, false}));
        say(self.number, self.number, "ended " + out.text());
        pass_on(out);
    }

    static co<outcome> outcome_of(co<> body) {
        outcome out;
        try {
            co_await std::move(body);
        } catch (const stop&) {
            out.stopped = true;
        } catch (const failure& f) {
            out.error = f;
        }
        co_return out;
    }
    static void pass_on(const outcome& out) {
        if (out.stopped) throw stop{};
        if (out.error) throw failure(*out.error);
    }

    co<> all(const block& body, where w) {
        for (const node& n : body) co_await one(n, w);
    }
    co<> one(const node& n, where w) {
        outcome out;
        std::string text;
        try {
            text = co_await execute(n, w);
        } catch (const stop&) {
            out.stopped = true;
        } catch (const failure& f) {
            out.error = f;
        }
        say(w.self->number, n.id, out.good() ? text : out.text());
        pass_on(out);
    }

    co<std::string> execute(const node& n, where w) {
        task& self = *w.self;
        std::string text = "ok";
        switch (n.what) {
            case verb::sleep: co_await sleep(self, n.at * unit); break;
            case verb::requeue: co_await requeue(self, n.number); break;
            case verb::fail: throw new_failure("e" + std::to_string(n.id));
            case verb::give_up: throw stop{};
            case verb::call: co_await all(n.body, w); break;
            case verb::swallow:
            case verb::convert:
            case verb::handle: text = co_await catching(n, w); break;
            case verb::cleanup: co_await with_cleanup(n, w); break;
            case verb::generate: text = co_await generate(n, w); break;
            case verb::scope:
            case verb::timeout:
            case verb::move_on:
            case verb::shield: text = co_await in_scope(n, w); break;
            case verb::group:
            case verb::supervisors: co_await in_group(n, w); break;
            case verb::spawn:
            case verb::beside:
            case verb::background: spawn(n, w); break;
            case verb::start: text = co_await start_child(n, w); break;
            case verb::join: text = co_await join(n, w); break;
            case verb::all:
            case verb::any:
            case verb::race:
            case verb::settled: text = co_await combine(n, w); break;
            case verb::map: co_await map(n, w); break;
            case verb::send: text = co_await send(n, w); break;
            case verb::receive: text = co_await receive(n, w); break;
            case verb::permit: co_await with_permit(n, w); break;
            case verb::lock: co_await with_lock(n, w); break;
            case verb::condition: co_await condition(w); break;
            case verb::await_event: co_await await_event(n, w); break;
            case verb::select: text = co_await select(n, w); break;
            case verb::part:
            case verb::restarted: break;
            default: act(n);
        }
        co_return text;
    }

    co<> sleep(task& self, std::int64_t until) {
        check(self);
        const int timer = arm_at(until, [this, &self] { wake(self); });
        self.undo = [this, &self, timer] {
            disarm(timer);
            wake(self, true);
        };
        co_await blocked{self};
    }

    co<> requeue(task& self, int how) {
        check(self);
        if (how == 3) {
            const int mine = ++immediate_;
            immediates_[mine] = [this, &self] { wake(self); };
            self.undo = [this, &self, mine] {
                immediates_.erase(mine);
                if (round_ != nullptr) round_->erase(mine);
                wake(self, true);
            };
            co_await blocked{self};
            co_return;
        }
        // In the queue it cannot be cancelled.
        if (how == 2) {
            ticks_.push_back([this, &self] { step(self); });
        } else {
            ready_.push_back(&self);
        }
        co_await in_queue{self};
    }

    co<std::string> catching(const node& n, where w) {
        const outcome out = co_await outcome_of(all(n.body, w));
        if (out.stopped && n.what == verb::swallow) co_return "swallowed";
        if (out.stopped && n.what == verb::convert) throw new_failure("e" + std::to_string(n.id));
        if (out.error && n.what == verb::handle) co_return "handled " + out.error->text;
        pass_on(out);
        co_return "ok";
    }

    co<std::string> generate(const node& n, where w) {
        int given = 0;
        for (const node& part : n.body) {
            if (given == n.limit) break;
            co_await all(part.body, w);
            ++given;
        }
        co_return "values " + std::to_string(given);
    }

    // Scopes of one task.

    void enter(scope& s, task& t) {
        s.holder = &t;
        s.depth = t.inside.size();
        t.inside.push_back(&s);
    }
    void set_deadline(scope& s, std::int64_t when) {
        if (when <= now_) {
            s.expired = !s.cancelled;
            return cancel(s);
        }
        s.timer = arm_at(when, [this, &s] {
            s.expired = !s.cancelled;
            cancel(s);
        });
    }
    void leave(scope& s) {
        disarm(s.timer);
        open_.erase(s.node);
        s.holder->inside.pop_back();
    }
    bool absorbs(const scope& s) const { return s.cancelled && (s.shielded || !is_cancelled(*s.holder)); }

    co<std::string> in_scope(const node& n, where w) {
        scope shield{sort::scope, n.id};
        shield.shielded = true;
        if (n.what == verb::shield) enter(shield, *w.self);
        scope s{sort::scope, n.id};
        s.shielded = n.what == verb::scope && n.flag;
        enter(s, *w.self);
        if (n.at != 0) set_deadline(s, n.at * unit);
        if (n.what == verb::scope) open_[n.id] = &s;
        outcome out = co_await outcome_of(all(n.body, w));
        leave(s);
        const bool ends_here = out.stopped && absorbs(s);
        if (n.what == verb::shield) leave(shield);
        if (ends_here) {
            if (n.what != verb::timeout) co_return "cut short";
            out.stopped = false;
            out.error = new_failure("timeout");
        }
        if (out.error && n.what == verb::timeout && n.flag && out.error->is_system()) co_return out.error->text;
        pass_on(out);
        co_return n.what == verb::timeout ? "ok" : "done";
    }

    co<> with_cleanup(const node& n, where w) {
        const outcome out = co_await outcome_of(all(n.body, w));
        scope s{sort::scope, n.id};
        s.shielded = true;
        enter(s, *w.self);
        set_deadline(s, now_ + n.limit * unit + n.id);
        outcome end = co_await outcome_of(all(n.other, w));
        leave(s);
        if (end.stopped && absorbs(s) && s.expired) {
            end.stopped = false;
            end.error = new_failure("timeout");
        }
        if (!out.error) {
            if (end.error) throw failure(*end.error);
            if (end.stopped || out.stopped) throw stop{};
            co_return;
        }
        if (!end.error) throw failure(*out.error);
        throw new_failure(codes({*out.error, *end.error}));
    }

    // Groups.

    co<> wait_for_children(scope& s) {
        if (s.alive == 0) co_return;
        s.waited_for = true;
        s.holder->shielded_wait = true;
        co_await blocked{*s.holder};
    }

    co<> in_group(const node& n, where w) {
        scope s{n.what == verb::group ? sort::group : sort::supervisors, n.id};
        if (n.limit != 0) s.limit = static_cast<std::size_t>(n.limit);
        enter(s, *w.self);
        open_[n.id] = &s;
        const outcome out = co_await outcome_of(all(n.body, {w.self, &s, w.has_mutex}));
        s.body_failed_first = s.errors.empty();
        s.body_over = true;
        s.absorbs = s.cancelled;
        if (!out.good() || (s.alive != 0 && s.alive == s.background)) cancel(s);
        co_await wait_for_children(s);
        open_.erase(n.id);
        w.self->inside.pop_back();
        const bool from_outside = is_cancelled(*w.self);
        if (s.what == sort::group) {
            std::vector<failure> all = s.errors;
            if (out.error) {
                bool met = false;
                for (const failure& f : all) met = met || f.which == out.error->which;
                if (!met) all.insert(s.body_failed_first ? all.begin() : all.end(), *out.error);
            }
            if (!all.empty()) throw new_failure(codes(all));
        }
        if (out.error) throw failure(*out.error);
        if (!out.stopped && s.incomplete && from_outside) throw stop{};
        if (out.stopped && !(s.absorbs && !from_outside)) throw stop{};
    }

    void spawn(const node& n, where w) {
        scope* const home = n.what == verb::beside ? w.self->home : w.in;
        if (home == nullptr || home->what == sort::join) return;
        task* made;
        start(*home, n.id, [this, &n](task& t) { return whole(t, n.body); }, made);
        made->told = true;
        made->is_background = n.what == verb::background;
        home->background += made->is_background;
        made->held = n.flag;
        if (n.flag) handles_[n.id] = made;
    }

    co<std::string> start_child(const node& n, where w) {
        if (w.in == nullptr) co_return "ok";
        check(*w.self);
        starting s{w.self};
        task* child;
        start(*w.in, n.id, [this, &n](task& t) { return starts(t, n); }, child);
        child->told = true;
        child->silent = true;
        child->held = true;
        child->starts = &s;
        w.self->undo = [this, &s, child] {
            if (std::exchange(s.asked, true)) return;
            child->cancel_asked = true;
            interrupt();
        };
        co_await blocked{*w.self};
        child->starts = nullptr;
        child->held = false;
        if (s.ready) co_return "ready";
        child->seen = true;
        const outcome& out = child->result;
        if (n.flag && !s.asked) {  // attempt()
            if (out.error && out.error->is_system()) co_return out.error->text;
            if (out.stopped) co_return "canceled";
        }
        if (out.error) throw failure(*out.error);
        if (s.asked) throw stop{};
        throw new_failure(out.stopped ? "canceled" : "not ready");
    }
    co<> starts(task& self, const node& n) {
        say(self.number, self.number, "began");
        outcome out;
        try {
            co_await all(n.body, {&self, nullptr, false});
            starting& s = *std::exchange(self.starts, nullptr);
            self.held = false;
            s.ready = true;
            wake(*s.caller);
            co_await all(n.other, {&self, nullptr, false});
        } catch (const stop&) {
            out.stopped = true;
        } catch (const failure& f) {
            out.error = f;
        }
        say(self.number, self.number, "ended " + out.text());
        pass_on(out);
    }

    co<std::string> join(const node& n, where w) {
        task* const child = handles_[n.number];
        if (child == nullptr) co_return "ok";
        check(*w.self);
        if (child->is != state::over) {
            child->joined_by = [this, self = w.self] { wake(*self); };
            w.self->undo = [this, child, self = w.self] {
                child->joined_by = nullptr;
                wake(*self, true);
            };
            co_await blocked{*w.self};
        }
        co_return joined(*child, n.flag);
    }
    std::string joined(task& child, bool attempted) {
        if (child.result.stopped) {
            if (attempted) return "canceled";
            throw new_failure("canceled");
        }
        child.seen = true;
        if (!child.result.error) return "ok";
        if (attempted && child.result.error->is_system()) return child.result.error->text;
        throw failure(*child.result.error);
    }

    // Combinators.

    co<> part(task& self, const node& p) {
        say(self.number, p.id, "began");
        const outcome out = co_await outcome_of(all(p.body, {&self, nullptr, false}));
        say(self.number, p.id, "ended " + out.text());
        pass_on(out);
    }

    co<std::string> combine(const node& n, where w) {
        scope s{sort::join, n.id};
        enter(s, *w.self);
        std::vector<task*> children(n.body.size());
        std::vector<failure> failed;
        std::size_t running = n.body.size();
        std::optional<std::size_t> first;
        s.ask = [&](task& t) {
            const auto index =
                static_cast<std::size_t>(std::find(children.begin(), children.end(), &t) - children.begin());
            --running;
            if (t.result.error) failed.push_back(*t.result.error);
            if (n.what == verb::any || (n.what == verb::race && t.result.good())) {
                if (!first) first = index;
                return true;
            }
            return n.what == verb::all && t.result.error.has_value();
        };
        for (std::size_t i = 0; i < n.body.size(); ++i) {
            const node& p = n.body[i];
            start(s, p.id, [this, &p](task& t) { return part(t, p); }, children[i]);
        }
        co_await wait_for_children(s);
        w.self->inside.pop_back();
        if (n.what == verb::all && !failed.empty()) {
            if (failed.size() == 1) throw failure(failed[0]);
            throw new_failure(codes(failed));
        }
        if (n.what == verb::race && !first && running == 0 && !failed.empty()) throw new_failure(codes(failed));
        if (s.cut_short) throw stop{};
        if (children.empty() && n.what == verb::race) throw new_failure("of no children");
        if (children.empty() && n.what == verb::any) throw new_failure("of no children");
        switch (n.what) {
            case verb::all:
                for (const task* t : children)
                    if (t->result.stopped) throw new_failure("canceled");
                co_return "ok";
            case verb::race:
                if (!first) throw new_failure("canceled");
                co_return "first " + std::to_string(*first);
            default: break;
        }
        std::string text = n.what == verb::any ? "first " + std::to_string(*first) + ":" : "settled:";
        for (const task* t : children) text += " " + t->result.text();
        co_return text;
    }

    co<> map(const node& n, where w) {
        scope s{sort::join, n.id};
        enter(s, *w.self);
        std::vector<failure> failed;
        std::size_t next = 0;
        std::vector<bool> done(n.body.size());
        s.ask = [&](task& t) {
            if (t.result.error) failed.push_back(*t.result.error);
            return t.result.error.has_value();
        };
        for (std::size_t i = 0; i < n.body.size() && static_cast<int>(i) < n.limit; ++i) {
            task* made;
            start(s, n.body[i].id, [&](task& t) { return worker(t, n, s, next, done); }, made);
        }
        co_await wait_for_children(s);
        w.self->inside.pop_back();
        if (failed.size() == 1) throw failure(failed[0]);
        if (!failed.empty()) throw new_failure(codes(failed));
        if (s.cut_short) throw stop{};
        for (std::size_t i = 0; i < next; ++i)
            if (!done[i]) throw new_failure("canceled");
    }
    co<> worker(task& self, const node& n, const scope& s, std::size_t& next, std::vector<bool>& done) {
        while (next < n.body.size() && !s.cancelled) {  // after a failure the others are not looked at
            const std::size_t mine = next++;
            self.number = n.body[mine].id;
            co_await part(self, n.body[mine]);
            done[mine] = true;
        }
    }

    // Channels, permits and the like.

    struct waiter {
        task* who;
        int value = 0;  // to send
        std::function<void(int)> done = {};  // with what was received; 0 is the end, -1 a send that failed
    };
    struct channel {
        std::size_t capacity = 0;
        std::deque<int> values = {};
        std::deque<std::shared_ptr<waiter>> senders = {}, receivers = {};
        bool closed = false;
    };
    using line_of = std::deque<std::shared_ptr<waiter>>;
    static std::shared_ptr<waiter> take_other(line_of& line, const task* than) {
        for (auto at = line.begin(); at != line.end(); ++at) {
            if ((*at)->who == than) continue;
            std::shared_ptr<waiter> found = *at;
            line.erase(at);
            return found;
        }
        return nullptr;
    }
    /// Whether it is over at once, and well.
    std::optional<bool> try_send(channel& c, int value, const task* who) {
        if (c.closed) return false;
        if (const auto w = take_other(c.receivers, who)) {
            w->done(value);
            return true;
        }
        if (c.values.size() == c.capacity) return std::nullopt;
        c.values.push_back(value);
        return true;
    }
    std::optional<int> try_receive(channel& c, const task* who) {
        int got;
        if (!c.values.empty()) {
            got = c.values.front();
            c.values.pop_front();
            if (const auto w = take_other(c.senders, who)) {
                c.values.push_back(w->value);
                w->done(1);
            }
            return got;
        }
        if (const auto w = take_other(c.senders, who)) {
            got = w->value;
            w->done(1);
            return got;
        }
        if (c.closed) return 0;
        return std::nullopt;
    }
    void close(channel& c) {
        c.closed = true;
        for (const auto& w : std::exchange(c.senders, {})) w->done(-1);
        for (const auto& w : std::exchange(c.receivers, {})) w->done(0);
    }

    co<std::string> send(const node& n, where w) {
        const std::vector<one_arm> arms = {{arm::send, n.number}};
        const auto r = co_await wait_for_one(arms, n, w);
        if (r.second != -1) co_return "ok";
        if (n.flag) co_return "closed";
        throw new_failure("closed");
    }
    co<std::string> receive(const node& n, where w) {
        const std::vector<one_arm> arms = {{arm::receive, n.number}};
        const auto r = co_await wait_for_one(arms, n, w);
        co_return received(r.second);
    }
    static std::string received(int value) { return value == 0 ? "end" : "got " + std::to_string(value); }

    struct semaphore {
        int available = 0;
        std::deque<std::pair<int, std::shared_ptr<waiter>>> line = {};
    };
    void grant(semaphore& s) {
        while (!s.line.empty() && s.line.front().first <= s.available) {
            const auto [count, w] = s.line.front();
            s.line.pop_front();
            s.available -= count;
            w->done(0);
        }
    }
    void release(semaphore& s, int count) {
        s.available += count;
        grant(s);
    }

    /// Waits for one of several; gives which it was, and its value.
    co<std::pair<int, int>> wait_for_one(std::vector<one_arm> arms, const node& n, where w, int permits = 1) {
        task& self = *w.self;
        check(self);
        // From which arm on they are looked at is open: as the library's run has chosen, else anywhere.
        std::size_t begin = 0;
        if (arms.size() > 1) {
            const auto answer = answers_.find(n.id);
            if (guided_ && answer != answers_.end()) {
                while (begin < arms.size() && !answer->second->starts_with("arm " + std::to_string(begin))) ++begin;
                if (begin == arms.size() || !is_there(arms[begin], self, permits)) begin = 0;
            } else if (order_ != nullptr) {
                begin = order_->pick(arms.size());
            }
        }
        for (std::size_t k = 0; k < arms.size(); ++k) {
            const std::size_t i = (begin + k) % arms.size();
            const std::optional<int> got = at_once(arms[i], n, self, permits);
            if (got) co_return std::pair(static_cast<int>(i), *got);
        }
        auto chosen = std::make_shared<std::pair<int, int>>(-1, 0);
        auto undo = std::make_shared<std::vector<std::function<void()>>>();
        struct at_end {  // they know each other: a circle
            std::vector<std::function<void()>>& all;
            ~at_end() { all.clear(); }
        } clear{*undo};
        const auto all = [undo] {
            for (const auto& f : *undo) f();
        };
        for (std::size_t k = 0; k < arms.size(); ++k) {
            const int i = static_cast<int>((begin + k) % arms.size());
            auto stands = std::make_shared<waiter>(waiter{&self, n.id});
            stands->done = [this, &self, chosen, all, i](int value) {
                *chosen = {i, value};
                all();
                wake(self);
            };
            undo->push_back(stand(arms[static_cast<std::size_t>(i)], stands, permits));
        }
        self.undo = [this, &self, all] {
            all();
            wake(self, true);
        };
        co_await blocked{self};
        co_return *chosen;
    }
    bool is_there(const one_arm& a, task& self, int permits) {
        const auto others = [&](const line_of& line) {
            return std::any_of(line.begin(), line.end(), [&](const auto& w) { return w->who != &self; });
        };
        const auto i = static_cast<std::size_t>(a.number);
        switch (a.what) {
            case arm::receive:
                return !channels_[i].values.empty() || channels_[i].closed || others(channels_[i].senders);
            case arm::send:
                return channels_[i].closed || others(channels_[i].receivers) ||
                       channels_[i].values.size() < channels_[i].capacity;
            case arm::sleep: return a.number * unit <= now_;
            case arm::event: return events_[i].set;
            case arm::permit: return semaphores_[i].line.empty() && semaphores_[i].available >= permits;
            case arm::join: return handles_[a.number] != nullptr && handles_[a.number]->is == state::over;
        }
        return false;
    }
    std::optional<int> at_once(const one_arm& a, const node& n, task& self, int permits) {
        if (!is_there(a, self, permits)) return std::nullopt;
        const auto i = static_cast<std::size_t>(a.number);
        switch (a.what) {
            case arm::receive: return *try_receive(channels_[i], &self);
            case arm::send: return *try_send(channels_[i], n.id, &self) ? 1 : -1;
            case arm::permit: semaphores_[i].available -= permits; return 0;
            default: return 0;
        }
    }
    /// Puts a wait in its line; gives what takes it out again.
    std::function<void()> stand(const one_arm& a, const std::shared_ptr<waiter>& w, int permits) {
        const auto i = static_cast<std::size_t>(a.number);
        const auto in = [&](line_of& line) {
            line.push_back(w);
            return [&line, w] { std::erase(line, w); };
        };
        switch (a.what) {
            case arm::receive: return in(channels_[i].receivers);
            case arm::send: return in(channels_[i].senders);
            case arm::event: return in(events_[i].line);
            case arm::sleep: {
                const int timer = arm_at(a.number * unit, [w] { w->done(0); });
                return [this, timer] { disarm(timer); };
            }
            case arm::permit:
                semaphores_[i].line.emplace_back(permits, w);
                return [this, i, w] {
                    std::erase_if(semaphores_[i].line, [&](const auto& one) { return one.second == w; });
                    grant(semaphores_[i]);
                };
            case arm::join: {
                task* const child = handles_[a.number];
                child->joined_by = [w] { w->done(0); };
                return [child] { child->joined_by = nullptr; };
            }
        }
        return {};
    }

    co<> with_permit(const node& n, where w) {
        semaphore& s = semaphores_[n.number];
        const std::vector<one_arm> arms = {{arm::permit, n.number}};
        co_await wait_for_one(arms, n, w, n.limit);
        const outcome out = co_await outcome_of(all(n.body, w));
        release(s, n.limit);
        pass_on(out);
    }

    void unlock() {
        locked_ = false;
        if (lock_line_.empty()) return;
        const auto w = lock_line_.front();
        lock_line_.pop_front();
        locked_ = true;
        w->done(0);
    }
    co<> take_mutex(task& self, bool shielded) {
        if (!locked_) {
            locked_ = true;
            co_return;
        }
        auto stands = std::make_shared<waiter>(waiter{&self});
        stands->done = [this, &self](int) { wake(self); };
        lock_line_.push_back(stands);
        self.shielded_wait = shielded;
        self.undo = [this, &self, stands] {
            std::erase(lock_line_, stands);
            wake(self, true);
        };
        co_await blocked{self};
    }
    co<> with_lock(const node& n, where w) {
        check(*w.self);
        co_await take_mutex(*w.self, false);
        const outcome out = co_await outcome_of(all(n.body, {w.self, w.in, true}));
        unlock();
        pass_on(out);
    }
    // First in the line of the condition, then in that of the mutex: one wait.
    co<> condition(where w) {
        if (!w.has_mutex) co_return;
        task& self = *w.self;
        check(self);
        auto stands = std::make_shared<waiter>(waiter{&self});
        auto cut = std::make_shared<bool>(false);
        stands->done = [this, &self, cut](int) {
            self.shielded_wait = true;
            self.undo = nullptr;
            if (!locked_) {
                locked_ = true;
                return wake(self, *cut);
            }
            auto next = std::make_shared<waiter>(waiter{&self});
            next->done = [this, &self, cut](int) { wake(self, *cut); };
            lock_line_.push_back(next);
        };
        condition_line_.push_back(stands);
        self.undo = [this, stands, cut] {
            std::erase(condition_line_, stands);
            *cut = true;
            stands->done(0);
        };
        unlock();
        co_await blocked{self};
    }
    void notify(bool everyone) {
        while (!condition_line_.empty()) {
            const auto w = condition_line_.front();
            condition_line_.pop_front();
            w->done(0);
            if (!everyone) return;
        }
    }

    struct event_state {
        bool set = false;
        line_of line = {};
    };
    void set_event(int number) {
        event_state& e = events_[number];
        e.set = true;
        for (const auto& w : std::exchange(e.line, {})) w->done(0);
    }
    co<> await_event(const node& n, where w) {
        const std::vector<one_arm> arms = {{arm::event, n.number}};
        co_await wait_for_one(arms, n, w);
    }

    co<std::string> select(const node& n, where w) {
        std::vector<one_arm> arms = arms_of(n);
        if (arms[0].what == arm::join && handles_[n.number] == nullptr) co_return "ok";
        const auto got = co_await wait_for_one(arms, n, w);
        const one_arm& a = arms[static_cast<std::size_t>(got.first)];
        std::string text = "arm " + std::to_string(got.first);
        if (a.what == arm::receive) text += " " + received(got.second);
        if (a.what == arm::permit) release(semaphores_[a.number], 1);
        if (a.what == arm::send && got.second == -1) throw new_failure("closed");
        if (a.what == arm::join) text += " " + joined(*handles_[a.number], false);
        co_return text;
    }

    static constexpr std::int64_t unit = 1000;
    static constexpr int most_steps = 20'000;

    const program& program_;
    any_order* order_;
    const story* guide_ = nullptr;
    bool guided_ = false, ended_ = false, is_callback_ = false;
    int failures_ = 0, timer_ = 0, immediate_ = 0, steps_ = 0;
    std::int64_t now_ = 0;
    std::deque<task> tasks_;
    std::vector<task*> ready_;
    std::deque<std::function<void()>> ticks_;
    std::map<int, std::function<void()>> immediates_;
    std::map<int, std::function<void()>>* round_ = nullptr;
    std::vector<std::function<void()>> closing_, posts_;
    std::map<std::pair<std::int64_t, int>, std::function<void()>> timers_;
    std::map<int, std::int64_t> times_;
    std::map<int, scope*> open_;
    std::map<int, task*> handles_;
    channel channels_[channels];
    semaphore semaphores_[semaphores];
    event_state events_[events];
    bool locked_ = false;
    line_of lock_line_, condition_line_;
    story story_;
    std::map<int, std::vector<std::size_t>> said_;
    std::map<int, int> count_;
    std::map<int, const std::string*> answers_;
};

}  // namespace random_program
