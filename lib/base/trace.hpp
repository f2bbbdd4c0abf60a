// The way that an error has come: through which awaits it left its coroutines, and where the tasks that it ended were
// spawned.
//
// An exception has no room for that, and what has no error shall pay nothing. So a thread has a table of the latest
// errors, made for the first one, and the exception holds a number that finds its row: in the padding that libstdc++'s
// header of every exception has, which begins as zero (Boost.Stacktrace keeps its traces there, too). The number goes
// with the exception, whoever keeps and rethrows it; and one that is made later at the same address has none.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <source_location>

namespace rondo::detail {

class error_trace {
 public:
    /// What happened at a place: the coroutine there awaited what threw, or threw itself; the task that ended was
    /// spawned; or someone who had kept the error threw it again.
    enum class step : std::uint8_t { awaited, spawned, rethrown };
    struct place {
        std::source_location at;
        step how = step::awaited;
    };

    /// Of a long way its first places and its last ones are kept.
    static constexpr std::size_t most_innermost = 24;
    static constexpr std::size_t most = 32;

    std::size_t size() const noexcept { return size_; }
    const place& operator[](std::size_t i) const noexcept { return places_[i]; }
    /// How many places are missing after the first `most_innermost`.
    std::size_t left_out() const noexcept { return left_out_; }

    /// A coroutine, and the number of its task, since its frame may be where another one's was. Only compared.
    struct coroutine {
        const void* frame = nullptr;
        std::uint32_t task = 0;
        bool operator==(const coroutine&) const noexcept = default;
    };
    /// The error leaves the coroutine `from`, which waited at `site`, for the one that awaits it.
    void leaves(const coroutine& from, const std::source_location& site, const coroutine& to) noexcept;
    /// The same where nobody throws it: it is handed on.
    void is_passed(const std::source_location& site, const coroutine& to) noexcept;
    /// It has ended a task that was spawned here.
    void ends_task(const std::source_location& spawned) noexcept;
    /// Who awaits the handle of that task throws it next. If someone had done so before, that one rethrows it.
    void is_joined_by(const coroutine& joiner) noexcept {
        if (next_.frame == nullptr) next_ = joiner;
    }

 private:
    void add(step how, const std::source_location& at) noexcept;
    void go_back() noexcept;

    std::array<place, most> places_;
    coroutine next_;  // who awaits it; none when it has ended a task
    std::size_t size_ = 0;
    std::size_t left_out_ = 0;
    std::size_t at_rest_ = 0;  // the places up to where somebody kept it
    bool begun_ = false;
    bool rethrown_ = false;
};

/// That of an error which has left a coroutine of this thread; null if it has not, or many others have since.
error_trace* trace_of(const std::exception_ptr& error) noexcept;
/// The same, begun if there is none; null without memory.
error_trace* begin_trace(const std::exception_ptr& error) noexcept;
/// While it is needed, that of another error makes room for new ones.
void need_trace(const std::exception_ptr& error, bool needed) noexcept;
/// It has been told: the next error may have its place, if nobody has thrown this one again until then.
void release_trace(const std::exception_ptr& error) noexcept;

}  // namespace rondo::detail
