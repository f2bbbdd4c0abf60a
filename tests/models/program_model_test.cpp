// Random programs of everything a task can do, against a model and against what holds in every program.
//
// A seed is a program and a world: RONDO_MODEL_SEEDS=first:count runs others than the default; of one alone the
// program is printed. What goes wrong is made smaller and printed.
#include "support/net.hpp"
#include "support/parcel.hpp"
#include "support/program_model.hpp"
#include "support/steps.hpp"

#include <rondo/actor/supervisor.hpp>
#include <rondo/sim/world.hpp>

#include <csignal>
#include <cstdio>
#include <map>
#include <set>
#include <sstream>

using namespace rondo;
using namespace std::chrono_literals;
using random_program::block;
using random_program::entry;
using random_program::node;
using random_program::program;
using random_program::story;
using random_program::verb;

#if defined(RONDO_TEST_SANITIZED) || defined(__SANITIZE_ADDRESS__)
extern "C" void __sanitizer_set_death_callback(void (*callback)());  // NOLINT(bugprone-reserved-identifier)
#endif

namespace {

std::string text_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const exception_group& group) {
        std::vector<std::string> all;
        for (const std::exception_ptr& one : group.errors()) all.push_back(text_of(one));
        return random_program::grouped(std::move(all));
    } catch (const std::system_error& e) {
        if (e.code() == std::errc::timed_out) return "timeout";
        if (e.code() == std::errc::operation_canceled) return "canceled";
        return e.code() == std::errc::broken_pipe ? "closed" : e.what();
    } catch (const std::logic_error& e) {
        const std::string_view text = e.what();
        if (text.find("ended before it was ready") != text.npos) return "not ready";
        return text.find("of no children") != text.npos ? "of no children" : e.what();
    } catch (const std::exception& e) {
        return e.what();
    } catch (const cancelled&) {
        return "cancelled";
    }
}
std::string text_of(std::error_code code) { return text_of(std::make_exception_ptr(std::system_error(code))); }

/// A program, run by the library.
class runner {
 public:
    runner(const program& p, duration unit) : program_(p), unit_(unit) {}

    task<> run() {
        loop& l = this_loop();
        began_ = l.now();
        l.on_unhandled(&unhandled, this);
        for (const random_program::event& e : program_.events)
            timers_.push_back(l.set_timeout(e.at * unit_, [this, &e] { from_outside(e); }));
        at_the_end_ = l.set_timeout(program_.end * unit_, [this] { the_end(); });
        handles_[0] = spawn([this]() -> task<> { return main(); });
        co_await over_.wait();
        for (timer& t : timers_) t.cancel();
        at_the_end_.cancel();
        if (!handles_[0].done()) co_await yield();  // in chaos its end may still be under way
        require(handles_[0].done(), "the main task has said its last, and goes on");
        handles_.clear();  // whose errors nobody has asked for
        const loop_stats stats = l.stats();
        require(stats.tasks == 1, "tasks are left");
        require(stats.timers == 0, "timers are left");
        require(stats.operations == 0, "operations are left");
        require(stats.turns < 200 + 60 * static_cast<std::uint64_t>(program_.ids), "too many turns");
        turns = stats.turns;
        at_last();
    }

    story told;
    std::string fault;  // empty if all that holds in every program did
    std::uint64_t turns = 0;

 private:
    /// Where a statement stands.
    struct where {
        int task;
        task_group* group = nullptr;  // into which this body spawns
        supervisor_group* supervisors = nullptr;
        int group_id = 0;
        task_group* home_group = nullptr;  // of which this task is a child
        supervisor_group* home_supervisors = nullptr;
        int home_id = 0;
        mutex::guard* guard = nullptr;

        where child(int number) const {
            where w{number};
            w.home_group = group;
            w.home_supervisors = supervisors;
            w.home_id = group_id;
            return w;
        }
        where alone(int number) const {
            where w{number};
            return w;
        }
    };

    void require(bool holds, std::string what) {
        if (!holds && fault.empty()) fault = std::move(what);
    }
    void say(int task, int number, std::string what) {
        told.push_back({task, number, (this_loop().now() - began_).count() * 1000 / unit_.count(), std::move(what)});
    }

    // --- from outside

    static void unhandled(std::exception_ptr error, std::source_location, void* self) {
        static_cast<runner*>(self)->say(-1, -1, "unhandled " + text_of(error));
    }
    void from_outside(const random_program::event& e) {
        loop& l = this_loop();
        const auto f = [this, &e] { act(e.what); };
        using from = random_program::from;
        switch (e.how) {
            case from::timer: return f();
            case from::tick: return l.next_tick(f);
            case from::microtask: return l.queue_microtask(f);
            case from::immediate: l.set_immediate(f); return;
            case from::close: return l.queue_close(f);
            case from::post: static_cast<void>(l.remote().post(f)); return;
            case from::task:
                spawn([f]() -> task<> {
                    f();
                    co_return;
                }).discard();
                return;
        }
    }
    void the_end() {
        const auto scopes = scopes_;
        for (const auto& [number, s] : scopes) s->set_shielded(false);
        for (event& e : events_) e.set();
        for (auto& c : channels_) c.close();
        changed_.notify_all();
        handles_[0].cancel();
        // So often that whoever waits on is stuck: a deadlock says so, with the tree.
        if (++ends_ < 100) at_the_end_ = this_loop().set_timeout(unit_, [this] { the_end(); });
    }
    void act(const node& n) {
        const auto s = scopes_.find(n.number);
        const auto h = handles_.find(n.number);
        switch (n.what) {
            case verb::cancel_task:
                if (h != handles_.end()) h->second.cancel();
                return;
            case verb::cancel_scope:
                if (s != scopes_.end()) s->second->cancel();
                if (const auto g = groups_.find(n.number); g != groups_.end()) g->second->cancel();
                if (const auto g = supervisors_.find(n.number); g != supervisors_.end()) g->second->cancel();
                return;
            case verb::set_deadline:
                if (s != scopes_.end()) s->second->set_deadline(began_ + n.at * unit_);
                return;
            case verb::flip_shield:
                if (s != scopes_.end()) s->second->set_shielded(!s->second->is_shielded());
                return;
            case verb::set_event: return events_[n.number].set();
            case verb::close: return channels_[n.number].close();
            case verb::notify: return n.flag ? changed_.notify_all() : changed_.notify_one();
            case verb::drop:
                if (h != handles_.end()) handles_.erase(h);
                return;
            default: return;
        }
    }

    // --- tasks

    task<> main() {
        std::exception_ptr error;
        try {
            co_await whole(0, program_.main, where{0});
        } catch (...) {
            error = std::current_exception();
        }
        over_.set();
        if (error) std::rethrow_exception(error);
    }
    /// A task that says when it begins and ends.
    task<> whole(int number, const block& body, where w) {
        say(w.task, number, "began");
        std::exception_ptr error;
        try {
            co_await all(body, w);
        } catch (...) {
            error = std::current_exception();
        }
        say(w.task, number, "ended " + (error ? text_of(error) : "ok"));
        if (error) std::rethrow_exception(error);
    }

    /// How many children of a group there are, and how many of them run.
    struct counted {
        int alive = 0;
        int running = 0;
        int most = 0;
    };
    struct child {
        runner* of;
        const node* n;
        where w;
        bool ran = false;
        child(runner& r, const node& s, where at) : of(&r), n(&s), w(at) { ++r.counts_[at.home_id].alive; }
        child(child&& other) noexcept : of(std::exchange(other.of, nullptr)), n(other.n), w(other.w), ran(other.ran) {}
        ~child() {
            if (of == nullptr) return;
            --of->counts_[w.home_id].alive;
            if (!ran) of->say(n->id, n->id, "never ran");
        }
        task<> operator()() {
            of->require(!std::exchange(ran, true), "a child ran twice");
            return of->limited(*n, w);
        }
    };
    task<> limited(const node& n, where w) {
        counted& c = counts_[w.home_id];
        ++c.running;
        require(c.most == 0 || c.running <= c.most, "more run than may: group #" + std::to_string(w.home_id));
        struct at_end {
            counted& c;
            ~at_end() { --c.running; }
        } end{c};
        co_await whole(n.id, n.body, w);
    }
    void start(const node& n, where w) {
        if (n.what == verb::beside) {
            w.group = w.home_group;
            w.supervisors = w.home_supervisors;
            w.group_id = w.home_id;
        }
        if (w.group == nullptr && w.supervisors == nullptr) return;
        child made(*this, n, w.child(n.id));
        task_handle<> handle;
        if (n.what == verb::background) {
            handle = w.group != nullptr ? w.group->spawn_background(std::move(made))
                                        : w.supervisors->spawn_background(std::move(made));
        } else {
            handle = w.group != nullptr ? w.group->spawn(std::move(made)) : w.supervisors->spawn(std::move(made));
        }
        if (n.flag) handles_.insert_or_assign(n.id, std::move(handle));
    }

    // --- statements

    task<> all(const block& body, where w) {
        for (const node& n : body) co_await one(n, w);
    }
    task<> one(const node& n, where w) {
        std::exception_ptr error;
        std::string text;
        try {
            text = co_await execute(n, w);
        } catch (...) {
            error = std::current_exception();
        }
        say(w.task, n.id, error ? text_of(error) : text);
        if (error) std::rethrow_exception(error);
    }

    time_point moment(int at) const { return began_ + at * unit_; }

    task<std::string> execute(const node& n, where w) {
        std::string text = "ok";
        switch (n.what) {
            case verb::sleep:
                if (n.flag) {
                    static_cast<void>(co_await attempt(sleep_until(moment(n.at))));
                } else {
                    co_await sleep_until(moment(n.at));
                }
                break;
            case verb::requeue:
                if (n.number == 0) co_await yield();
                if (n.number == 1) co_await microtask();
                if (n.number == 2) co_await next_tick();
                if (n.number == 3) co_await immediate();
                break;
            case verb::fail: throw std::runtime_error("e" + std::to_string(n.id));
            case verb::give_up: throw cancelled{};
            case verb::call: co_await all(n.body, w); break;
            case verb::swallow:
            case verb::convert:
            case verb::handle: text = co_await catching(n, w); break;
            case verb::cleanup: co_await in_cleanup(n, w); break;
            case verb::generate: text = co_await generating(n, w); break;
            case verb::scope:
            case verb::timeout:
            case verb::move_on:
            case verb::shield: text = co_await in_scope(n, w); break;
            case verb::group: co_await in_group(n, w); break;
            case verb::supervisors: co_await in_supervisors(n, w); break;
            case verb::spawn:
            case verb::beside:
            case verb::background: start(n, w); break;
            case verb::start: text = co_await starting(n, w); break;
            case verb::join: text = co_await joining(n); break;
            case verb::all:
            case verb::any:
            case verb::race:
            case verb::settled:
            case verb::map: text = co_await combining(n, w); break;
            case verb::restarted: co_await restarting(n, w); break;
            case verb::send: text = co_await sending(n); break;
            case verb::receive: text = co_await receiving(n); break;
            case verb::permit: co_await with_permit(n, w); break;
            case verb::lock: co_await with_lock(n, w); break;
            case verb::condition:
                if (w.guard != nullptr) co_await in_condition(*w.guard);
                break;
            case verb::await_event: co_await events_[n.number].wait(); break;
            case verb::select: text = co_await selecting(n); break;
            case verb::part: break;
            default: act(n);
        }
        co_return text;
    }

    task<std::string> catching(const node& n, where w) {
        std::exception_ptr error;
        try {
            co_await all(n.body, w);
        } catch (const cancelled&) {
            if (n.what == verb::handle) throw;
            error = std::current_exception();
        } catch (...) {
            if (n.what != verb::handle) throw;
            error = std::current_exception();
        }
        if (!error) co_return "ok";
        if (n.what == verb::convert) throw std::runtime_error("e" + std::to_string(n.id));
        co_return n.what == verb::swallow ? "swallowed" : "handled " + text_of(error);
    }

    task<> in_cleanup(const node& n, where w) {
        auto body = [&]() -> task<> { return all(n.body, w); };
        auto other = [&]() -> task<> { return all(n.other, w); };
        co_await with_cleanup(body, other, n.limit * unit_ + n.id * unit_ / 1000);
    }

    async_generator<int> values(const node& n, where w) {
        for (const node& part : n.body) {
            co_await all(part.body, w);
            co_yield part.id;
        }
    }
    task<std::string> generating(const node& n, where w) {
        int given = 0;
        auto from = values(n, w);
        while (given < n.limit) {
            const int* const value = co_await from.next();
            if (value == nullptr) break;
            ++given;
        }
        co_return "values " + std::to_string(given);
    }

    template <class K>
    struct registered {
        std::map<int, K*>& in;
        int number;
        ~registered() { in.erase(number); }
    };
    task<bool> until(time_point deadline, const block& of, where w) {
        auto body = [&]() -> task<> { return all(of, w); };
        co_return co_await move_on_at(deadline, body);
    }
    task<std::string> in_scope(const node& n, where w) {
        auto body = [&]() -> task<> { return all(n.body, w); };
        if (n.what == verb::shield) {
            auto for_a_while = [&]() -> task<bool> { return until(moment(n.at), n.body, w); };
            const bool done = co_await shield(for_a_while);
            co_return done ? "done" : "cut short";
        }
        if (n.what == verb::timeout) {
            if (!n.flag) {
                co_await with_deadline(moment(n.at), body);
                co_return "ok";
            }
            const auto r = co_await attempt(with_deadline(moment(n.at), body));
            co_return r ? "ok" : text_of(r.error());
        }
        bool done;
        if (n.what == verb::move_on) {
            done = co_await move_on_at(moment(n.at), body);
        } else {
            const registered<cancel_scope> until_left{scopes_, n.id};
            auto with_scope = [&](cancel_scope& s) -> task<> {
                scopes_[n.id] = &s;
                return all(n.body, w);
            };
            scope_options options{.shielded = n.flag};
            if (n.at != 0) options.deadline = moment(n.at);
            done = co_await with_cancel_scope(with_scope, options);
        }
        co_return done ? "done" : "cut short";
    }

    task<> in_group(const node& n, where w) {
        const registered<task_group> until_left{groups_, n.id};
        counts_[n.id].most = n.limit;
        auto body = [&](task_group& g) -> task<> {
            groups_[n.id] = &g;
            where inside = w;
            inside.group = &g;
            inside.supervisors = nullptr;
            inside.group_id = n.id;
            return all(n.body, inside);
        };
        task_group_options options;
        if (n.limit != 0) options.max_running = static_cast<std::size_t>(n.limit);
        std::exception_ptr error;
        try {
            co_await with_task_group(body, options);
        } catch (...) {
            error = std::current_exception();
        }
        require(counts_[n.id].alive == 0, "a group has ended before its children");
        if (error) std::rethrow_exception(error);
    }
    task<> in_supervisors(const node& n, where w) {
        const registered<supervisor_group> until_left{supervisors_, n.id};
        counts_[n.id].most = n.limit;
        auto body = [&](supervisor_group& g) -> task<> {
            supervisors_[n.id] = &g;
            where inside = w;
            inside.group = nullptr;
            inside.supervisors = &g;
            inside.group_id = n.id;
            return all(n.body, inside);
        };
        supervisor_group_options options;
        if (n.limit != 0) options.max_running = static_cast<std::size_t>(n.limit);
        options.context = this;
        options.on_error = [](const std::exception_ptr& error, std::source_location, void* self) {
            static_cast<runner*>(self)->say(-1, -1, "handled " + text_of(error));
        };
        std::exception_ptr error;
        try {
            co_await with_supervisor_group(body, options);
        } catch (...) {
            error = std::current_exception();
        }
        require(counts_[n.id].alive == 0, "a group has ended before its children");
        if (error) std::rethrow_exception(error);
    }

    task<> two_halves(started<> ready, const node& n, where w) {
        say(w.task, n.id, "began");
        std::exception_ptr error;
        try {
            co_await all(n.body, w);
            ready.set();
            co_await all(n.other, w);
        } catch (...) {
            error = std::current_exception();
        }
        say(w.task, n.id, "ended " + (error ? text_of(error) : "ok"));
        if (error) std::rethrow_exception(error);
    }
    task<std::string> starting(const node& n, where w) {
        const where inside = w.child(n.id);
        auto halves = [this, &n, inside](started<> ready) { return two_halves(std::move(ready), n, inside); };
        if (w.group != nullptr && !n.flag) co_await w.group->start(halves);
        if (w.supervisors != nullptr && !n.flag) co_await w.supervisors->start(halves);
        if (n.flag && w.group != nullptr) {
            const auto r = co_await attempt(w.group->start(halves));
            if (!r) co_return text_of(r.error());
        }
        if (n.flag && w.supervisors != nullptr) {
            const auto r = co_await attempt(w.supervisors->start(halves));
            if (!r) co_return text_of(r.error());
        }
        co_return w.group != nullptr || w.supervisors != nullptr ? "ready" : "ok";
    }

    task<std::string> joining(const node& n) {
        const auto found = handles_.find(n.number);
        if (found == handles_.end()) co_return "ok";
        if (!n.flag) {
            co_await found->second;
            co_return "ok";
        }
        const auto r = co_await attempt(found->second);
        co_return r ? "ok" : text_of(r.error());
    }

    // Combinators.

    task<int> part(const node& p, int index) {
        say(p.id, p.id, "began");
        std::exception_ptr error;
        try {
            co_await all(p.body, where{p.id});
        } catch (...) {
            error = std::current_exception();
        }
        say(p.id, p.id, "ended " + (error ? text_of(error) : "ok"));
        if (error) std::rethrow_exception(error);
        co_return index;
    }
    struct calls_part {
        runner* of;
        const node* p;
        int index;
        task<int> operator()() const { return of->part(*p, index); }
    };
    static std::string text_of_all(const std::vector<task_outcome<int>>& all) {
        std::string text;
        for (const auto& one : all) {
            text += one.state() == task_state::cancelled ? " cancelled" : one ? " ok" : " " + text_of(one.error());
        }
        return text;
    }
    task<std::string> combining(const node& n, where) {
        std::vector<calls_part> calls;
        for (const node& p : n.body) calls.push_back({this, &p, static_cast<int>(calls.size())});
        std::string text = "ok";
        if (n.what == verb::all) {
            static_cast<void>(co_await when_all(calls));
        } else if (n.what == verb::any) {
            auto r = co_await when_any(calls);
            text = "first " + std::to_string(r.index()) + ":" + text_of_all(r.outcomes());
        } else if (n.what == verb::race) {
            const int index = co_await race(calls);
            text = "first " + std::to_string(index);
        } else if (n.what == verb::settled) {
            const auto outcomes = co_await all_settled(calls);
            text = "settled:" + text_of_all(outcomes);
        } else {
            auto call = [](const calls_part& c) { return c(); };
            const auto all = co_await map_concurrent(calls, static_cast<std::size_t>(n.limit), call);
            require(all.size() == calls.size(), "map_concurrent lost a result");
        }
        co_return text;
    }

    task<> restarted_child(const node& p) { return all(p.body, where{p.id}); }
    task<> restarting(const node& n, where w) {
        auto body = [&](supervisor& s) -> task<> { return start_and_go_on(s, n, w); };
        supervisor_options options;
        options.how = static_cast<strategy>(n.id % 3);
        options.intensity = 3;
        options.period = 3 * unit_;
        co_await with_supervisor(body, options);
    }
    task<> start_and_go_on(supervisor& s, const node& n, where w) {
        for (const node& p : n.other) {
            child_options options;
            options.restart = static_cast<restart>(p.limit);
            options.backoff_min = (p.id % 3) * unit_;
            options.backoff_max = 3 * unit_;
            options.shutdown = unit_;
            auto fn = [this](const node* of) { return restarted_child(*of); };
            static_cast<void>(co_await s.start(options, fn, &p));
        }
        co_await all(n.body, w);
    }

    // Channels, permits and the like.

    task<std::string> sending(const node& n) {
        test::parcel value(n.id);
        auto& to = channels_[n.number];
        if (n.flag) {
            const auto r = co_await attempt(to.send_from(value));
            if (!r) {
                require(value.number() == n.id, "what was not sent is gone");
                co_return text_of(r.error());
            }
        } else {
            co_await to.send_from(value);
        }
        sent_.insert(n.id);
        co_return "ok";
    }
    std::string received(const std::optional<test::parcel>& value) {
        if (!value) return "end";
        require(received_.insert(value->number()).second || !program_.has_model, "a value came twice");
        return "got " + std::to_string(value->number());
    }
    task<std::string> receiving(const node& n) {
        const auto value = co_await channels_[n.number].receive();
        co_return received(value);
    }

    task<> with_permit(const node& n, where w) {
        const auto permit = co_await semaphores_[n.number].acquire(static_cast<std::size_t>(n.limit));
        held_[n.number] += n.limit;
        require(held_[n.number] <= n.number + 1, "more permits than there are");
        struct at_end {
            int& held;
            int count;
            ~at_end() { held -= count; }
        } end{held_[n.number], n.limit};
        co_await all(n.body, w);
    }
    task<> with_lock(const node& n, where w) {
        auto guard = co_await mutex_.lock();
        require(owners_++ == 0, "two have the mutex");
        struct at_end {
            int& owners;
            ~at_end() { --owners; }
        } end{owners_};
        w.guard = &guard;
        co_await all(n.body, w);
    }
    task<> in_condition(mutex::guard& guard) {
        --owners_;
        struct at_end {
            runner& r;
            ~at_end() { r.require(r.owners_++ == 0, "a condition let a second one have the mutex"); }
        } end{*this};
        co_await changed_.wait(guard);
    }

    task<std::string> selecting(const node& n) {
        const auto arms = random_program::arms_of(n);
        const auto which = [](std::size_t i) { return "arm " + std::to_string(i); };
        switch (n.limit) {
            case 0:
            case 2: {
                auto& first = channels_[arms[0].number];
                event& set = events_[arms[2].number];
                if (n.limit == 0) {
                    auto got = co_await select_one(first.receive(), sleep_until(moment(n.at)), set.wait());
                    co_return which(got.index()) + (got.index() == 0 ? " " + received(got.get<0>()) : "");
                }
                auto got = co_await select_one(first.receive(), channels_[arms[1].number].receive(), set.wait());
                if (got.index() == 0) co_return which(0) + " " + received(got.get<0>());
                co_return which(got.index()) + (got.index() == 1 ? " " + received(got.get<1>()) : "");
            }
            case 1: {
                const auto got = co_await select_one(semaphores_[arms[0].number].acquire(), sleep_until(moment(n.at)));
                co_return which(got.index());
            }
            case 3: {
                test::parcel value(n.id);
                auto got = co_await select_one(channels_[arms[0].number].send_from(value),
                                               channels_[arms[1].number].receive(), sleep_until(moment(n.at)));
                if (got.index() == 0) sent_.insert(n.id);
                require(got.index() == 0 || value.number() == n.id, "what a select did not send is gone");
                co_return which(got.index()) + (got.index() == 1 ? " " + received(got.get<1>()) : "");
            }
            default: {
                const auto found = handles_.find(n.number);
                if (found == handles_.end()) co_return "ok";
                const auto got = co_await select_one(found->second, sleep_until(moment(n.at)));
                co_return which(got.index()) + (got.index() == 0 ? " ok" : "");
            }
        }
    }

    // --- what holds in every program

    void at_last() {
        for (auto& c : channels_) {
            require(c.waiting_senders() + c.waiting_receivers() == 0, "someone waits for a channel");
            while (auto left = c.try_receive())
                require(received_.insert(left->number()).second || !program_.has_model,
                        "a value was received and is still there");
        }
        if (program_.has_model)
            require(sent_ == received_, "what was sent is not what was received or is left");
        else
            require(std::includes(sent_.begin(), sent_.end(), received_.begin(), received_.end()),
                    "received, never sent");
        for (int i = 0; i < random_program::semaphores; ++i)
            require(semaphores_[i].available() == static_cast<std::size_t>(i) + 1 && semaphores_[i].waiting() == 0,
                    "permits are missing");
        require(!mutex_.locked() && changed_.waiting() == 0, "the mutex is locked, or someone waits for the condition");
        require(scopes_.empty() && groups_.empty() && supervisors_.empty(), "a scope was not left");
        for (const auto& [number, c] : counts_) require(c.alive == 0 && c.running == 0, "a child did not end");
    }

    const program& program_;
    const duration unit_;
    time_point began_{};
    std::vector<timer> timers_;
    timer at_the_end_;
    event over_;
    channel<test::parcel> channels_[random_program::channels] = {channel<test::parcel>(0), channel<test::parcel>(1),
                                                                 channel<test::parcel>(2)};
    semaphore semaphores_[random_program::semaphores] = {semaphore(1), semaphore(2)};
    event events_[random_program::events];
    mutex mutex_;
    condition changed_;
    std::map<int, cancel_scope*> scopes_;
    std::map<int, task_group*> groups_;
    std::map<int, supervisor_group*> supervisors_;
    std::map<int, counted> counts_;
    std::map<int, task_handle<>> handles_;
    std::set<int> sent_, received_;
    int held_[random_program::semaphores] = {};
    int owners_ = 0;
    int ends_ = 0;
};

// --- a seed ------------------------------------------------------------------------------------------------

constexpr duration unit = 1us;

/// How a world decides what is left open.
enum class way { benign, seeded, chaos };

/// A run of the library: what was told, and what was wrong with it.
struct ran {
    story told;
    std::string fault;
    std::uint64_t turns = 0;
};
ran run_in_world(const program& p, std::uint64_t seed, way how) {
    ran r;
    try {
        seeded_oracle decisions(seed);
        world_options options;
        if (how != way::benign) options.decisions = &decisions;
        options.mode = how == way::chaos ? order::chaos : order::spec;
        options.step_limit = 100'000;
        world w(options);
        runner actual(p, unit);
        try {
            w.run([&actual]() -> task<> { return actual.run(); });
        } catch (const std::exception& e) {
            actual.fault = e.what();
        }
        r = {std::move(actual.told), std::move(actual.fault), actual.turns};
    } catch (const std::exception& e) {
        r.fault = e.what();
    }
    if (test::parcel::live != 0 && r.fault.empty()) r.fault = "parcels are left";
    test::parcel::live = 0;
    return r;
}

class random_order : public random_program::any_order {
 public:
    explicit random_order(std::uint64_t seed) : dice_(seed) {}
    std::size_t pick(std::size_t ready) override { return dice_.below(ready); }

 private:
    test::dice dice_;
};

/// As text what two stories do not have in common, in the order of statements.
std::string difference(story seen, story model) {
    std::sort(seen.begin(), seen.end());
    std::sort(model.begin(), model.end());
    std::ostringstream text;
    const auto print = [&](const char* who, const entry& e) {
        text << who << " #" << e.node << " at " << static_cast<double>(e.when) / 1000 << ": " << e.what << "\n";
    };
    std::size_t i = 0, k = 0;
    while (i < seen.size() || k < model.size()) {
        if (k == model.size() || (i < seen.size() && seen[i] < model[k])) {
            print("rondo:", seen[i++]);
        } else if (i == seen.size() || model[k] < seen[i]) {
            print("model:", model[k++]);
        } else {
            ++i;
            ++k;
        }
    }
    return text.str();
}

struct counts {
    std::map<std::string, std::size_t> happened;
    std::size_t modelled = 0, by_guide = 0, models = 0;
};

/// What is wrong with a run of `p`; empty if nothing is.
std::string fault_of(const program& p, std::uint64_t seed, way how, counts* count = nullptr) {
    const ran r = run_in_world(p, seed, how);
    if (!r.fault.empty()) return r.fault + "\n";
    if (count != nullptr)
        for (const entry& e : r.told) ++count->happened[e.what.substr(0, e.what.find_first_of(" :("))];
    if (!p.has_model) return {};
    story seen = r.told;
    std::sort(seen.begin(), seen.end());
    const auto agrees = [&](const random_program::model& m) {
        story told = m.told();
        std::sort(told.begin(), told.end());
        return m.ended() && told == seen;
    };
    const random_program::model guided(p, &r.told, nullptr);
    if (count != nullptr) ++count->modelled, ++count->models;
    if (agrees(guided)) {
        if (count != nullptr) ++count->by_guide;
        return {};
    }
    // What was said does not tell all of the order: some other may be right.
    constexpr int orders = 3000;
    for (int i = 0; i < orders; ++i) {
        if (count != nullptr) ++count->models;
        random_order order(static_cast<std::uint64_t>(i) + 1);
        if (agrees(random_program::model(p, nullptr, i == 0 ? nullptr : &order))) return {};
    }
    return (guided.ended() ? "" : "the model does not end\n") + difference(r.told, guided.told());
}

program made_from(std::uint64_t seed) {
    test::dice dice(seed);
    return random_program::generator<test::dice>(dice).make();
}
way way_of(std::uint64_t seed) { return static_cast<way>(seed % 3); }
constexpr const char* way_names[] = {"benign", "seeded", "chaos"};

/// Says which seed it was when the process dies in it. Meanwhile the log is for warnings: ten thousand programs that
/// swallow cancellations would hide what fails.
class names_the_seed {
 public:
    names_the_seed() {
        set_log_level(log_level::warning);
        for (std::size_t i = 0; i < std::size(signals); ++i) {
            struct sigaction ours = {};
            ours.sa_handler = &died;
            sigaction(signals[i], &ours, &before[i]);
        }
#if defined(RONDO_TEST_SANITIZED) || defined(__SANITIZE_ADDRESS__)
        __sanitizer_set_death_callback(&print);
#endif
    }
    ~names_the_seed() {
        put_back();
        set_log_level(detail::debug_enabled ? log_level::debug : log_level::warning);
    }
    names_the_seed(const names_the_seed&) = delete;

    static inline std::uint64_t seed = 0;

 private:
    static void print() {
        std::fprintf(stderr, "this was RONDO_MODEL_SEEDS=%llu:1\n", static_cast<unsigned long long>(seed));
    }
    static void died(int number) {
        print();
        put_back();
        std::raise(number);
    }
    static void put_back() {
        for (std::size_t i = 0; i < std::size(signals); ++i) sigaction(signals[i], &before[i], nullptr);
    }
    static constexpr int signals[] = {SIGABRT, SIGSEGV, SIGTERM};
    static inline struct sigaction before[std::size(signals)];
};

struct range_of_seeds {
    std::uint64_t first = 1;
    std::uint64_t count = 10'000;
};
range_of_seeds seeds_to_run() {
    range_of_seeds range;
    if (const char* text = std::getenv("RONDO_MODEL_SEEDS")) {
        unsigned long long first = 0, count = 0;
        if (std::sscanf(text, "%llu:%llu", &first, &count) == 2 && count != 0) range = {first, count};
    }
    return range;
}

TEST_CASE("random programs: every task of them does what an independent model says, and loses nothing") {
    if (!test::on_sim() || test::seeded()) return;  // the worlds are their own: once is enough
    names_the_seed on_crash;
    const range_of_seeds range = seeds_to_run();
    counts count;
    const std::size_t frames = detail::frames_live();
    for (std::uint64_t seed = range.first; seed < range.first + range.count; ++seed) {
        names_the_seed::seed = seed;
        const way how = way_of(seed);
        program p = made_from(seed);
        if (range.count == 1) std::fprintf(stderr, "%s, %s", random_program::print(p).c_str(), way_names[seed % 3]);
        std::string fault = fault_of(p, seed, how, &count);
        if (fault.empty()) continue;
        random_program::shrink(p, [&](const program& smaller) { return !fault_of(smaller, seed, how).empty(); });
        fault = fault_of(p, seed, how);
        FAIL("seed " << seed << ", " << way_names[seed % 3] << "\n" << random_program::print(p) << fault);
    }
    CHECK(detail::frames_live() == frames);
    if (std::getenv("RONDO_MODEL_REPORT") != nullptr) {
        std::fprintf(stderr, "%zu modelled, %zu by the guide, %zu models\n", count.modelled, count.by_guide,
                     count.models);
        for (const auto& [what, times] : count.happened) std::fprintf(stderr, "%8zu %s\n", times, what.c_str());
    }
}

// Real clocks are late, so that the model's moments are not theirs; what holds in every program does there, too.
TEST_CASE("random programs: nothing is lost, and everything ends, on any backend") {
    names_the_seed on_crash;
    const std::size_t frames = detail::frames_live();
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        names_the_seed::seed = seed;
        const program p = made_from(seed);
        runner actual(p, test::on_sim() ? unit : 20 * unit);
        rondo::run([&actual]() -> task<> { return actual.run(); });
        INFO("seed ", seed);
        REQUIRE_MESSAGE(actual.fault.empty(), actual.fault);
    }
    CHECK(test::parcel::live == 0);
    CHECK(detail::frames_live() == frames);
}

}  // namespace
