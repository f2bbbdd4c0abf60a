// Who watches signals, as a list that a signal handler may walk while others change it.
#pragma once

#include <rondo/loop/backend.hpp>

#include <atomic>
#include <cstdint>

namespace rondo::detail {

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
    bool tell(int signal) const noexcept { return tell(signal, false) || tell(signal, true); }

 private:
    bool tell(int signal, bool last_resort) const noexcept {
        bool told = false;
        for (signal_watch* at = first_.load(); at != nullptr; at = at->next.load()) {
            if ((at->signals & signal_watch::bit(signal)) == 0 || at->last_resort != last_resort) continue;
            told = true;
            at->notify(*at, signal);
        }
        return told;
    }
    std::atomic<signal_watch*>& end() noexcept {
        std::atomic<signal_watch*>* at = &first_;
        while (at->load() != nullptr) at = &at->load()->next;
        return *at;
    }
    std::atomic<signal_watch*> first_{nullptr};
};

}  // namespace rondo::detail
