// Children for combinators: they end after so many places in the ready queue, so a test says who is first.
#pragma once

#include "every_step.hpp"

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace test {

/// Ends after so many places in the ready queue, so that tests say who is first.
inline rondo::task<int> after(int yields, int value) {
    for (int i = 0; i < yields; ++i) co_await rondo::yield();
    co_return value;
}

inline rondo::task<int> fails_after(int yields, const char* what) {
    for (int i = 0; i < yields; ++i) co_await rondo::yield();
    throw std::runtime_error(what);
}

inline rondo::task<> does_nothing() { co_await rondo::yield(); }

inline rondo::task<int> waits(journal& j, std::string name) {
    try {
        co_await rondo::sleep_for(1h);
    } catch (const rondo::cancelled&) {
        j.add(name.append(" cancelled"));
        throw;
    }
    co_return 0;
}

/// Fails while it is being cancelled.
inline rondo::task<int> fails_at_cancel(const char* what) {
    bool was_cancelled = false;
    try {
        co_await rondo::sleep_for(1h);
    } catch (const rondo::cancelled&) {
        was_cancelled = true;
    }
    if (was_cancelled) throw std::runtime_error(what);
    co_return 0;
}

/// Takes a while to clean up.
inline rondo::task<int> cleans_up(journal& j) {
    try {
        co_await rondo::sleep_for(1h);
    } catch (const rondo::cancelled&) {
        j.add("cleaning");
    }
    co_await rondo::shield([] { return after(3, 0); });
    j.add("clean");
    co_return 5;
}

inline rondo::task<std::unique_ptr<int>> owned(int yields, int value) {
    for (int i = 0; i < yields; ++i) co_await rondo::yield();
    co_return std::make_unique<int>(value);
}

/// The n-th of them gives n, after so many yields.
template <class... Yields>
std::vector<rondo::task<int>> tasks(Yields... yields) {
    std::vector<rondo::task<int>> made;
    int value = 0;
    (made.push_back(after(yields, ++value)), ...);
    return made;
}

inline std::string what_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) {
        return e.what();
    } catch (const rondo::cancelled&) {
        return "cancelled";
    }
}

/// The errors that awaiting `t` throws, in order: "a b"; alone if it is not a group: "just a"; else "none".
template <class T>
rondo::task<std::string> errors_of(rondo::task<T> t) {
    std::string text;
    try {
        static_cast<void>(co_await std::move(t));
        text = "none";
    } catch (const rondo::exception_group& group) {
        for (const auto& error : group.errors()) text.append(text.empty() ? "" : " ").append(what_of(error));
    } catch (const std::exception& e) {
        text = std::string("just ").append(e.what());
    }
    co_return text;
}

/// Runs `made(journal)`, a task, as a task of its own, cancels it when it waits, and tells how it ended.
template <class F>
std::string when_cancelled(F made, journal& j) {
    struct local {
        static rondo::task<> body(F make, journal& log) {
            auto child = rondo::spawn(make, std::ref(log));
            for (int i = 0; i < 8; ++i) co_await test::others_first();
            child.cancel();
            try {
                static_cast<void>(co_await child);
                log.add("a result");
            } catch (const std::system_error& e) {
                log.add(e.code() == std::errc::operation_canceled ? "cancelled" : "another error");
            } catch (const std::exception& e) {
                log.add(e.what());
            }
        }
    };
    test::run(local::body, made, std::ref(j));
    return j.text();
}

}  // namespace test
