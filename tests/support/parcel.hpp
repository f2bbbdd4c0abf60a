// A value to send around: it moves, does not copy, and is counted.
#pragma once

#include <doctest/doctest.h>

#include <utility>

namespace test {

/// A value that knows how many of its kind live, and that a moved-from one is not a value.
class parcel {
 public:
    explicit parcel(int number) noexcept : number_(number) { ++live; }
    parcel(parcel&& other) noexcept : number_(std::exchange(other.number_, -1)) { ++live; }
    parcel& operator=(parcel&& other) noexcept {
        number_ = std::exchange(other.number_, -1);
        return *this;
    }
    ~parcel() { --live; }
    int number() const { return number_; }
    friend bool operator<(const parcel& a, const parcel& b) { return a.number_ < b.number_; }

    static inline int live = 0;

 private:
    int number_;
};

/// Checks that a test leaves no parcel behind.
struct no_parcel_left {
    ~no_parcel_left() { CHECK(parcel::live == 0); }
};

}  // namespace test
