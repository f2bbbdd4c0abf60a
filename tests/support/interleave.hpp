// Tries every order in which a few threads may take the steps of a lock-free algorithm: the real code, with
// an Atomic whose every access is a point where another thread may go on. Sequentially consistent orders
// only; what weaker memory orders allow is ThreadSanitizer's business and the comments'.
//
// The threads are contexts on one real thread. At each access the explorer chooses who goes on; it goes
// through all choices depth first, with at most so many preemptions in one run (CHESS: most bugs need two).
#pragma once

#include <cstdint>
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <ucontext.h>
#include <utility>
#include <vector>

namespace test {

/// The sanitizers do not follow contexts that are swapped by hand; nothing here depends on them.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool sanitized = true;
#elif defined(__has_feature)
inline constexpr bool sanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
inline constexpr bool sanitized = false;
#endif

class interleaving {
 public:
    explicit interleaving(int preemptions) : preemptions_(preemptions) {}

    /// Runs the threads that `make` starts with start(), in every order; `check` after each run. Gives how
    /// many orders there were, or -1 if a thread waited for ever (`stuck` says in which run).
    long explore(const std::function<void(interleaving&)>& make, const std::function<void()>& check) {
        long runs = 0;
        path_.clear();
        do {
            ++runs;
            threads_.clear();
            at_ = 0;
            current_ = 0;
            left_ = preemptions_;
            stuck = false;
            make(*this);
            run();
            if (stuck) return -1;
            check();
        } while (next_path());
        return runs;
    }
    bool stuck = false;

    void start(std::function<void()> body) {
        auto t = std::make_unique<thread>();
        t->body = std::move(body);
        t->stack.resize(64 * 1024);
        getcontext(&t->context);
        t->context.uc_stack.ss_sp = t->stack.data();
        t->context.uc_stack.ss_size = t->stack.size();
        t->context.uc_link = &explorer_;
        makecontext(&t->context, reinterpret_cast<void (*)()>(&interleaving::enter), 0);
        threads_.push_back(std::move(t));
    }

    /// Another thread may go on here.
    static void step() {
        interleaving* const self = running_;
        if (self == nullptr) return;  // outside of a run: setting up, checking
        swapcontext(&self->threads_[self->current_]->context, &self->explorer_);
    }
    /// The running thread goes on only when `condition` holds.
    static void wait_until(std::function<bool()> condition) {
        thread& t = *running_->threads_[running_->current_];
        t.condition = std::move(condition);
        step();
    }

 private:
    struct thread {
        std::function<void()> body;
        std::function<bool()> condition;
        std::vector<char> stack;
        ucontext_t context;
        bool over = false;
    };
    struct choice {
        std::size_t taken;
        std::size_t of;
    };

    static void enter() {
        thread& t = *running_->threads_[running_->current_];
        t.body();
        t.over = true;
    }

    static bool runnable(const thread& t) { return !t.over && (!t.condition || t.condition()); }

    void run() {
        for (;;) {
            interleaving* const inside = std::exchange(running_, nullptr);
            std::vector<std::size_t> able;
            if (inside != nullptr || at_ == 0) {
                if (current_ < threads_.size() && runnable(*threads_[current_])) able.push_back(current_);
                const bool free_choice = able.empty();
                if (free_choice || left_ > 0)
                    for (std::size_t i = 0; i < threads_.size(); ++i)
                        if (i != current_ && runnable(*threads_[i])) able.push_back(i);
                if (free_choice && able.empty()) {
                    for (const auto& t : threads_) stuck = stuck || !t->over;
                    return;
                }
                const std::size_t index = choose(able.size());
                if (index != 0 && !free_choice) --left_;
                current_ = able[index];
            }
            threads_[current_]->condition = nullptr;
            running_ = this;
            swapcontext(&explorer_, &threads_[current_]->context);
        }
    }

    std::size_t choose(std::size_t alternatives) {
        if (at_ == path_.size()) path_.push_back({0, alternatives});
        return path_[at_++].taken;
    }

    bool next_path() {
        while (!path_.empty() && ++path_.back().taken == path_.back().of) path_.pop_back();
        return !path_.empty();
    }

    std::vector<std::unique_ptr<thread>> threads_;
    std::vector<choice> path_;
    std::size_t at_ = 0;
    std::size_t current_ = 0;
    int preemptions_;
    int left_ = 0;
    ucontext_t explorer_;
    static inline interleaving* running_ = nullptr;
};

/// Stands for std::atomic in what is explored.
template <class T>
class stepped_atomic {
 public:
    stepped_atomic() = default;
    explicit(false) stepped_atomic(T value) : value_(value) {}

    T load(std::memory_order = std::memory_order_seq_cst) const { return interleaving::step(), value_; }
    void store(T value, std::memory_order = std::memory_order_seq_cst) { interleaving::step(), value_ = value; }
    T exchange(T value, std::memory_order = std::memory_order_seq_cst) {
        interleaving::step();
        return std::exchange(value_, value);
    }
    T fetch_add(T by, std::memory_order = std::memory_order_seq_cst) {
        interleaving::step();
        return std::exchange(value_, static_cast<T>(value_ + by));
    }
    T fetch_sub(T by, std::memory_order = std::memory_order_seq_cst) {
        interleaving::step();
        return std::exchange(value_, static_cast<T>(value_ - by));
    }
    T fetch_or(T bits, std::memory_order = std::memory_order_seq_cst) {
        interleaving::step();
        return std::exchange(value_, static_cast<T>(value_ | bits));
    }
    bool compare_exchange_weak(T& expected, T value, std::memory_order = std::memory_order_seq_cst,
                               std::memory_order = std::memory_order_seq_cst) {
        interleaving::step();
        if (value_ == expected) {
            value_ = value;
            return true;
        }
        expected = value_;
        return false;
    }

 private:
    T value_{};
};

/// The links of a free stack of four.
struct places {
    stepped_atomic<std::uint32_t> all[4];
    stepped_atomic<std::uint32_t>& below(std::uint32_t n) { return all[n]; }
};

}  // namespace test
