// rate_limiter: so many in so much time, with bursts. A token bucket.
//
//     rondo::rate_limiter limit({.tokens = 100, .per = 1s, .burst = 20});
//     co_await limit.acquire();
//
// The bucket holds `burst` tokens and is full at first; `tokens` of them come back every `per`, spread
// evenly, and exactly: no rounding adds up over hours. So in any stretch of time T at most burst + tokens * T / per
// get through. Waiters are served first come, first served.
// It is kept as one moment, that at which the bucket will be full again (the virtual scheduling of ATM's
// GCRA, ITU-T I.371), so an idle limiter costs nothing.
#pragma once

#include <rondo/task/detail/named_queue.hpp>
#include <rondo/base/time.hpp>

#include <cstdint>
#include <memory>
#include <utility>

namespace rondo {

/// How fast. Trivially copyable on purpose.
struct rate_options {
    std::uint32_t tokens = 1;  // so many ...
    delay per = std::chrono::seconds(1);
    std::uint32_t burst = 1;   // and at most so many at once
};

class RONDO_API rate_limiter {
 public:
    class acquire_awaiter;

    /// Throws invalid_argument when tokens, per or burst is not positive, or burst * per is 146 years or
    /// more. `name` is for reports and must outlive it (a literal).
    explicit rate_limiter(const rate_options& options, const char* name = "");
    rate_limiter(const rate_limiter&) = delete;
    rate_limiter& operator=(const rate_limiter&) = delete;

    /// Waits until `n` tokens are there and nobody who came earlier waits; takes them. Throws
    /// invalid_argument, at once, if `n` is more than the burst: that would wait for ever. The limiter
    /// must outlive the wait. Deadlines are those of the scopes around it; a deadline at the very moment
    /// of the token is the older timer, and wins.
    /// Cancel: no token is taken, and the next in line moves up.
    [[nodiscard]] acquire_awaiter acquire(std::uint32_t n = 1);
    /// Takes `n` tokens if they are there and nobody waits for some.
    [[nodiscard]] bool try_acquire(std::uint32_t n = 1);

    /// Whole tokens that are there.
    std::uint32_t available() const noexcept;
    /// Tasks that wait.
    std::size_t waiting() const noexcept { return waits_.size(); }
    const char* name() const noexcept { return waits_.name(); }
    /// Whether it is as if it had never been used.
    bool is_idle() const noexcept { return waits_.empty() && available() == burst_; }

    class RONDO_API acquire_awaiter : public detail::wait_op, public awaits<acquire_awaiter> {
     public:
        acquire_awaiter(rate_limiter& of, std::uint32_t n) noexcept;
        bool start() noexcept;
        void await_resume() const {
            if (result < 0) [[unlikely]]
                detail::throw_failure(result, "acquire a token");
        }
        rondo::result<void> finish() const {
            await_resume();
            return {};
        }
        /// The tokens of an arm of select_one that lost all the same.
        void give_back() noexcept { of_.return_tokens(count_); }

     private:
        friend rate_limiter;
        static void cancel(op& o) noexcept;
        static void describe(const op& o, char* text, std::size_t size) noexcept;
        static const op_vtable table;
        rate_limiter& of_;
        std::uint32_t count_;
    };

 private:
    __extension__ using wide = __int128;

    /// When the first in the queue gets its tokens. Nobody waits for this op: it serves the queue.
    struct refill_op : op {
        explicit refill_op(rate_limiter& limiter) noexcept;
        static const op_vtable table;
        rate_limiter& of;
    };

    wide tokens_at(std::uint32_t n) const noexcept;
    bool take(std::uint32_t n, time_point when) noexcept;
    void return_tokens(std::uint32_t n) noexcept;
    acquire_awaiter& first() const noexcept { return static_cast<acquire_awaiter&>(waits_.front()); }
    void serve() noexcept;
    void arm();
    void disarm() noexcept;
    std::uint32_t checked(std::uint32_t n) const;

    // In units of 1 / rate_ ns, in which a token takes per_ of them.
    wide full_at_;  // when the bucket is full again
    std::int64_t per_;
    std::uint32_t rate_;
    std::uint32_t burst_;
    detail::named_queue waits_;
    refill_op refill_;
};

namespace detail {

/// What a keyed_rate_limiter does whatever its key is: a hash table of buckets, and the order in which
/// they were used. Those that a wait was made for stand apart: a line of waits may last for ever, and those in
/// order behind it would never be looked at. A bucket is full burst * per / tokens after its last use at the latest,
/// so of the others the first one in order that is not tells that none behind it has been unused for longer.
class RONDO_API keyed_buckets {
 public:
    struct bucket : links {
        explicit bucket(keyed_buckets& home) : limiter(home.options(), home.name_), in(home) {}
        rate_limiter limiter;
        keyed_buckets& in;
        std::size_t hash = 0;
        bucket* next_in_chain = nullptr;
        std::uint32_t users = 0;  // waits that were made for it
        void (*free)(bucket&) noexcept = nullptr;
        void enter() noexcept {
            if (users++ == 0) in.hold(*this);
        }
        void leave() noexcept {
            if (--users == 0) in.let_go(*this);
        }
    };

    /// A wait that keeps its bucket from being forgotten, also before it has begun.
    class acquire_awaiter : public rate_limiter::acquire_awaiter {
     public:
        acquire_awaiter(bucket& b, std::uint32_t n) : rate_limiter::acquire_awaiter(b.limiter.acquire(n)), of_(b) {
            of_.enter();
        }
        acquire_awaiter(const acquire_awaiter& other) noexcept : rate_limiter::acquire_awaiter(other), of_(other.of_) {
            of_.enter();
        }
        acquire_awaiter& operator=(const acquire_awaiter&) = delete;
        ~acquire_awaiter() { of_.leave(); }

     private:
        bucket& of_;
    };

    keyed_buckets(const rate_options& options, const char* name) : options_(options), name_(name) {
        static_cast<void>(rate_limiter(options));
    }
    ~keyed_buckets();
    keyed_buckets(const keyed_buckets&) = delete;
    keyed_buckets& operator=(const keyed_buckets&) = delete;

    /// Throws what `equal` does.
    bucket* find(std::size_t hash, bool (*equal)(const bucket&, const void*), const void* key) const;
    /// Throws bad_alloc, and then `b` is not in it.
    void insert(bucket& b, std::size_t hash);
    void used(bucket& b) noexcept;
    std::size_t size() const noexcept { return size_; }
    std::size_t forget_idle() noexcept;
    const rate_options& options() const noexcept { return options_; }
    const char* name() const noexcept { return name_; }

 private:
    void hold(bucket& b) noexcept;
    void let_go(bucket& b) noexcept;
    void forget(bucket& b) noexcept;
    void grow();

    rate_options options_;
    const char* name_;
    ring<bucket> by_use_;  // the one not used for longest in front
    ring<bucket> held_;    // those with users
    bucket** chains_ = nullptr;
    std::size_t chain_count_ = 0;  // a power of two
    std::size_t size_ = 0;
};

}  // namespace detail

/// A rate_limiter for each key: per client, per account. Buckets that are full again and not waited for
/// are forgotten while others are used, two at a time, so it holds no more than the keys that are waited for and
/// those of the last burst * per / tokens, and no background task. It must outlive its waits, also those that
/// have not begun. What `Hash`, equality or copying a key throws is thrown, and nothing has changed.
template <class Key, class Hash = std::hash<Key>>
class keyed_rate_limiter {
 public:
    /// Throws what the constructor of rate_limiter throws. `name` is for reports and must outlive it (a literal).
    explicit keyed_rate_limiter(const rate_options& options, const char* name = "") : buckets_(options, name) {}

    /// Does for `key` what rate_limiter::acquire does; throws bad_alloc, too. O(1).
    [[nodiscard]] detail::keyed_buckets::acquire_awaiter acquire(const Key& key, std::uint32_t n = 1) {
        return {of(key), n};
    }
    [[nodiscard]] bool try_acquire(const Key& key, std::uint32_t n = 1) { return of(key).limiter.try_acquire(n); }

    /// Keys that are remembered.
    std::size_t size() const noexcept { return buckets_.size(); }
    const char* name() const noexcept { return buckets_.name(); }
    /// Forgets all that are idle by now; gives how many. O(n).
    std::size_t forget_idle() noexcept { return buckets_.forget_idle(); }

 private:
    struct bucket final : detail::keyed_buckets::bucket {
        bucket(detail::keyed_buckets& home, const Key& k) : detail::keyed_buckets::bucket(home), key(k) {}
        Key key;
    };

    detail::keyed_buckets::bucket& of(const Key& key) {
        const std::size_t hash = Hash{}(key);
        detail::keyed_buckets::bucket* found = buckets_.find(
            hash,
            [](const detail::keyed_buckets::bucket& b, const void* k) {
                return static_cast<const bucket&>(b).key == *static_cast<const Key*>(k);
            },
            &key);
        if (found == nullptr) {
            auto made = std::make_unique<bucket>(buckets_, key);
            made->free = [](detail::keyed_buckets::bucket& b) noexcept { delete static_cast<bucket*>(&b); };
            buckets_.insert(*made, hash);
            found = made.release();
        }
        buckets_.used(*found);
        return *found;
    }

    detail::keyed_buckets buckets_;
};

}  // namespace rondo
