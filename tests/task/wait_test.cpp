// The contract of a wait, kept by one that a program has written: nothing here is the library's own.
#include <rondo/task/wait.hpp>

#include "support/every_step.hpp"

#include <rondo/combine/select.hpp>

#include <cerrno>
#include <deque>
#include <stdexcept>
#include <string>
#include <utility>

using namespace rondo;
using namespace std::chrono_literals;
using test::journal;

namespace {

/// Tickets, which are numbers: whoever waits gets one, in the order in which they have asked.
class ticket_box {
 public:
    class [[nodiscard]] ticket_wait : public basic_wait<ticket_wait> {
     public:
        static constexpr const char* name = "ticket";

        explicit ticket_wait(ticket_box& box) noexcept : box_(&box) {}
        bool start() noexcept {
            if (box_->waiting_.empty() && !box_->tickets_.empty()) {
                ticket_ = box_->take_first();
                return false;
            }
            if (box_->is_closed_) {
                result = -EPIPE;
                return false;
            }
            box_->waiting_.push_back(this);
            return arm();
        }
        void cancel() noexcept {
            std::erase(box_->waiting_, this);
            complete(-ECANCELED);
        }
        void give_back() noexcept {
            if (result >= 0) box_->put_first(ticket_);
        }
        rondo::result<int> finish() const {
            const auto ended = basic_wait::finish();
            if (!ended) return ended.error();
            return ticket_;
        }
        void describe(char* text, std::size_t size) const noexcept {
            std::snprintf(text, size, "a ticket, %zu waiting", box_->waiting_.size());
        }

     private:
        friend ticket_box;
        ticket_box* box_;
        int ticket_ = 0;
    };

    ticket_wait take() noexcept { return ticket_wait(*this); }
    void put(int ticket) {
        tickets_.push_back(ticket);
        hand_out();
    }
    void close() noexcept {
        is_closed_ = true;
        while (!waiting_.empty()) first_waiting().complete(-EPIPE);
    }
    std::size_t waiting() const noexcept { return waiting_.size(); }
    std::deque<int> tickets() const { return tickets_; }

 private:
    int take_first() noexcept {
        const int first = tickets_.front();
        tickets_.pop_front();
        return first;
    }
    void put_first(int ticket) {
        tickets_.push_front(ticket);
        hand_out();
    }
    ticket_wait& first_waiting() noexcept {
        ticket_wait* const first = waiting_.front();
        waiting_.pop_front();
        return *first;
    }
    void hand_out() noexcept {
        while (!waiting_.empty() && !tickets_.empty()) {
            ticket_wait& first = first_waiting();
            first.ticket_ = take_first();
            first.complete();
        }
    }

    std::deque<int> tickets_;
    std::deque<ticket_wait*> waiting_;
    bool is_closed_ = false;
};

using ticket_wait = ticket_box::ticket_wait;

/// Gives nothing, and cannot be taken back.
class [[nodiscard]] hour_glass : public basic_wait<hour_glass> {
 public:
    static constexpr const char* name = "turn of the hour-glass";
    explicit hour_glass(hour_glass*& waiting) noexcept : waiting_(&waiting) {}
    bool start() noexcept {
        *waiting_ = this;
        return arm();
    }
    void cancel() noexcept {
        *waiting_ = nullptr;
        complete(-ECANCELED);
    }

 private:
    hour_glass** waiting_;
};

class [[nodiscard]] unwilling : public basic_wait<unwilling> {
 public:
    static constexpr const char* name = "nothing";
    bool start() { throw std::length_error("no room"); }
    void cancel() noexcept {}
};

class [[nodiscard]] last_wish : public basic_wait<last_wish, wait_manner::shielded> {
 public:
    static constexpr const char* name = "last wish";
    explicit last_wish(journal& log) noexcept : log_(&log) {}
    bool start() noexcept {
        log_->add("started");
        this_loop().next_tick([this] { complete(); });
        return arm();
    }
    void cancel() noexcept { log_->add("asked"); }

 private:
    journal* log_;
};

static_assert(sizeof(basic_wait<hour_glass>) == sizeof(op), "the contract needs no room");
static_assert(wait_operation<ticket_wait> && reversible_wait<ticket_wait>);
static_assert(wait_operation<hour_glass> && !reversible_wait<hour_glass>);
static_assert(wait_operation<unwilling> && !reversible_wait<unwilling>);
static_assert(!wait_operation<op>);

task<int> takes(ticket_box& box) { co_return co_await box.take(); }

}  // namespace

// --- awaited ---------------------------------------------------------------------------------------------

TEST_CASE("wait: one of a program's own gives its value to whoever awaits it, in the order of their asking" *
          doctest::test_suite("order")) {
    journal j;
    ticket_box box;
    test::run([&]() -> task<> {
        const auto asks = [](ticket_box& from, journal& log) -> task<> {
            log.add(std::to_string(co_await from.take()));
        };
        auto first = spawn(asks, std::ref(box), std::ref(j));
        auto second = spawn(asks, std::ref(box), std::ref(j));
        co_await test::others_first();
        CHECK(box.waiting() == 2);
        box.put(7);
        box.put(8);
        co_await first;
        co_await second;
    });
    CHECK(box.waiting() == 0);
    CHECK(j.text() == "7 8");
}

TEST_CASE("wait: one that is over at once goes on in the same step") {
    ticket_box box;
    journal j;
    test::run([&]() -> task<> {
        box.put(7);
        auto other = spawn(
            [](journal& log) -> task<> {
                log.add("other");
                co_return;
            },
            std::ref(j));
        const int ticket = co_await box.take();
        j.add(std::to_string(ticket));
        co_await other;
    });
    CHECK(j.text() == "7 other");
}

TEST_CASE("wait: who never has to wait lets the others run all the same") {
    ticket_box box;
    test::run([&]() -> task<> {
        bool ran = false;
        auto other = spawn(
            [](bool& is) -> task<> {
                is = true;
                co_return;
            },
            std::ref(ran));
        int rounds = 0;
        for (; !ran && rounds < 10'000; ++rounds) {
            box.put(rounds);
            const int ticket = co_await box.take();
            REQUIRE(ticket == rounds);
        }
        CHECK(rounds < 10 * loop::waits_at_once);
        co_await other;
    });
}

TEST_CASE("wait: what start() throws leaves the co_await, and the task goes on") {
    test::run([]() -> task<> {
        bool caught = false;
        try {
            co_await unwilling();
        } catch (const std::length_error&) {
            caught = true;
        }
        CHECK(caught);
        co_await sleep_for(1ms);
    });
}

TEST_CASE("wait: a failure is an io_error with its name; attempt() gives it as a result") {
    ticket_box box;
    test::run([&]() -> task<> {
        auto asks = spawn(takes, std::ref(box));
        co_await test::others_first();
        box.close();
        std::string said;
        try {
            co_await asks;
        } catch (const io_error& e) {
            said = e.operation();
            CHECK(e.code() == std::errc::broken_pipe);
        }
        CHECK(said == "ticket");
        const auto refused = co_await attempt(box.take());
        CHECK(refused.error() == std::errc::broken_pipe);
        box.put(9);
        const auto got = co_await attempt(box.take());
        CHECK(got.value() == 9);
    });
}

TEST_CASE("wait: in dumps it says itself what it waits for, or has its name") {
    ticket_box box;
    hour_glass* glass = nullptr;
    test::run([&]() -> task<> {
        auto asks = spawn(takes, std::ref(box));
        auto turns = spawn([](hour_glass*& slot) -> task<> { co_await hour_glass(slot); }, std::ref(glass));
        co_await test::others_first();
        const std::string text = await_tree(this_loop()).text();
        CHECK(text.find("a ticket, 1 waiting") != std::string::npos);
        CHECK(text.find("turn of the hour-glass") != std::string::npos);
        box.put(1);
        glass->complete();
        co_await asks;
        co_await turns;
    });
}

// --- cancelled -------------------------------------------------------------------------------------------

TEST_CASE("wait: when its time is over it leaves its place") {
    ticket_box box;
    test::run([&]() -> task<> {
        bool timed_out = false;
        try {
            co_await with_timeout(5ms, takes, box);
        } catch (const timeout_error&) {
            timed_out = true;
        }
        CHECK(timed_out);
        CHECK(box.waiting() == 0);
        box.put(3);
        const int ticket = co_await box.take();
        CHECK(ticket == 3);
    });
}

TEST_CASE("wait: in a task that is cancelled it does not start") {
    ticket_box box;
    test::run([&]() -> task<> {
        box.put(5);
        auto asks = spawn(
            [](ticket_box& from) -> task<> {
                try {
                    co_await sleep_for(1h);
                } catch (const cancelled&) {  // it goes on
                }
                co_await from.take();
            },
            std::ref(box));
        co_await test::others_first();
        asks.cancel();
        const auto ended = co_await attempt(asks);
        CHECK(ended.error() == std::errc::operation_canceled);
        CHECK(box.tickets() == std::deque{5});
    });
}

TEST_CASE("wait: cancelled at every step, a ticket is in the box or had by a task") {
    ticket_box box;
    int had = 0;
    const int points = test::cancel_at_every_step([&]() -> task<> {
        REQUIRE(box.waiting() == 0);
        box = ticket_box();
        had = 0;
        // Whatever becomes of the tasks, all three tickets are accounted for.
        struct at_end {
            ticket_box& of;
            int& had;
            ~at_end() { CHECK(of.tickets().size() + static_cast<std::size_t>(had) == 3); }
        };
        box.put(1);
        box.put(2);
        box.put(3);
        const at_end check{box, had};
        co_await with_task_group([&](task_group& group) -> task<> {
            for (int i = 0; i < 5; ++i) {
                group.spawn(
                    [](ticket_box& from, int& count) -> task<> {
                        const int ticket = co_await from.take();
                        ++count;
                        co_await sleep_for(1ms);
                        --count;
                        from.put(ticket);
                    },
                    std::ref(box), std::ref(had));
            }
            co_return;
        });
    });
    CHECK(points > 5);
}

TEST_CASE("wait: a shielded one starts in a cancelled task, and is waited for") {
    journal j;
    test::run([&]() -> task<> {
        auto dying = spawn(
            [](journal& log) -> task<> {
                try {
                    co_await sleep_for(1h);
                } catch (const cancelled&) {  // it goes on
                }
                co_await last_wish(log);
                log.add("granted");
                co_await yield();
            },
            std::ref(j));
        co_await test::others_first();
        dying.cancel();
        const auto ended = co_await attempt(dying);
        CHECK(!ended);
    });
    CHECK(j.text() == "started granted");
}

// --- as an arm of select_one() ---------------------------------------------------------------------------

TEST_CASE("wait: as an arm of select_one() it is chosen, or leaves its place") {
    ticket_box box;
    test::run([&]() -> task<> {
        box.put(4);
        auto chosen = co_await select_in_order(box.take(), sleep_for(1h));
        CHECK(chosen.index() == 0);
        CHECK(chosen.get<0>() == 4);
        auto other = co_await select_in_order(box.take(), sleep_for(1ms));
        CHECK(other.index() == 1);
        CHECK(box.waiting() == 0);
    });
}

TEST_CASE("wait: an arm that has lost though it was completed gives back what it got") {
    ticket_box one, two;
    test::run([&]() -> task<> {
        auto asks = spawn(
            [](ticket_box& a, ticket_box& b) -> task<int> {
                auto chosen = co_await select_one(a.take(), b.take());
                co_return chosen.index() == 0 ? chosen.get<0>() : chosen.get<1>();
            },
            std::ref(one), std::ref(two));
        co_await test::others_first();
        one.put(1);
        two.put(2);
        const int ticket = co_await asks;
        CHECK(ticket == 1);
        CHECK(one.tickets().empty());
        CHECK(two.tickets() == std::deque{2});
        CHECK(two.waiting() == 0);
    });
}

TEST_CASE("wait: a select_one() of two is cancelled at every step, and no ticket is lost") {
    ticket_box one, two;
    const int points = test::cancel_at_every_step([&]() -> task<> {
        one = ticket_box();
        two = ticket_box();
        int had = 0;
        struct at_end {
            ticket_box &a, &b;
            int& had;
            ~at_end() {
                const std::size_t left = a.tickets().size() + b.tickets().size() + static_cast<std::size_t>(had);
                CHECK((left == 0 || left == 2));  // neither was put yet, or both were
                CHECK(a.waiting() + b.waiting() == 0);
            }
        };
        const at_end check{one, two, had};
        co_await with_task_group([&](task_group& group) -> task<> {
            group.spawn(
                [](ticket_box& a, ticket_box& b, int& count) -> task<> {
                    for (int i = 0; i < 2; ++i) {
                        const auto chosen = co_await select_one(a.take(), b.take());
                        static_cast<void>(chosen);
                        ++count;
                    }
                },
                std::ref(one), std::ref(two), std::ref(had));
            group.spawn(
                [](ticket_box& a, ticket_box& b) -> task<> {
                    co_await sleep_for(1ms);
                    a.put(1);
                    b.put(2);
                },
                std::ref(one), std::ref(two));
            co_return;
        });
    });
    CHECK(points > 3);
}
