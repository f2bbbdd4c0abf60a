// signals: a task that waits for SIGTERM and the like, as for anything else.
//
//     rondo::signals asked{SIGINT, SIGTERM};
//     auto chosen = co_await select_one(asked.next(), jobs.receive());
//
// While one of these lives, its signals do not do what they did. Which signals there are is the backend's matter: those
// of the process, or those of a simulated host (host::signal), so that a world can test what a program does about them.
#pragma once

#include <rondo/loop/remote.hpp>
#include <rondo/task/detail/named_queue.hpp>
#include <rondo/task/wait.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>

namespace rondo {

/// Listens for signals of the program, from when it is made until it is destroyed, on the loop that runs; for the
/// thread of that. A signal that comes while nobody waits is kept for the next wait; the same one again is the same
/// one, as POSIX has it. SIGINT, SIGTERM and SIGHUP stay ignored if they are (nohup, a shell's `&`). Several may listen
/// for a signal; each hears of it. One that has waiting tasks keeps the loop alive, and is no deadlock.
class RONDO_API signals {
 public:
    class next_awaiter;

    /// Throws io_error(invalid_argument) for what is no signal, and for SIGKILL and SIGSTOP. Throws bad_alloc.
    /// (No initializer_list: g++ 12 refuses one in some coroutines.)
    template <class... Numbers>
        requires(std::is_same_v<Numbers, int> && ...)
    explicit signals(int first, Numbers... more) : signals(std::array{first, more...}.data(), 1 + sizeof...(more)) {}
    ~signals();
    signals(const signals&) = delete;
    signals& operator=(const signals&) = delete;

    /// Waits for one of the signals and gives its number; of several that have come, the lowest first. Tasks that wait
    /// are served in order; it must outlive them. Cancel: no signal is lost. O(1).
    [[nodiscard]] next_awaiter next() noexcept;
    /// One that has come and that nobody has had.
    std::optional<int> try_next() noexcept;

 private:
    signals(const int* which, std::size_t count);

    struct core;
    int take() noexcept;
    void put_back(int signal) noexcept;

    std::unique_ptr<core> core_;
};

class [[nodiscard]] signals::next_awaiter : public detail::queue_wait, public awaits<next_awaiter> {
 public:
    RONDO_API explicit next_awaiter(signals& from) noexcept;

    RONDO_API bool start() noexcept;
    void give_back() noexcept {
        if (result > 0) from_->put_back(result);
    }
    int await_resume() {
        alive_ = {};
        check();
        return result;
    }
    rondo::result<int> finish() { return await_resume(); }

 private:
    signals* from_;
    remote alive_;  // while it waits
};

}  // namespace rondo
