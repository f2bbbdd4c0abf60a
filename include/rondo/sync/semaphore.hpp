// semaphore: so many at once.
//
//     rondo::semaphore connections(10, "db");
//     auto permit = co_await connections.acquire();   // given back when `permit` goes
//
// Permits are handed over in the order in which they were asked for. A release gives them to the first who
// waits, and nobody overtakes: neither a later acquire(), nor try_acquire(), nor one that asks for less.
#pragma once

#include <rondo/task/detail/named_queue.hpp>
#include <rondo/base/detail/take.hpp>

#include <cstddef>
#include <string>
#include <utility>

namespace rondo {

namespace detail {
/// Counts the permits that were missing when this thread destroyed semaphores. Checks for leaks look at it.
struct RONDO_API lost_permits {
    std::size_t count = 0;
    char from[48] = {};  // the latest of these semaphores: "semaphore 'db'"
    /// What was lost since `count` was `before`; empty if nothing was.
    std::string since(std::size_t before) const;
};
RONDO_API lost_permits& permits_lost() noexcept;
}  // namespace detail

class RONDO_API semaphore {
 public:
    class permit;
    class acquire_awaiter;

    static constexpr std::size_t no_limit = ~std::size_t{0};  // of what release() makes available

    /// `most`: release() never makes more than that available. `name` is for reports, and must outlive it.
    explicit semaphore(std::size_t permits, const char* name = "", std::size_t most = no_limit) noexcept;
    semaphore(const semaphore&) = delete;
    semaphore& operator=(const semaphore&) = delete;
    /// Nobody may wait for it or hold a permit. What detached permits have not given back is a leak, which
    /// simulated worlds and every_step report; permits that are for using up are not to begin with:
    /// release() them into it.
    ~semaphore() {
        if (available_ < made_with_) [[unlikely]]
            went_incomplete();
    }

    /// Waits for `n` permits (not for none); gives a permit that returns them. Throws io_error(invalid_argument) when
    /// `n` is more than there can ever be.
    /// Cancel: it has taken nothing. Permits that were handed over before the cancel came are this task's:
    /// it gets them, and the cancel meets its next wait. O(1).
    [[nodiscard]] acquire_awaiter acquire(std::size_t n = 1) noexcept;
    /// `n` permits if they are free and nobody waits; else an empty permit.
    [[nodiscard]] permit try_acquire(std::size_t n = 1) noexcept;
    /// Adds `n` permits, from whoever: of a permit that was detached, or new ones. Throws overflow_error
    /// when that makes more than `most`; then nothing has changed. O(those it wakes).
    void release(std::size_t n = 1);

    std::size_t available() const noexcept { return available_; }
    std::size_t waiting() const noexcept { return waits_.size(); }
    const char* name() const noexcept { return waits_.name(); }

 private:
    struct wait : detail::wait_op {
        wait(semaphore& s, std::size_t count) noexcept : wait_op(table), of(&s), n(count) {}
        semaphore* of;
        std::size_t n;
        static const op_vtable table;
    };
    bool take(std::size_t n) noexcept {
        if (n > available_ || (!waits_.empty() && n != 0)) return false;
        available_ -= n;
        return true;
    }
    bool wait_or_refuse(wait& w) noexcept;
    void give(std::size_t n) noexcept;
    void grant() noexcept;
    void went_incomplete() const noexcept;
    const wait& first() const noexcept { return static_cast<const wait&>(waits_.front()); }

    detail::named_queue waits_;
    std::size_t available_;
    std::size_t made_with_;
    std::size_t most_;
};

/// Permits that one holds. Move-only.
class [[nodiscard("the permits go back when this goes")]] semaphore::permit {
 public:
    permit() noexcept = default;
    permit(permit&& other) noexcept : of_(detail::take(other.of_)), n_(other.n_) {}
    permit& operator=(permit other) noexcept {
        detail::trade(of_, other.of_);
        detail::trade(n_, other.n_);
        return *this;
    }
    ~permit() { release(); }

    explicit operator bool() const noexcept { return of_ != nullptr; }
    std::size_t count() const noexcept { return of_ != nullptr ? n_ : 0; }
    /// Gives them back now. No effect on an empty permit.
    void release() noexcept {
        if (of_ != nullptr) detail::take(of_)->give(n_);
    }
    /// Nothing gives them back any more: somebody calls semaphore::release().
    void detach() noexcept { of_ = nullptr; }

 private:
    friend class semaphore;
    permit(semaphore& of, std::size_t n) noexcept : of_(&of), n_(n) {}
    semaphore* of_ = nullptr;
    std::size_t n_ = 0;
};

class RONDO_API __attribute__((warn_unused)) semaphore::acquire_awaiter : public wait, public awaits<acquire_awaiter> {
 public:
    using wait::wait;
    bool start() noexcept { return !of->take(n) && of->wait_or_refuse(*this); }
    permit await_resume() const {
        if (result < 0) [[unlikely]]
            fail();
        return permit(*of, n);
    }
    rondo::result<permit> finish() const;
    /// What select_one() does with a losing arm: nobody takes what this wait has got, so it goes back.
    void give_back() noexcept {
        if (result >= 0) of->give(n);
    }

 private:
    [[noreturn]] void fail() const;
};

// implementation

inline semaphore::acquire_awaiter semaphore::acquire(std::size_t n) noexcept { return {*this, n}; }

inline semaphore::permit semaphore::try_acquire(std::size_t n) noexcept {
    return take(n) ? permit(*this, n) : permit();
}

}  // namespace rondo
