// What the tests of scopes are made of: small tasks that fail, clean up or wait, counted in turns of the
// loop, and how something ended as a short text, so that a case is one comparison.
#pragma once

#include "test.hpp"

#include <stdexcept>

namespace test {

/// "boom", "timeout", "cancelled", "canceled: task group" (an io_error of that kind), and of a group
/// "(first second)".
inline std::string text_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const rondo::exception_group& group) {
        std::string all;
        for (const std::exception_ptr& one : group.errors()) all += (all.empty() ? "" : " ") + text_of(one);
        return "(" + all + ")";
    } catch (const rondo::timeout_error&) {
        return "timeout";
    } catch (const rondo::io_error& e) {
        return e.code() == std::errc::operation_canceled ? std::string("canceled: ") + e.operation() : e.what();
    } catch (const std::exception& e) {
        return e.what();
    } catch (const rondo::cancelled&) {
        return "cancelled";
    } catch (...) {
        return "something thrown";
    }
}

/// How `body` ends: its value, "done" for a task<void>, or text_of its error. Swallows `cancelled`: the
/// next wait of a cancelled task says so again.
template <class T>
rondo::task<std::string> outcome_of(rondo::task<T> body) {
    std::exception_ptr error;
    try {
        if constexpr (std::is_void_v<T>) {
            co_await std::move(body);
            co_return "done";
        } else {
            const T value = co_await std::move(body);
            co_return std::to_string(value);
        }
    } catch (...) {
        error = std::current_exception();
    }
    co_return text_of(error);
}

/// Whether a wait at this place is cancelled: "cancelled" or "goes on".
inline rondo::task<std::string> next_wait() {
    std::string found = "goes on";
    try {
        co_await rondo::yield();
    } catch (const rondo::cancelled&) {
        found = "cancelled";
    }
    co_return found;
}

inline rondo::task<> goes_round(int turns) {
    for (int i = 0; i < turns; ++i) co_await rondo::immediate();
}

inline rondo::task<> waits() { co_await rondo::sleep_for(1000h); }

inline rondo::task<int> gives(int turns, int value) {
    co_await goes_round(turns);
    co_return value;
}

inline rondo::task<> fails(int turns, std::string what) {
    co_await goes_round(turns);
    throw std::runtime_error(what);
}

/// Waits until it is cancelled, notes that, and ends with it.
inline rondo::task<> notes_cancel(journal& j, std::string name) {
    struct note {
        journal& to;
        std::string& name;
        ~note() { to.add(name); }
    } at_the_end{j, name};
    co_await waits();
}

/// Waits until it is cancelled; then takes `turns` more, shielded, and notes its name.
inline rondo::task<> cleans_up(int turns, journal& j, std::string name) {
    const std::string ended = co_await outcome_of(waits());
    co_await rondo::shield(goes_round, turns);
    j.add(name);
    if (ended == "cancelled") throw rondo::cancelled{};
}

/// Waits until it is cancelled; then takes `turns` more, shielded, and fails.
inline rondo::task<> fails_in_cleanup(int turns, std::string what) {
    static_cast<void>(co_await outcome_of(waits()));
    co_await rondo::shield(goes_round, turns);
    throw std::runtime_error(what);
}

}  // namespace test
