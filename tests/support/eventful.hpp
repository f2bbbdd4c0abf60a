// A value with which a test acts in the moment in which it is moved.
#pragma once

#include <functional>
#include <memory>
#include <utility>

namespace test {

/// As a value, and as what is posted: something else happens in the very moment in which it is moved.
struct eventful {
    std::unique_ptr<int> value = std::make_unique<int>(7);
    std::function<void()>* when_moved;

    explicit eventful(std::function<void()>& f) : when_moved(&f) {}
    eventful(eventful&& other) noexcept : value(std::move(other.value)), when_moved(other.when_moved) {
        if (*when_moved) std::exchange(*when_moved, nullptr)();
    }
    void operator()() const {}
};

}  // namespace test
