// Actors against a model: long random programs in which an actor does what the test says, step by step.
#include <rondo/actor/actor.hpp>

#include "support/every_step.hpp"
#include "support/steps.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <vector>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

/// Of rank number % 3.
struct letter : request<int> {
    explicit letter(int n) noexcept : number(n) {}
    int number;
};

constexpr int any_rank = -1;
constexpr int nothing = 0;  // what a receive gives at the end

/// How a tell or an ask ended.
enum class ending : std::uint8_t { waiting, sent, full, gone, no_reply, replied };

// --- the model --------------------------------------------------------------------------------------------

/// What a mailbox does, said with deques.
class model {
 public:
    model(std::size_t limit, overflow when_full) : limit_(limit), when_full_(when_full) {}

    struct mail {
        int number;
        bool asks;
        bool wanted;  // the asker waits for the reply
    };

    void send(int number, bool asks) {
        const mail m{number, asks, asks};
        if (stopping) return refuse(m, ending::gone, true);
        if (receiving && matches(m)) {
            receiving = false;
            return taken_from(m, true);
        }
        if (slots.size() < limit_ && senders.empty()) return put(m);
        switch (when_full_) {
            case overflow::wait: return senders.push_back(m);
            case overflow::reject: return refuse(m, ending::full, false);
            case overflow::drop_newest: break;
            case overflow::drop_oldest:
                if (slots.empty()) break;
                lose(slots.front(), ending::full);
                slots.pop_front();
                return put(m);
        }
        refuse(m, ending::full, true);
    }
    bool try_send(int number) {
        if (stopping) return false;
        if (receiving && matches({number, false, false})) {
            receiving = false;
            received.push_back(number);
            return true;
        }
        if (slots.size() >= limit_ || !senders.empty()) return false;
        slots.push_back({number, false, false});
        return true;
    }
    void receive(int rank) {
        wanted_rank_ = rank;
        const auto wants = [this](const mail& m) { return matches(m); };
        if (const auto at = std::find_if(slots.begin(), slots.end(), wants); at != slots.end()) {
            const mail m = *at;
            slots.erase(at);
            taken_from(m, false);
            while (!senders.empty() && slots.size() < limit_) {
                put(senders.front());
                senders.pop_front();
            }
        } else if (const auto first = std::find_if(senders.begin(), senders.end(), wants); first != senders.end()) {
            const mail m = *first;
            senders.erase(first);
            taken_from(m, true);
        } else if (stopping) {
            received.push_back(nothing);
        } else {
            receiving = true;
        }
    }
    void stop() {
        if (stopping) return;
        stopping = true;
        if (receiving) received.push_back(nothing);
        receiving = false;
    }
    void end() {
        for (const mail& m : slots) lose(m, ending::gone);
        for (const mail& m : senders) refuse(m, ending::gone, true);
        for (const mail& m : held)
            if (m.wanted) ends[m.number] = ending::no_reply;
        slots.clear();
        senders.clear();
        held.clear();
        receiving = false;
        stopping = ended = true;
    }
    void cancel_sender(int number) {
        std::erase_if(senders, [&](const mail& m) { return m.number == number; });
        for (auto* all : {&slots, &held})
            for (mail& m : *all)
                if (m.number == number) m.wanted = false;
    }
    /// Of the oldest request that was received.
    void reply() {
        if (held.front().wanted) ends[held.front().number] = ending::replied;
        held.pop_front();
    }

    std::deque<mail> slots, senders, held;
    bool receiving = false, stopping = false, ended = false;
    std::uint64_t dead_letters = 0;
    // since the last look
    std::map<int, ending> ends;
    std::vector<int> received;

 private:
    bool matches(const mail& m) const { return wanted_rank_ == any_rank || m.number % 3 == wanted_rank_; }
    void put(const mail& m) {
        slots.push_back(m);
        if (!m.asks) ends[m.number] = ending::sent;
    }
    void taken_from(const mail& m, bool sender_waited) {
        received.push_back(m.number);
        if (m.asks) held.push_back(m);
        if (!m.asks && sender_waited) ends[m.number] = ending::sent;
    }
    void refuse(const mail& m, ending how, bool if_told_a_dead_letter) {
        const bool dead = !m.asks && if_told_a_dead_letter;
        dead_letters += dead;
        ends[m.number] = dead ? ending::sent : how;
    }
    void lose(const mail& m, ending how) {
        if (m.wanted) {
            ends[m.number] = how;
        } else {
            ++dead_letters;
        }
    }

    std::size_t limit_;
    overflow when_full_;
    int wanted_rank_ = any_rank;
};

// --- the actor --------------------------------------------------------------------------------------------

/// What the actor is to do next, and what has become of it.
struct puppet {
    enum class act : std::uint8_t { receive, receive_if, end, fail };
    auto_event go;
    act todo = act::end;
    int rank = any_rank;
    cancel_scope* receiving = nullptr;
    std::deque<letter>* held = nullptr;
    std::vector<int> received;
};

task<> take_one(mailbox<letter>& box, puppet& p, std::deque<letter>& held) {
    std::optional<letter> got;
    if (p.todo == puppet::act::receive) {
        got = co_await box.receive();
    } else {
        const auto wanted = [rank = p.rank](const letter& l) { return l.number % 3 == rank; };
        got = co_await box.receive_if(wanted);
    }
    p.received.push_back(got ? got->number : nothing);
    if (got && got->wanted()) held.push_back(std::move(*got));
}

task<> follow(mailbox<letter>& box, puppet& p) {
    std::deque<letter> held;
    p.held = &held;
    for (;;) {
        co_await p.go.wait();
        if (p.todo == puppet::act::end) co_return;
        if (p.todo == puppet::act::fail) throw std::runtime_error("told to");
        const auto in_scope = [&](cancel_scope& scope) {
            p.receiving = &scope;
            return take_one(box, p, held);
        };
        co_await with_cancel_scope(in_scope);
        p.receiving = nullptr;
    }
}

task<> tell(actor_ref<letter> to, int number, ending& how) {
    const auto r = co_await attempt(to.tell(number));
    how = r ? ending::sent : r.error() == std::errc::no_buffer_space ? ending::full : ending::waiting;
}

task<> ask(actor_ref<letter> to, int number, ending& how) {
    const auto r = co_await attempt(to.ask(number));
    if (r) {
        how = *r == number ? ending::replied : ending::waiting;
    } else if (r.error() == std::errc::no_such_process) {
        how = ending::gone;
    } else {
        how = r.error() == std::errc::no_buffer_space ? ending::full : ending::no_reply;
    }
}

task<> watch_end(actor_ref<letter> of, actor_exit::kind& how) {
    const actor_exit exit = co_await of.ended();
    how = exit.how;
}

void quiet(const std::exception_ptr&, std::source_location, void*) {}

// --- the program ------------------------------------------------------------------------------------------

class random_actor_program {
 public:
    random_actor_program(std::uint64_t seed, supervisor_group& group, std::map<ending, long>& seen)
        : rolls_(seed), group_(group), seen_(seen) {}

    /// One actor from its beginning to its end, and a little longer.
    task<> one_life(long& steps) {
        const auto policy = static_cast<overflow>(rolls_.below(4));
        const std::size_t limit = rolls_.below(4);
        model expected(limit, policy);
        puppet p;
        const std::uint64_t lost_before = this_loop().stats().dead_letters;
        auto address = spawn_actor(
            {.name = "puppet", .capacity = static_cast<std::uint32_t>(limit), .when_full = policy, .in = &group_},
            follow, std::ref(p));
        actor_exit::kind how = actor_exit::kind::no_such_actor, should = how;
        auto watcher = spawn(watch_end, address, std::ref(how));
        co_await let_run();
        for (long rounds = 20 + static_cast<long>(rolls_.below(400)); rounds > 0; --rounds, --steps) {
            const bool last = rounds == 10;  // the rest is sent to the dead
            const std::size_t what = last                                                ? 19
                                     : rolls_.below(expected.stopping ? 200 : 2000) == 0 ? 18
                                                                                         : rolls_.below(18);
            if (what < 4) {
                begin_send(expected, address, false);
            } else if (what < 8) {
                begin_send(expected, address, true);
            } else if (what == 8) {
                REQUIRE(address.try_tell(next_) == expected.try_send(next_));
                ++next_;
            } else if (what < 13) {
                if (!expected.receiving && !expected.ended) receive(expected, p);
            } else if (what < 15) {
                cancel_one(expected);
            } else if (what == 15) {
                if (expected.receiving) {
                    p.receiving->cancel();
                    expected.receiving = false;
                }
            } else if (what < 18) {
                if (!expected.held.empty()) {
                    if (p.held->front().wanted()) p.held->front().reply(int(p.held->front().number));
                    p.held->pop_front();
                    expected.reply();
                }
            } else if (what == 18) {
                address.stop();
                expected.stop();
            } else if (!expected.ended) {
                if (expected.receiving || rolls_.one_in(2)) {
                    address.kill();
                    should = actor_exit::kind::cancelled;
                } else {
                    p.todo = rolls_.one_in(2) ? puppet::act::end : puppet::act::fail;
                    should = p.todo == puppet::act::end ? actor_exit::kind::normal : actor_exit::kind::failed;
                    p.go.set();
                }
                expected.end();
            }
            co_await let_run();
            compare(expected, p, address);
            REQUIRE(this_loop().stats().dead_letters - lost_before == expected.dead_letters);
            REQUIRE(how == should);
        }
        CHECK(watcher.done());
        REQUIRE(pending_.empty());
    }

 private:
    struct sending {
        task_handle<> task;
        ending how = ending::waiting;
    };

    // A wait that is over at once may still go behind the others, and an end takes a step more.
    static task<> let_run() {
        for (int i = 0; i < 3; ++i) co_await yield();
    }

    void begin_send(model& expected, const actor_ref<letter>& to, bool asks) {
        const int number = next_++;
        sending& s = pending_[number];
        s.task = asks ? spawn(ask, to, number, std::ref(s.how)) : spawn(tell, to, number, std::ref(s.how));
        expected.send(number, asks);
    }

    void receive(model& expected, puppet& p) {
        p.todo = rolls_.one_in(3) ? puppet::act::receive_if : puppet::act::receive;
        p.rank = p.todo == puppet::act::receive ? any_rank : static_cast<int>(rolls_.below(3));
        p.go.set();
        expected.receive(p.rank);
    }

    void cancel_one(model& expected) {
        if (pending_.empty()) return;
        const auto at = std::next(pending_.begin(), static_cast<long>(rolls_.below(pending_.size())));
        at->second.task.cancel();
        cancelled_.push_back(std::move(at->second.task));
        expected.cancel_sender(at->first);
        pending_.erase(at);
    }

    void compare(model& expected, puppet& p, const actor_ref<letter>& address) {
        for (const auto& [number, how] : expected.ends) {
            const auto at = pending_.find(number);
            REQUIRE(at != pending_.end());
            REQUIRE(at->second.how == how);
            REQUIRE(at->second.task.done());
            ++seen_[how];
            pending_.erase(at);
        }
        expected.ends.clear();
        for (const auto& [number, s] : pending_) REQUIRE_FALSE(s.task.done());
        for (const task_handle<>& t : cancelled_) REQUIRE(t.state() == task_state::cancelled);
        cancelled_.clear();
        REQUIRE(p.received == expected.received);
        p.received.clear();
        expected.received.clear();
        REQUIRE(address.alive() == !expected.ended);
        REQUIRE(address.size() == expected.slots.size());
        if (expected.ended) return;
        REQUIRE(address.box().waiting() == expected.senders.size());
        // a request that nobody waits for any more is received, but not kept
        std::erase_if(expected.held, [](const model::mail& m) { return !m.wanted; });
        std::erase_if(*p.held, [](const letter& l) { return !l.wanted(); });
        REQUIRE(p.held->size() == expected.held.size());
    }

    test::dice rolls_;
    supervisor_group& group_;
    std::map<ending, long>& seen_;
    int next_ = 1;
    std::map<int, sending> pending_;
    std::vector<task_handle<>> cancelled_;
};

}  // namespace

TEST_CASE("actor model: a million random steps end as the model says" * doctest::test_suite("order")) {
    struct local {
        static task<> body(std::uint64_t seed, long steps, std::map<ending, long>& seen) {
            const auto in_group = [&](supervisor_group& group) -> task<> {
                random_actor_program program(seed, group, seen);
                for (long left = steps; left > 0;) co_await program.one_life(left);
            };
            co_await with_supervisor_group(in_group, {.on_error = quiet});
        }
    };
    std::map<ending, long> seen;
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        CAPTURE(seed);
        test::run(local::body, seed, test::steps_per_program / 4L, std::ref(seen));
    }
    for (const ending how : {ending::sent, ending::full, ending::gone, ending::no_reply, ending::replied})
        CHECK(seen[how] > test::steps_per_program / 500);
}
