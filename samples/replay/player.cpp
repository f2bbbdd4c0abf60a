// Synchronous blocks are walked recursively. Async functions are state machines: `activation` holds
// the blocks it is in, runs at once up to its first await, and is its own reaction to what it
// awaits.
#include "player.hpp"

#include <rondo/io/descriptor.hpp>
#include <rondo/task/spawn.hpp>

#include <chrono>
#include <cmath>
#include <cstring>
#include <exception>
#include <utility>

#include "promise.hpp"
#include "stage.hpp"

namespace replay {
namespace {

using std::chrono::milliseconds;

/// Node's rule for the delay of timers: whole milliseconds, and what makes no sense is 1.
milliseconds node_delay(double ms) {
    constexpr double longest = 2147483647;
    return milliseconds(ms >= 1 && ms <= longest ? static_cast<std::int64_t>(ms) : 1);
}

/// The first label a block logs: its name in the timeline.
const std::string* first_label(const block& b, std::size_t from = 0) {
    for (std::size_t i = from; i < b.size(); ++i)
        if (b[i].what == verb::log) return &b[i].text.text;
    return nullptr;
}

std::string title(const char* kind, const block& b, std::size_t from = 0) {
    const std::string* label = first_label(b, from);
    return label == nullptr ? kind : *kind == '\0' ? *label : std::string(kind) + " " + *label;
}

/// What a callback does when its time has come: it runs a block, or resolves a promise of `via`.
struct work {
    const block* body = nullptr;
    promise* resolves = nullptr;
    span at;
};

class activation;

class player {
 public:
    player(const scenario& s, rondo::loop& on, recording* record)
        : scenario_(s),
          stage_(on, record),
          realm_(stage_),
          handles_(s.handles.size()),
          promises_(s.promises.size()),
          deferred_(s.promises.size()) {}

    outcome run();

    realm& promises() noexcept { return realm_; }
    stage& where() noexcept { return stage_; }
    void run(const block& b);
    void execute(const statement& s);
    value evaluate(const expression& e);
    void give_up(std::string why) { stage_.give_up(std::move(why)); }
    void perform(std::uint32_t item, const work& w);

 private:
    /// What a handle's name stands for.
    struct held {
        rondo::handle of;
        std::uint32_t item = 0;
    };

    void start();
    void schedule(source where, double ms, const work& w, held* name = nullptr);
    void set_interval(const statement& s);
    void make_readable(std::uint32_t item, const work& w);
    void clear(int name);
    void set_referenced(int name, bool is);
    void spin(double ms);
    value via(const expression& e);
    value chain(const expression& e);
    value combine(const expression& e);
    std::uint32_t note(queue_name where, const char* kind, const work& w, double due = 0);
    double due(milliseconds after) const;

    const scenario& scenario_;
    stage stage_;
    realm realm_;
    std::vector<held> handles_;
    std::vector<value> promises_;
    std::vector<promise*> deferred_;  // of `new`: whom resolve and reject mean
    outcome outcome_;
};

// --- async functions -----------------------------------------------------------------------------

/// One call of an async function.
class activation final : public reaction {
 public:
    activation(player& p, const expression& call) : player_(p), result_(p.promises().pending()), call_(call) {
        stack_.push_back({&call.body, part::function, nullptr, {}, 0});
    }

    promise& result() noexcept { return result_; }
    void start() { proceed(); }

    /// What it awaited has settled.
    void run(realm&, bool fulfilled) override {
        if (!fulfilled) complete({ending::thrown, {}});
        proceed();
    }

    caption describe(bool) const override {
        return {title("resume", *stack_.back().body, stack_.back().next), call_.callback_at};
    }

 private:
    /// How a block ended ("Completion Record").
    enum class ending : std::uint8_t { normal, thrown, returned };
    struct completion {
        ending how = ending::normal;
        value with;
    };

    enum class part : std::uint8_t { function, tried, on_error, at_end };
    struct frame {
        const block* body;
        part what;
        const statement* of;   // the `try`
        completion held_back;  // at_end: what goes on when it ends normally
        std::size_t next;
    };

    void proceed() {
        while (!stack_.empty() && !player_.where().given_up()) {
            frame& top = stack_.back();
            if (top.next == top.body->size()) {
                complete({});
                continue;
            }
            const statement& s = (*top.body)[top.next++];
            try {
                if (execute(s)) return;
            } catch (const type_error&) {
                complete({ending::thrown, {}});
            }
        }
    }

    /// True: it waits now.
    bool execute(const statement& s) {
        switch (s.what) {
            case verb::await:
                note(s);
                await(player_.evaluate(*s.operand));
                return true;
            case verb::attempt: stack_.push_back({&s.body, part::tried, &s, {}, 0}); return false;
            case verb::raise:
                note(s);
                complete({ending::thrown, {}});
                return false;
            case verb::give_back: {
                note(s);
                const value v = s.operand ? player_.evaluate(*s.operand) : value{};
                complete({ending::returned, v});
                return false;
            }
            default: player_.execute(s); return false;
        }
    }

    void note(const statement& s) {
        player_.where().step();
        if (player_.where().record != nullptr) player_.where().record->statement(s.at);
    }

    void await(value v) { player_.promises().then(player_.promises().promise_of(v), *this); }

    /// Leaves blocks until one goes on.
    void complete(completion c) {
        while (!stack_.empty()) {
            const frame top = stack_.back();
            stack_.pop_back();
            if (top.what == part::function) return finish(c);
            if (top.what == part::at_end) {
                if (c.how == ending::normal) c = top.held_back;
            } else if (top.what == part::tried && c.how == ending::thrown && top.of->on_error) {
                stack_.push_back({&*top.of->on_error, part::on_error, top.of, {}, 0});
                return;
            } else if (top.of->at_end) {
                stack_.push_back({&*top.of->at_end, part::at_end, top.of, c, 0});
                return;
            }
            if (c.how == ending::normal) return;
        }
    }

    void finish(const completion& c) {
        if (c.how == ending::thrown) {
            player_.promises().settle(result_, false);
        } else {
            player_.promises().resolve_once(result_, c.with);
        }
    }

    player& player_;
    promise& result_;
    const expression& call_;
    std::vector<frame> stack_;
};

// --- then, catch, finally ------------------------------------------------------------------------

/// Passes on, after the body of a `finally`, what was there before it ("valueThunk", "thrower").
class pass_on final : public reaction {
 public:
    pass_on(promise& into, bool fulfilled) noexcept : into_(into), fulfilled_(fulfilled) {}
    void run(realm& r, bool) override { r.settle(into_, fulfilled_); }
    caption describe(bool) const override { return {"finally: go on", {}}; }

 private:
    promise& into_;
    bool fulfilled_;
};

class handler final : public reaction {
 public:
    handler(player& p, const expression& e) noexcept : player_(p), what_(e), derived_(p.promises().pending()) {}

    promise& derived() noexcept { return derived_; }

    void run(realm& r, bool fulfilled) override {
        const bool mine = what_.what == form::at_end || fulfilled == (what_.what != form::on_error);
        if (!mine) return r.settle(derived_, fulfilled);
        try {
            call(r, fulfilled);
        } catch (const type_error&) {
            r.settle(derived_, false);
        }
    }

    caption describe(bool fulfilled) const override {
        switch (what_.what) {
            case form::at_end: return {title("finally", what_.body), what_.callback_at};
            case form::on_error: return {fulfilled ? "catch: pass on" : title("catch", what_.body), what_.callback_at};
            default: return {fulfilled ? title("then", what_.body) : "then: pass on", what_.callback_at};
        }
    }

 private:
    void call(realm& r, bool fulfilled) {
        value result;
        if (what_.what == form::then_return) {
            result = player_.evaluate(what_.operands[1]);
        } else {
            player_.run(what_.body);
        }
        if (what_.what == form::at_end) {
            promise& after = r.pending();
            r.then(r.resolved({}), r.make<pass_on>(after, fulfilled));
            result = {value::sort::promise, &after};
        }
        r.resolve_once(derived_, result);
    }

    player& player_;
    const expression& what_;
    promise& derived_;
};

// --- readable descriptors ------------------------------------------------------------------------

/// A connected pair of descriptors.
class wire {
 public:
    wire(rondo::loop& on, int reader, int writer) noexcept : loop_(&on), reader_(reader), writer_(writer) {}
    wire(wire&& other) noexcept
        : loop_(std::exchange(other.loop_, nullptr)), reader_(other.reader_), writer_(other.writer_) {}
    wire& operator=(wire&&) = delete;
    ~wire() { close(); }

    int reader() const noexcept { return reader_; }
    void close() noexcept {
        if (loop_ == nullptr) return;
        rondo::sys_op call{.what = rondo::sys_op::call::close, .fd = writer_};
        auto& scheduler = rondo::detail::scheduler::of(*std::exchange(loop_, nullptr));
        scheduler.control(call);
        scheduler.reap(reader_);
    }

 private:
    rondo::loop* loop_;
    int reader_, writer_;
};

/// The loop resumes this task as a callback of its poll phase, so what follows the wait is one.
rondo::task<> when_readable(player& p, wire w, std::uint32_t item, work what) {
    co_await rondo::wait_readable(w.reader());
    w.close();
    p.perform(item, what);
}

// --- the interpreter -----------------------------------------------------------------------------

outcome player::run() {
    stage_.loop.on_unhandled(
        [](std::exception_ptr error, std::source_location, void* self) {
            try {
                std::rethrow_exception(std::move(error));
            } catch (const std::exception& e) {
                static_cast<player*>(self)->give_up(e.what());
            } catch (...) {
                static_cast<player*>(self)->give_up("an unknown error");
            }
        },
        this);
    start();
    if (!stage_.given_up()) stage_.loop.run();
    outcome_.error = stage_.error();
    return std::move(outcome_);
}

void player::start() {
    const work program{&scenario_.program, nullptr, {}};
    if (stage_.record != nullptr) {
        static constexpr queue_name queues[] = {queue_name::main, queue_name::immediates, queue_name::io,
                                                queue_name::timers};
        stage_.record->queued(queues[static_cast<std::size_t>(scenario_.start)], "program", {}, 1);
    }
    switch (scenario_.start) {
        case start_in::main: return perform(recording::program, program);
        case start_in::check:
            stage_.loop.set_immediate([this, program] { perform(recording::program, program); });
            return;
        case start_in::timer:
            stage_.loop.set_immediate([this, program] {
                stage_.loop.set_timeout(milliseconds(1), [this, program] { perform(recording::program, program); });
            });
            return;
        case start_in::poll:
            stage_.loop.set_immediate([this, program] { make_readable(recording::program, program); });
            return;
    }
}

void player::perform(std::uint32_t item, const work& w) {
    stage_.perform(item, [&] {
        if (w.body != nullptr) {
            run(*w.body);
        } else {
            realm_.resolve(*w.resolves);
        }
    });
}

void player::run(const block& b) {
    for (const statement& s : b) {
        if (stage_.given_up()) return;
        execute(s);
    }
}

void player::execute(const statement& s) {
    stage_.step();
    if (stage_.record != nullptr) stage_.record->statement(s.at);
    const work callback{&s.body, nullptr, s.callback_at};
    held* const name = s.name >= 0 && s.what < verb::let ? &handles_[static_cast<std::size_t>(s.name)] : nullptr;
    const auto index = static_cast<std::size_t>(s.name);
    switch (s.what) {
        case verb::log:
            outcome_.labels.push_back(&s.text);
            if (stage_.record != nullptr) stage_.record->logged(s.text.text);
            break;
        case verb::tick: return schedule(source::tick, 0, callback);
        case verb::micro: return schedule(source::micro, 0, callback);
        case verb::imm: return schedule(source::imm, 0, callback, name);
        case verb::timer: return schedule(source::timer, s.ms, callback, name);
        case verb::io: return schedule(source::io, 0, callback);
        case verb::close: return schedule(source::close, 0, callback);
        case verb::every: return set_interval(s);
        case verb::clear: return clear(s.name);
        case verb::unref: return set_referenced(s.name, false);
        case verb::ref: return set_referenced(s.name, true);
        case verb::spin: return spin(s.ms);
        case verb::evaluate: evaluate(*s.operand); break;
        case verb::let: promises_[index] = evaluate(*s.operand); break;
        case verb::make:
            deferred_[index] = &realm_.pending();
            promises_[index] = {value::sort::promise, deferred_[index]};
            break;
        case verb::resolve:
        case verb::reject: {
            // JavaScript looks up whose function it is before it evaluates the argument.
            promise* const p = deferred_[index];
            if (p == nullptr) throw type_error(scenario_.promises[index] + " is not made yet");
            if (s.what == verb::reject) {
                realm_.reject(*p);
            } else {
                realm_.resolve(*p, s.operand ? evaluate(*s.operand) : value{});
            }
            break;
        }
        case verb::await:
        case verb::attempt:
        case verb::raise:
        case verb::give_back: break;  // activation's; the reader lets them stand nowhere else
    }
}

// --- the loop's queues ---------------------------------------------------------------------------

void player::schedule(source where, double ms, const work& w, held* name) {
    rondo::loop& loop = stage_.loop;
    std::uint32_t item = 0;
    const auto callback = [&] { return [this, w, item] { perform(item, w); }; };
    rondo::handle made;
    switch (where) {
        case source::tick:
            item = note(queue_name::ticks, "", w);
            loop.next_tick(callback());
            break;
        case source::micro:
            item = note(queue_name::microtasks, "", w);
            loop.queue_microtask(callback());
            break;
        case source::imm:
            item = note(queue_name::immediates, "", w);
            made = loop.set_immediate(callback());
            break;
        case source::timer: {
            const milliseconds after = node_delay(ms);
            item = note(queue_name::timers, "", w, due(after));
            made = loop.set_timeout(after, callback());
            break;
        }
        case source::io:
            item = note(queue_name::io, "", w);
            make_readable(item, w);
            break;
        case source::close:
            item = note(queue_name::closing, "", w);
            loop.queue_close(callback());
            break;
    }
    if (name != nullptr) *name = {std::move(made), item};
}

void player::set_interval(const statement& s) {
    const milliseconds period = node_delay(s.ms);
    const work w{&s.body, nullptr, s.callback_at};
    const std::uint32_t item = note(queue_name::timers, "", w, due(period));
    rondo::handle made = stage_.loop.set_interval(period, [this, &s, period, item, runs = 0.0]() mutable {
        const double next = due(period);  // counted from the start of this run
        stage_.perform(item, [&] {
            run(s.body);
                // The name may stand for another timer by now; so it does in JavaScript.
            if (++runs >= s.times) clear(s.name);
        });
        if (stage_.record != nullptr && !stage_.record->was_removed(item)) stage_.record->queued_again(item, next);
    });
    handles_[static_cast<std::size_t>(s.name)] = {std::move(made), item};
}

void player::make_readable(std::uint32_t item, const work& w) {
    using call = rondo::sys_op::call;
    rondo::loop& loop = stage_.loop;
    auto& scheduler = rondo::detail::scheduler::of(loop);
    rondo::sys_op pair{.what = call::stream_pair};
    if (const int result = scheduler.control(pair); result < 0)
        return give_up(std::string("no descriptors: ") + std::strerror(-result));
    wire made(loop, pair.fds[0], pair.fds[1]);
    char byte = 'x';
    rondo::sys_op send{.what = call::try_send, .fd = pair.fds[1], .data = &byte, .size = 1};
    if (const int result = scheduler.control(send); result < 0)
        return give_up(std::string("a descriptor cannot be made readable: ") + std::strerror(-result));
    rondo::spawn_on(loop, when_readable, std::ref(*this), std::move(made), item, w);
}

void player::clear(int name) {
    held& h = handles_[static_cast<std::size_t>(name)];
    if (stage_.record != nullptr && h.of.active()) stage_.record->removed(h.item);
    h.of.cancel();
}

void player::set_referenced(int name, bool is) {
    held& h = handles_[static_cast<std::size_t>(name)];
    if (stage_.record != nullptr && h.of.active()) stage_.record->referenced(h.item, is);
    if (is) {
        h.of.ref();
    } else {
        h.of.unref();
    }
}

void player::spin(double ms) {
    stage_.loop.spin(milliseconds(static_cast<std::int64_t>(ms)));
    if (stage_.record != nullptr) stage_.record->time_passed(stage_.loop.now());
}

std::uint32_t player::note(queue_name where, const char* kind, const work& w, double due) {
    if (stage_.record == nullptr) return 0;
    return stage_.record->queued(where, w.body != nullptr ? title(kind, *w.body) : "resolve", w.at, due);
}

double player::due(milliseconds after) const {
    return stage_.record == nullptr ? 0 : stage_.record->milliseconds(stage_.loop.now() + after);
}

// --- expressions ---------------------------------------------------------------------------------

value player::evaluate(const expression& e) {
    const auto of = [](promise& p) { return value{value::sort::promise, &p}; };
    switch (e.what) {
        case form::value: return {};
        case form::thenable: return {value::sort::thenable, nullptr};
        case form::resolved: return of(realm_.resolved({}));
        case form::rejected: return of(realm_.rejected());
        case form::named: return promises_[static_cast<std::size_t>(e.name)];
        case form::via: return via(e);
        case form::call: {
            auto& called = realm_.make<activation>(*this, e);
            called.start();
            return of(called.result());
        }
        case form::then:
        case form::then_return:
        case form::on_error:
        case form::at_end: return chain(e);
        case form::all:
        case form::race:
        case form::any:
        case form::settled: return combine(e);
    }
    return {};
}

value player::via(const expression& e) {
    promise& p = realm_.pending();
    schedule(e.from, e.ms, {nullptr, &p, e.at});
    return {value::sort::promise, &p};
}

/// P.then(...) and its like.
value player::chain(const expression& e) {
    const value on = evaluate(e.operands[0]);
    const bool calls_then = e.what == form::then || e.what == form::then_return;
    if (on.what == value::sort::plain || (on.what == value::sort::thenable && !calls_then))
        throw type_error("then, catch or finally of a value that has none");
    if (on.what == value::sort::thenable) {  // it calls the handler at once and returns nothing
        if (e.what == form::then) {
            run(e.body);
        } else {
            evaluate(e.operands[1]);
        }
        return {};
    }
    auto& h = realm_.make<handler>(*this, e);
    realm_.then(*on.p, h);
    return {value::sort::promise, &h.derived()};
}

value player::combine(const expression& e) {
    std::vector<value> inputs;
    inputs.reserve(e.operands.size());
    for (const expression& each : e.operands) inputs.push_back(evaluate(each));
    return {value::sort::promise, &realm_.combine(e.what, inputs)};
}

}  // namespace

outcome play(const scenario& s, rondo::backend_kind kind, recording* record) {
    rondo::loop_options options;
    options.kind = kind;
    options.observer = record;
    rondo::loop loop(options);
    if (record != nullptr) record->start(loop.now());
    player p(s, loop, record);
    return p.run();
}

}  // namespace replay
