// A fixed order for steps of several tasks, when a test is about exactly that order:
//
//     rondo::testing::sequencer order;
//     // one task                                  // another one
//     { auto turn = co_await order(0); write(); }  { auto turn = co_await order(1); read(); }
//     { auto turn = co_await order(2); close(); }
#pragma once

#include <rondo/base/detail/take.hpp>
#include <rondo/task/detail/wait_queue.hpp>
#include <rondo/task/wait.hpp>

#include <cstddef>
#include <utility>
#include <vector>

namespace rondo::testing {

class RONDO_API sequencer {
 public:
    /// It is someone's turn until this is destroyed.
    class RONDO_API turn {
     public:
        turn(turn&& other) noexcept : of_(detail::take(other.of_)) {}
        turn& operator=(turn&&) = delete;
        ~turn() {
            if (of_ != nullptr) of_->pass_on();
        }

     private:
        friend class sequencer;
        explicit turn(sequencer& of) noexcept : of_(&of) {}
        sequencer* of_;
    };

 private:
    class RONDO_API awaiter : public detail::wait_op, public awaits<awaiter> {
     public:
        awaiter(sequencer& of, std::size_t position) noexcept;
        turn await_resume();
        bool start() noexcept;

     private:
        friend class sequencer;
        static const op_vtable table;
        sequencer& of_;
        std::size_t position_;
    };

 public:
    sequencer() noexcept = default;
    ~sequencer();
    sequencer(const sequencer&) = delete;
    sequencer& operator=(const sequencer&) = delete;

    /// Waits until all turns before the `position`-th (from 0) are over; gives the turn. Each position is
    /// asked for once. Throws bad_alloc. Cancel: the turn is over as soon as it comes.
    [[nodiscard]] awaiter operator()(std::size_t position) { return {*this, position}; }

 private:
    void pass_on() noexcept;
    void go_on() noexcept;
    void give_up(std::size_t position) noexcept;

    std::size_t now_ = 0;   // whose turn it is, or will be
    bool taken_ = false;    // it is someone's
    detail::ring<awaiter> waits_;
    std::vector<bool> given_up_;
};

}  // namespace rondo::testing
