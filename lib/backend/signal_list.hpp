// Who watches signals, as a list that a signal handler may walk while others change it.
#pragma once

#include <rondo/loop/backend.hpp>

#include <atomic>
#include <cstdint>

namespace rondo::detail {

inline constexpr int signal_count = 65;  // Linux has 1 to 64

constexpr bool is_signal(int number) noexcept { return number > 0 && number < signal_count; }
constexpr std::uint64_t signal_bit(int number) noexcept { return std::uint64_t{1} << (number - 1); }

/// One thread at a time changes it; any may walk it meanwhile. Who takes a watch out must keep it until all
/// walks that may have begun before are over.
class signal_list {
 public:
    void add(signal_watch& who) noexcept {
        who.next.store(nullptr);
        end().store(&who);
    }
    /// False: it is not in the list.
    bool remove(signal_watch& who) noexcept {
        for (std::atomic<signal_watch*>* at = &first_; at->load() != nullptr; at = &at->load()->next) {
            if (at->load() != &who) continue;
            at->store(who.next.load());
            return true;
        }
        return false;
    }
    void clear() noexcept { first_.store(nullptr); }

    /// In the order in which they came. False: nobody watches it. Async-signal-safe.
    bool tell(int signal) const noexcept {
        bool told = false;
        for (signal_watch* at = first_.load(); at != nullptr; at = at->next.load()) {
            if ((at->signals & signal_bit(signal)) == 0) continue;
            told = true;
            at->notify(*at, signal);
        }
        return told;
    }

 private:
    std::atomic<signal_watch*>& end() noexcept {
        std::atomic<signal_watch*>* at = &first_;
        while (at->load() != nullptr) at = &at->load()->next;
        return *at;
    }
    std::atomic<signal_watch*> first_{nullptr};
};

}  // namespace rondo::detail
