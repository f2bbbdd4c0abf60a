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
        set(who.next, nullptr);
        signal_watch** at = &first_;
        while (*at != nullptr) at = &(*at)->next;
        set(*at, &who);
    }
    /// False: it is not in the list.
    bool remove(signal_watch& who) noexcept {
        for (signal_watch** at = &first_; *at != nullptr; at = &(*at)->next) {
            if (*at != &who) continue;
            set(*at, who.next);
            return true;
        }
        return false;
    }
    void clear() noexcept { set(first_, nullptr); }

    /// In the order in which they came. False: nobody watches it. Async-signal-safe.
    bool tell(int signal) noexcept { return tell(signal, false) || tell(signal, true); }

 private:
    bool tell(int signal, bool last_resort) noexcept {
        bool told = false;
        for (signal_watch* at = get(first_); at != nullptr; at = get(at->next)) {
            if ((at->signals & signal_watch::bit(signal)) == 0 || at->last_resort != last_resort) continue;
            told = true;
            at->notify(*at, signal);
        }
        return told;
    }
    static signal_watch* get(signal_watch*& link) noexcept { return std::atomic_ref(link).load(); }
    static void set(signal_watch*& link, signal_watch* to) noexcept { std::atomic_ref(link).store(to); }

    signal_watch* first_ = nullptr;
};

}  // namespace rondo::detail
