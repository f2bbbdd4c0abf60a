#include "thread_end.hpp"

#include <utility>

#include <pthread.h>

namespace rondo::detail {

namespace {

constinit thread_local thread_end* promised_here = nullptr;

void put_all_away() noexcept {
    while (thread_end* const at = promised_here) {
        promised_here = std::exchange(at->next, nullptr);
        at->promised = false;
        at->put_away();
    }
}

// A value under one of the first 32 keys of a process needs no memory, and no one's under a later key does twice.
class key {
 public:
    key() noexcept : made_(pthread_key_create(&key_, [](void*) { put_all_away(); }) == 0) {}
    ~key() {
        put_all_away();
        if (made_) pthread_key_delete(key_);
        over_ = true;
    }
    key(const key&) = delete;
    key& operator=(const key&) = delete;

    bool set() const noexcept {
        if (over_) return true;  // the program ends: what is not put away any more does not matter
        static char anything;    // but null
        return made_ && pthread_setspecific(key_, &anything) == 0;
    }

 private:
    pthread_key_t key_{};
    bool made_;
    bool over_ = false;
};

key& the_key() noexcept {
    static key only;
    return only;
}

}  // namespace

bool at_thread_end(thread_end& what) noexcept {
    if (what.promised) return true;
    if (!the_key().set()) return false;
    what.promised = true;
    what.next = std::exchange(promised_here, &what);
    return true;
}

}  // namespace rondo::detail
