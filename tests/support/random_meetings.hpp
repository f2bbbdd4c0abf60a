// What the tests of latches and barriers share.
#pragma once

#include "support/every_step.hpp"
#include "support/steps.hpp"

#include <map>

namespace test::latches {

using namespace rondo;
using namespace std::chrono_literals;

/// Barriers and latches whose parties arrive, leave and drop out at random; the model is who waits.
class random_meetings {
 public:
    explicit random_meetings(std::uint64_t seed) : rolls_(seed) {}

    task<> rounds_of_a_barrier(int steps) {
        barrier b(1 + rolls_.below(5));
        std::size_t parties = b.parties();
        for (; steps > 0 && parties > 0; --steps) {
            const std::size_t what = rolls_.below(400);
            if (what < 280) {
                begin(&random_meetings::at_barrier, b);
                co_await rounds();
                if (waiting_.size() >= parties) pass(true);
            } else if (what < 399) {
                co_await cancel_one();
            } else if (parties > 1) {  // the last ones stay
                --parties;
                const bool completes = !waiting_.empty() && waiting_.size() >= parties;
                CHECK(b.arrive_and_drop() == completes);
                co_await rounds();
                if (completes) pass(false);
            }
            compare(b.waiting());
            CHECK(b.parties() == parties);
        }
        co_await end();
    }

    task<> a_latch(int& steps) {
        std::size_t count = rolls_.below(12);
        latch l(count);
        for (; steps > 0 && (count != 0 || !rolls_.one_in(10)); --steps) {
            const std::size_t what = rolls_.below(10);
            if (what < 4) {
                begin(&random_meetings::at_latch, l);
                co_await rounds();
                if (count == 0) pass(false);
            } else if (what < 6) {
                if (count != 0) {
                    --count;
                    begin(&random_meetings::arrives_at_latch, l);
                    co_await rounds();
                    if (count == 0) pass(false);
                }
            } else if (what < 9) {
                co_await cancel_one();
            } else if (count != 0) {
                const std::size_t n = 1 + rolls_.below(count);
                l.count_down(n);
                count -= n;
                co_await rounds();
                if (count == 0) pass(false);
            }
            compare(l.waiting());
            CHECK(l.count() == count);
        }
        co_await end();
    }

 private:
    task<> at_barrier(barrier& b, int name) {
        const bool last = co_await b.arrive_and_wait();
        passed_[name] = last;
    }
    task<> at_latch(latch& l, int name) {
        co_await l.wait();
        passed_[name] = false;
    }
    task<> arrives_at_latch(latch& l, int name) {
        co_await l.arrive_and_wait();
        passed_[name] = false;
    }
    static task<> rounds() {
        co_await yield();
        co_await yield();
    }

    template <class Body, class What>
    void begin(Body body, What& at) {
        ++names_;
        waiting_[names_] = spawn(body, this, std::ref(at), names_);
    }
    /// All who wait go on; the latest to come is the last one, if there is such.
    void pass(bool latest_is_last) {
        for (auto& [name, task] : waiting_) {
            CHECK(task.done());
            should_have_passed_[name] = latest_is_last && name == names_;
        }
        waiting_.clear();
    }
    task<> cancel_one() {
        if (waiting_.empty()) co_return;
        const auto at = std::next(waiting_.begin(), static_cast<long>(rolls_.below(waiting_.size())));
        at->second.cancel();
        co_await rounds();
        CHECK(at->second.state() == task_state::cancelled);
        waiting_.erase(at);
    }
    void compare(std::size_t really_waiting) {
        if (really_waiting != waiting_.size()) FAIL_CHECK("waiting");
        for (auto& [name, task] : waiting_)
            if (task.done()) FAIL_CHECK("one went on alone");
        CHECK(passed_ == should_have_passed_);
        passed_.clear();
        should_have_passed_.clear();
    }
    task<> end() {
        while (!waiting_.empty()) co_await cancel_one();
    }

    test::dice rolls_;
    int names_ = 0;
    std::map<int, task_handle<>> waiting_;
    std::map<int, bool> passed_, should_have_passed_;  // and whether as the last
};

}  // namespace test::latches
