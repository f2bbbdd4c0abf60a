// Random programs of scopes, groups, failures and cancels: every task of them sees what the model says.
#include "support/net.hpp"
#include "support/scope_model.hpp"

#include <cerrno>
#include <cstdio>
#include <deque>
#include <map>
#include <stdexcept>

using namespace rondo;
using namespace std::chrono_literals;
using scope_model::block;
using scope_model::program;
using scope_model::statement;
using scope_model::trace;
using scope_model::verb;

namespace {

/// Ticks, and the waits for them.
class ticks {
 public:
    class awaiter : public basic_wait<awaiter, wait_manner::prompt> {
     public:
        static constexpr const char* name = "tick";

        awaiter(ticks& t, int number) noexcept : of_(t), number_(number) {}
        bool start() {
            if (number_ <= of_.now_) return false;
            of_.waiting_[number_] = this;
            return arm();
        }
        void cancel() noexcept {
            of_.waiting_.erase(number_);
            complete(-ECANCELED);
        }
        void describe(char* text, std::size_t size) const noexcept { std::snprintf(text, size, "tick %d", number_); }

     private:
        ticks& of_;
        int number_;
    };

    awaiter until(int number) noexcept { return {*this, number}; }
    void to(int number) noexcept {
        now_ = number;
        const auto found = waiting_.find(number);
        if (found == waiting_.end()) return;
        op* const o = found->second;
        waiting_.erase(found);
        detail::running().complete(*o, 0);
    }

 private:
    int now_ = 0;
    std::map<int, op*> waiting_;
};

std::string text_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const exception_group& group) {
        std::vector<std::string> all;
        for (const std::exception_ptr& one : group.errors()) all.push_back(text_of(one));
        return scope_model::grouped(std::move(all));
    } catch (const std::system_error& e) {
        return e.code() == std::errc::operation_canceled ? "canceled" : e.what();
    } catch (const std::exception& e) {
        return e.what();
    }
}

std::string first_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const exception_group& group) {
        return text_of(group.first());
    } catch (...) {
        return {};
    }
}

/// A program of the model, run by the library.
class runner {
 public:
    explicit runner(const program& p)
        : program_(p), seen_(size(p.tasks)), handles_(size(p.tasks)), open_(size(p.scopes)) {}

    task<> run() {
        handles_[0] = spawn([this]() -> task<> { return whole(0, program_.main, nowhere{}); });
        co_await immediate();
        for (int now = 1; now <= static_cast<int>(program_.events.size()); ++now) {
            clock_.to(now);
            happens(program_.events[size(now) - 1]);
            co_await immediate();  // all that it woke has run
        }
        CHECK(handles_[0].done());
        // Errors that nobody has asked their handle for.
        this_loop().on_unhandled([](std::exception_ptr, std::source_location, void*) {});
        handles_.clear();
    }

    const trace& of(int number) const { return seen_[size(number)]; }
    std::vector<std::string> handled() const {
        std::vector<std::string> all = handled_;
        std::sort(all.begin(), all.end());
        return all;
    }

 private:
    /// The group that a body spawns into.
    struct nowhere {};
    struct place {
        task_group* group = nullptr;
        supervisor_group* supervisor = nullptr;
        place() = default;
        place(nowhere) {}  // NOLINT(*-explicit-*)
        place(task_group& g) : group(&g) {}
        place(supervisor_group& g) : supervisor(&g) {}
    };
    struct opened {
        cancel_scope* scope = nullptr;
        place group;
    };

    static std::size_t size(int n) { return static_cast<std::size_t>(n); }

    void note(int number, std::string text, std::string first = {}) {
        seen_[size(number)].push_back({std::move(text), std::move(first)});
    }

    void happens(const scope_model::event& e) {
        switch (e.what) {
            case scope_model::event::kind::end_wait: return;
            case scope_model::event::kind::cancel_task:
                if (handles_[size(e.number)]) handles_[size(e.number)].cancel();
                return;
            case scope_model::event::kind::cancel_group: {
                const place g = open_[size(e.number)].group;
                if (g.group != nullptr) g.group->cancel();
                if (g.supervisor != nullptr) g.supervisor->cancel();
                return;
            }
            default: break;
        }
        cancel_scope* const s = open_[size(e.number)].scope;
        if (s == nullptr) return;
        if (e.what == scope_model::event::kind::cancel_scope) s->cancel();
        if (e.what == scope_model::event::kind::expire_scope) s->set_deadline(now() - 1s);
        if (e.what == scope_model::event::kind::shield) s->set_shielded(true);
        if (e.what == scope_model::event::kind::unshield) s->set_shielded(false);
    }

    task<> whole(int number, const block& body, place home) {
        std::exception_ptr error;
        bool was_cancelled = false;
        try {
            co_await all(number, body, place{}, home);
        } catch (const cancelled&) {
            was_cancelled = true;
        } catch (...) {
            error = std::current_exception();
        }
        if (was_cancelled) {
            note(number, "ended cancelled");
            throw cancelled{};
        }
        if (error) {
            note(number, "ended with " + text_of(error), first_of(error));
            std::rethrow_exception(error);
        }
        note(number, "ended");
    }

    /// Until it runs, it is a child that never ran.
    struct child {
        runner* of;
        int number;
        const block* body;
        place home;
        child(runner& r, const statement& s, place p) : of(&r), number(s.number), body(&s.body), home(p) {}
        child(child&& other) noexcept
            : of(std::exchange(other.of, nullptr)), number(other.number), body(other.body), home(other.home) {}
        ~child() {
            if (of == nullptr) return;
            of->note(number, "never ran");
            of->note(number, "ended cancelled");
        }
        task<> operator()() { return std::exchange(of, nullptr)->whole(number, *body, home); }
    };

    void start(const statement& s, place into) {
        child made(*this, s, into);
        task_handle<> handle;
        if (into.group != nullptr) {
            handle = s.what == verb::background ? into.group->spawn_background(std::move(made))
                                                : into.group->spawn(std::move(made));
        } else {
            handle = s.what == verb::background ? into.supervisor->spawn_background(std::move(made))
                                                : into.supervisor->spawn(std::move(made));
        }
        if (s.flag) handles_[size(s.number)] = std::move(handle);
    }

    task<> all(int number, const block& body, place group, place home) {
        for (const statement& s : body) {
            switch (s.what) {
                case verb::wait: co_await clock_.until(s.number); break;
                case verb::fail: throw std::runtime_error("e" + std::to_string(s.number));
                case verb::give_up: throw cancelled{};
                case verb::spawn:
                case verb::background: start(s, group); break;
                case verb::spawn_beside: start(s, home); break;
                case verb::join: co_await handles_[size(s.number)]; break;
                case verb::scope: co_await in_scope(number, s, home); break;
                case verb::group: co_await in_group(number, s, home); break;
                case verb::supervisor: co_await in_supervisor(number, s, home); break;
                case verb::swallow:
                case verb::convert: co_await catching(number, s, home); break;
                case verb::handle_errors: co_await handling(number, s, home); break;
            }
        }
    }

    struct registered {
        opened& entry;
        explicit registered(opened& e) : entry(e) {}
        ~registered() { entry = {}; }
    };

    task<> in_scope(int number, const statement& s, place home) {
        const registered until_left(open_[size(s.number)]);
        auto body = [&](cancel_scope& scope) -> task<> {
            open_[size(s.number)].scope = &scope;
            return all(number, s.body, place{}, home);
        };
        const bool completed = co_await with_cancel_scope(body, {.shielded = s.flag});
        note(number, "scope " + std::to_string(s.number) + (completed ? " done" : " cut short"));
    }

    task<> in_group(int number, const statement& s, place home) {
        const registered until_left(open_[size(s.number)]);
        auto body = [&](task_group& g) -> task<> {
            open_[size(s.number)].group = g;
            return all(number, s.body, g, home);
        };
        task_group_options options;
        if (s.limit != 0) options.max_running = size(s.limit);
        co_await with_task_group(body, options);
        note(number, "group " + std::to_string(s.number) + " done");
    }

    task<> in_supervisor(int number, const statement& s, place home) {
        const registered until_left(open_[size(s.number)]);
        auto body = [&](supervisor_group& g) -> task<> {
            open_[size(s.number)].group = g;
            return all(number, s.body, g, home);
        };
        supervisor_group_options options;
        if (s.limit != 0) options.max_running = size(s.limit);
        options.context = this;
        options.on_error = [](const std::exception_ptr& error, std::source_location, void* self) {
            static_cast<runner*>(self)->handled_.push_back(text_of(error));
        };
        co_await with_supervisor_group(body, options);
        note(number, "group " + std::to_string(s.number) + " done");
    }

    task<> catching(int number, const statement& s, place home) {
        bool was_cancelled = false;
        try {
            co_await all(number, s.body, place{}, home);
        } catch (const cancelled&) {
            was_cancelled = true;
        }
        if (!was_cancelled) co_return;
        if (s.what == verb::convert) throw std::runtime_error("e" + std::to_string(s.number));
        note(number, "swallowed");
    }

    task<> handling(int number, const statement& s, place home) {
        try {
            co_await all(number, s.body, place{}, home);
        } catch (const std::exception&) {
            const std::exception_ptr error = std::current_exception();
            note(number, "handled " + text_of(error), first_of(error));
        }
    }

    const program& program_;
    ticks clock_;
    std::vector<trace> seen_;
    std::vector<std::string> handled_;
    std::vector<task_handle<>> handles_;
    std::vector<opened> open_;
};

std::string print(const trace& t) {
    std::string text;
    for (const scope_model::line& l : t)
        text += l.text + (l.first_error.empty() ? "" : " [" + l.first_error + "]") + "; ";
    return text;
}

bool same(const trace& seen, const trace& model) {
    return std::equal(seen.begin(), seen.end(), model.begin(), model.end(),
                      [](const scope_model::line& a, const scope_model::line& b) { return a.matches(b); });
}

/// How often a text occurs in the traces: a test whose programs do nothing would pass.
std::size_t count(const trace& t, std::string_view text) {
    std::size_t n = 0;
    for (const scope_model::line& l : t) n += l.text.find(text) != std::string::npos;
    return n;
}

TEST_CASE("scopes: every task of a random program sees what an independent model says" * doctest::test_suite("order")) {
    std::map<std::string, std::size_t> happened;
    const std::size_t frames = detail::frames_live();  // once for all: counting walks every free list
    for (std::uint64_t seed = 1; seed <= 5000; ++seed) {
        test::dice dice(seed);
        scope_model::generator<test::dice> random(dice);
        const program p = random.make();
        const scope_model::model expected(p);
        runner actual(p);
        rondo::run([&actual]() -> task<> { return actual.run(); });
        bool right = actual.handled() == expected.handled();
        for (int i = 0; i < p.tasks; ++i) {
            right = right && same(actual.of(i), expected.of(i));
            for (const char* what : {"never ran", "ended cancelled", "ended with (", "scope", "group", "handled (",
                                     "handled e", "swallowed", "cut short", "canceled", " e", "(("})
                happened[what] += count(expected.of(i), what);
        }
        if (right) continue;
        std::string report = "seed " + std::to_string(seed) + "\n" + scope_model::print(p);
        for (int i = 0; i < p.tasks; ++i) {
            if (same(actual.of(i), expected.of(i))) continue;
            report += "task " + std::to_string(i) + ": " + print(actual.of(i)) + "\n  model: " + print(expected.of(i));
            report += "\n";
        }
        FAIL(report);
    }
    CHECK(detail::frames_live() == frames);
    for (const auto& [what, times] : happened) {
        CAPTURE(what);
        CHECK(times > 20);
    }
}

}  // namespace
