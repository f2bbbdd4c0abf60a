// Channels against a model: first every order of a few operations, then long random programs.
#include <rondo/channel/channel.hpp>

#include "support/every_step.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

using namespace rondo;

namespace {

#if defined(__SANITIZE_ADDRESS__) || !defined(__OPTIMIZE__)
constexpr bool slow_build = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool slow_build = true;
#else
constexpr bool slow_build = false;
#endif
#else
constexpr bool slow_build = false;
#endif

// --- every order ------------------------------------------------------------------------------------------

/// A value that is moved from is not a value any more: one that were received twice would show.
struct token {
    explicit token(int n) noexcept : number(n) {}
    token(token&& other) noexcept : number(std::exchange(other.number, 0)) {}
    int number;
};

enum class action : std::uint8_t { send, receive, cancel_sender, cancel_receiver, close, discard, drop_share, turn };

enum class ending : std::uint8_t { not_begun, waiting, done, closed, cancelled };

struct one_sender {
    ending how = ending::not_begun;
    token value{0};
    task_handle<> task;
    bool asked = false;  // to end
};
struct one_receiver {
    ending how = ending::not_begun;
    int got = 0;
    task_handle<> task;
    bool asked = false;
};

/// Two senders and two receivers on one channel, and the sequence of actions that led here.
class small_world {
 public:
    explicit small_world(std::size_t capacity) : channel_(capacity), share_(channel_) {}

    /// False: the action makes no sense now.
    bool act(action a) {
        switch (a) {
            case action::send: return begin(senders_, [this](one_sender& s) { return send(s); });
            case action::receive: return begin(receivers_, [this](one_receiver& r) { return receive(r); });
            case action::cancel_sender: return cancel(senders_);
            case action::cancel_receiver: return cancel(receivers_);
            case action::close:
                if (channel_.closed()) return false;
                channel_.close();
                return true;
            case action::discard:
                if (discarded_) return false;
                discarded_ = channel_.discard();
                return true;
            case action::drop_share:
                if (channel_.closed()) return false;
                share_ = {};
                return true;
            case action::turn: return false;  // the caller's
        }
        return false;
    }

    /// When nobody can go on: what must hold. Empty if it does.
    std::string fault() {
        std::size_t waiting_senders = 0, waiting_receivers = 0;
        std::vector<int> sent, received;
        for (const one_sender& s : senders_) {
            if (s.how == ending::waiting) ++waiting_senders;
            if (s.how == ending::done) sent.push_back(1 + static_cast<int>(&s - senders_));
            if ((s.how == ending::closed || s.how == ending::cancelled) && s.value.number == 0)
                return "a send that failed has taken the value";
            if (s.how == ending::done && s.value.number != 0) return "a value was sent and is still there";
        }
        for (const one_receiver& r : receivers_) {
            if (r.how == ending::waiting) ++waiting_receivers;
            if (r.got != 0) received.push_back(r.got);
        }
        if (waiting_senders != channel_.waiting_senders()) return "senders that nobody knows of";
        if (waiting_receivers != channel_.waiting_receivers()) return "receivers that nobody knows of";
        if (channel_.closed() && waiting_senders + waiting_receivers != 0) return "someone waits on a closed channel";
        if (waiting_senders != 0 && waiting_receivers != 0) return "senders and receivers wait for each other";
        if (waiting_receivers != 0 && channel_.size() != 0) return "a receiver waits for what is there";
        if (waiting_senders != 0 && channel_.size() < channel_.capacity()) return "a sender waits for room there is";
        for (std::size_t i = 1; i < received.size(); ++i)
            if (received[i] < received[i - 1]) return "out of order";
        if (discarded_ && channel_.size() != 0) return "discarded, yet something is left";
        while (auto left = channel_.try_receive()) {
            received.push_back(left->number);
            for (one_sender& s : senders_)  // its place was taken by one who waited
                if (s.how == ending::waiting && s.value.number == 0)
                    sent.push_back(1 + static_cast<int>(&s - senders_));
        }
        std::sort(sent.begin(), sent.end());
        sent.erase(std::unique(sent.begin(), sent.end()), sent.end());
        std::sort(received.begin(), received.end());
        if (std::adjacent_find(received.begin(), received.end()) != received.end()) return "a value came twice";
        for (const int number : received)
            if (!std::binary_search(sent.begin(), sent.end(), number)) return "received, but its send failed";
        if (sent.size() != received.size() + discarded_.value_or(0)) return "sent, but neither received nor left";
        return {};
    }

    task<> end() {
        channel_.discard();
        for (one_sender& s : senders_)
            if (s.task) static_cast<void>(co_await attempt(s.task));
        for (one_receiver& r : receivers_)
            if (r.task) static_cast<void>(co_await attempt(r.task));
        for (const one_sender& s : senders_) CHECK(s.how != ending::waiting);
        for (const one_receiver& r : receivers_) CHECK(r.how != ending::waiting);
    }

 private:
    task<> send(one_sender& s) {
        try {
            s.how = ending::waiting;
            co_await channel_.send_from(s.value);
            s.how = ending::done;
        } catch (const io_error&) {
            s.how = ending::closed;
        } catch (const cancelled&) {
            s.how = ending::cancelled;
        }
    }
    task<> receive(one_receiver& r) {
        try {
            r.how = ending::waiting;
            const auto item = co_await channel_.receive();
            r.got = item ? item->number : 0;
            r.how = item ? ending::done : ending::closed;
        } catch (const cancelled&) {
            r.how = ending::cancelled;
        }
    }
    template <class Who, class Body>
    bool begin(Who (&all)[2], Body body) {
        for (Who& who : all) {
            if (who.task) continue;
            if constexpr (std::is_same_v<Who, one_sender>) who.value.number = 1 + static_cast<int>(&who - all);
            who.task = spawn(body, std::ref(who));
            return true;
        }
        return false;
    }
    /// The older of those that were not asked before.
    template <class Who>
    static bool cancel(Who (&all)[2]) {
        for (Who& who : all) {
            if (!who.task || who.task.done() || std::exchange(who.asked, true)) continue;
            who.task.cancel();
            return true;
        }
        return false;
    }

    channel<token> channel_;
    channel_sender<token> share_;
    std::optional<std::size_t> discarded_;
    one_sender senders_[2];
    one_receiver receivers_[2];
};

constexpr action all_actions[] = {action::send,  action::receive, action::cancel_sender, action::cancel_receiver,
                                  action::close, action::discard, action::drop_share,    action::turn};

/// Runs one sequence; gives the length of its first part that makes sense (all of it, mostly).
task<std::size_t> play(std::size_t capacity, const std::vector<action>& sequence) {
    small_world world(capacity);
    std::size_t done = 0;
    for (; done < sequence.size(); ++done) {
        if (sequence[done] == action::turn) {
            if (done == 0 || sequence[done - 1] == action::turn) break;
            co_await yield();
        } else if (!world.act(sequence[done])) {
            break;
        }
    }
    if (done == sequence.size()) {
        co_await yield();
        co_await yield();
        const std::string fault = world.fault();
        if (!fault.empty()) {
            std::string text;
            for (const action a : sequence) text += std::to_string(static_cast<int>(a)) + " ";
            FAIL_CHECK(fault << ", capacity " << capacity << ", actions " << text);
        }
    }
    co_await world.end();
    co_return done;
}

/// All sequences of `length` actions; those whose beginning makes no sense are skipped as a whole.
task<long> play_all(std::size_t capacity, std::size_t length) {
    std::vector<action> sequence(length, all_actions[0]);
    std::vector<std::size_t> digits(length, 0);
    long played = 0;
    for (;;) {
        for (std::size_t i = 0; i < length; ++i) sequence[i] = all_actions[digits[i]];
        const std::size_t done = co_await play(capacity, sequence);
        std::size_t at = length - 1;
        if (done == length) {
            ++played;
        } else {
            at = done;
        }
        for (std::size_t i = at + 1; i < length; ++i) digits[i] = 0;
        while (++digits[at] == std::size(all_actions)) {
            digits[at] = 0;
            if (at == 0) co_return played;
            --at;
        }
    }
}

}  // namespace

TEST_CASE(
    "channel model: no order of sends, receives, cancels and closes loses, doubles or strands (hazard G7: "
    "tokio #4225 and #6558, futures #620, #624, #909, #1241, kanal #35, postage #44)" *
    doctest::test_suite("order")) {
    test::run([]() -> task<> {
        constexpr std::size_t length = slow_build ? 6 : 8;
        constexpr long at_least = slow_build ? 5'000 : 70'000;
        for (const std::size_t capacity : {0u, 1u, 2u}) {
            const long played = co_await play_all(capacity, length);
            CHECK(played > at_least);
        }
    });
}

// --- long random programs ---------------------------------------------------------------------------------

namespace {

/// What a channel does, said with deques.
class model {
 public:
    explicit model(std::size_t capacity) : capacity_(capacity) {}

    // What becomes of an operation: its value (of a receive; 0 for the end), or nothing: it waits.
    std::optional<bool> send(int number) {  // true: sent; false: closed
        if (closed) return false;
        if (!receivers.empty()) {
            received[receivers.front()] = number;
            receivers.pop_front();
            return true;
        }
        if (buffer.size() < capacity_) {
            buffer.push_back(number);
            return true;
        }
        senders.push_back(number);
        return std::nullopt;
    }
    std::optional<int> receive(int id) {
        if (!buffer.empty()) {
            const int number = buffer.front();
            buffer.pop_front();
            if (!senders.empty()) {
                buffer.push_back(senders.front());
                sent[senders.front()] = true;
                senders.pop_front();
            }
            return number;
        }
        if (!senders.empty()) {
            const int number = senders.front();
            sent[number] = true;
            senders.pop_front();
            return number;
        }
        if (closed) return 0;
        receivers.push_back(id);
        return std::nullopt;
    }
    void close() {
        closed = true;
        for (const int number : senders) sent[number] = false;
        for (const int id : receivers) received[id] = 0;
        senders.clear();
        receivers.clear();
    }

    std::deque<int> buffer, senders, receivers;
    bool closed = false;
    std::map<int, bool> sent;     // of those that waited: how that ended
    std::map<int, int> received;  // the same

 private:
    std::size_t capacity_;
};

/// Twice, since a wait that is over at once may still go behind the others.
task<> let_run() {
    co_await yield();
    co_await yield();
}

/// Tasks that send, receive and are cancelled at random, each step compared with the model.
task<> random_program(std::uint64_t seed, long steps) {
    test::dice dice(seed);
    while (steps > 0) {
        const std::size_t capacity = dice.below(4);
        channel<int> c(capacity);
        model expected(capacity);
        std::map<int, bool> sent;
        std::map<int, int> received;
        std::map<int, task_handle<>> senders, receivers;  // that wait
        const auto send = [&](int number) -> task<> {
            const auto r = co_await attempt(c.send(number));
            sent[number] = r.has_value();
        };
        const auto receive = [&](int id) -> task<> {
            const auto item = co_await c.receive();
            received[id] = item.value_or(0);
        };
        int next = 0;
        for (long round = 1 + static_cast<long>(dice.below(400)); round > 0 && steps > 0; --round, --steps) {
            ++next;
            const std::size_t what = dice.below(20);
            if (what < 7) {
                auto task = spawn(send, next);
                const auto r = expected.send(next);
                co_await let_run();
                if (r) {
                    REQUIRE(task.done());
                    REQUIRE(sent[next] == *r);
                } else {
                    REQUIRE_FALSE(task.done());
                    senders[next] = std::move(task);
                }
            } else if (what < 14) {
                auto task = spawn(receive, next);
                const auto r = expected.receive(next);
                co_await let_run();
                if (r) {
                    REQUIRE(task.done());
                    REQUIRE(received[next] == *r);
                } else {
                    REQUIRE_FALSE(task.done());
                    receivers[next] = std::move(task);
                }
            } else if (what == 14) {
                const auto item = c.try_receive();
                const auto r = expected.receive(-1);
                if (!r) expected.receivers.pop_back();
                REQUIRE(item.value_or(0) == r.value_or(0));
            } else if (what == 15) {
                const bool ok = c.try_send(int(next)).has_value();
                const auto r = expected.send(next);
                if (!r) expected.senders.pop_back();
                REQUIRE(ok == r.value_or(false));
            } else if (what < 18 && !expected.senders.empty()) {
                const auto at = expected.senders.begin() + static_cast<long>(dice.below(expected.senders.size()));
                senders.at(*at).cancel();
                co_await let_run();
                REQUIRE(senders.at(*at).state() == task_state::cancelled);
                senders.erase(*at);
                expected.senders.erase(at);
            } else if (what < 20 && !expected.receivers.empty()) {
                const auto at = expected.receivers.begin() + static_cast<long>(dice.below(expected.receivers.size()));
                receivers.at(*at).cancel();
                co_await let_run();
                REQUIRE(receivers.at(*at).state() == task_state::cancelled);
                receivers.erase(*at);
                expected.receivers.erase(at);
            }
            if (round == 1) {
                c.close();
                expected.close();
            }
            co_await let_run();
            for (const auto& [number, ok] : expected.sent) {
                REQUIRE(senders.at(number).done());
                REQUIRE(sent.at(number) == ok);
                senders.erase(number);
            }
            for (const auto& [id, value] : expected.received) {
                REQUIRE(receivers.at(id).done());
                REQUIRE(received.at(id) == value);
                receivers.erase(id);
            }
            expected.sent.clear();
            expected.received.clear();
            sent.clear();
            received.clear();
            REQUIRE(c.size() == expected.buffer.size());
            REQUIRE(c.waiting_senders() == expected.senders.size());
            REQUIRE(c.waiting_receivers() == expected.receivers.size());
        }
        c.close();
        for (auto& [number, task] : senders) static_cast<void>(co_await attempt(task));
        for (auto& [id, task] : receivers) static_cast<void>(co_await attempt(task));
    }
}

}  // namespace

TEST_CASE("channel model: a million random steps end as the model says" * doctest::test_suite("order")) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        CAPTURE(seed);
        test::run(random_program, seed, slow_build ? 10'000L : 250'000L);
    }
}

// --- cancelled at every step ------------------------------------------------------------------------------

namespace {

struct traffic {
    int sent = 0, received = 0, left = 0;
};

/// Two tasks that send and two that receive, alone or as arms of a select, at random.
class random_traffic {
 public:
    random_traffic(std::uint64_t seed, traffic& seen) : dice_(seed), seen_(seen), channel_(dice_.below(3)) {}

    task<> run() {
        auto body = [this](task_group& group) -> task<> {
            for (int i = 0; i < 2; ++i) group.spawn(&random_traffic::send, this, dice_.next()).discard();
            for (int i = 0; i < 2; ++i) group.spawn(&random_traffic::receive, this, dice_.next()).discard();
            co_await sleep_for(std::chrono::milliseconds(1));
            channel_.close();
        };
        try {
            co_await with_task_group(body);
        } catch (const std::exception&) {  // sends that were shut out
        } catch (const cancelled&) {
        }
        seen_.left = static_cast<int>(channel_.discard());
        CHECK(channel_.waiting_senders() + channel_.waiting_receivers() == 0);
    }

 private:
    task<> send(std::uint64_t seed) {
        test::dice mine(seed);
        for (int i = 1; i <= 4; ++i) {
            token t(i);
            if (mine.one_in(2)) {
                co_await channel_.send_from(t);
                ++seen_.sent;
            } else {
                auto chosen = co_await select_in_order(sleep_for(std::chrono::microseconds(1)), channel_.send_from(t));
                if (chosen.index() == 1) ++seen_.sent;
                CHECK((chosen.index() == 1) == (t.number == 0));
            }
            if (mine.one_in(2)) co_await yield();
        }
    }
    task<> receive(std::uint64_t seed) {
        test::dice mine(seed);
        for (int i = 0; i < 4; ++i) {
            const auto patience = std::chrono::microseconds(mine.below(3));
            auto chosen = co_await select_in_order(channel_.receive(), sleep_for(patience));
            if (chosen.index() == 0 && chosen.get<0>()) ++seen_.received;
            if (mine.one_in(2)) co_await yield();
        }
    }

    test::dice dice_;
    traffic& seen_;
    channel<token> channel_;
};

}  // namespace

TEST_CASE("channel model: random traffic, cancelled at every step: what was sent is received or left") {
    std::size_t points = 0;
    traffic seen;
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        CAPTURE(seed);
        const auto program = [seed, &seen]() -> task<> {
            seen = {};
            random_traffic t(seed, seen);
            co_await t.run();
        };
        const auto nothing_lost = [&seen] { CHECK(seen.sent == seen.received + seen.left); };
        const testing::every_step_report report = testing::cancel_at_every_step(program, nothing_lost);
        CHECK_MESSAGE(report.ok(), report.text());
        points += report.points;
    }
    CHECK(points > 500);
}
