// A wait_queue as the primitives have it: it says in reports what it is, and is empty when it goes.
#pragma once

#include <rondo/task/detail/wait_queue.hpp>
#include <rondo/task/wait.hpp>

namespace rondo::detail {

class RONDO_API named_queue : public wait_queue<> {
 public:
    /// `kind` and `name` are literals, or outlive it; `name` may be empty.
    named_queue(const char* kind, const char* name) noexcept : kind_(kind), name_(name) {}
    ~named_queue() {
        if (!empty()) [[unlikely]]
            destroyed_with_waiters();
    }

    const char* name() const noexcept { return name_; }

    /// "semaphore 'db'".
    std::string title() const;
    /// Writes the title to `text`, cut at `size`, and gives how much of it was written.
    std::size_t write_title(char* text, std::size_t size) const noexcept;
    /// "semaphore 'db', 14 waiting".
    void describe(char* text, std::size_t size) const noexcept;

 private:
    [[noreturn]] void destroyed_with_waiters() const noexcept;
    const char* kind_;
    const char* name_;
};

/// A wait in a named_queue for which nothing has to be put right when it is cancelled.
struct RONDO_API queue_wait : wait_op {
    explicit queue_wait(named_queue& q) noexcept : wait_op(table), in(&q) {}
    /// What start() of a wait calls: it waits behind all others.
    bool stand() noexcept {
        in->push(*this);
        return true;
    }
    void give_back() noexcept {}  // to have stood in a queue leaves nothing behind
    /// What await_resume() of a wait calls: throws `cancelled` if that is how it ended.
    void check() const {
        if (result < 0) [[unlikely]]
            throw_failure(result, "wait");
    }

    named_queue* in;
    static const op_vtable table;
};

}  // namespace rondo::detail
