// How the cost of something grows, told by one run: no clock is compared with a number of seconds.
#pragma once

#include <algorithm>
#include <ctime>

namespace test {

/// The time that this thread has run, in seconds.
inline double time_of_thread() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

/// cost(many) / cost(few), the least of five unless it is below `enough` before: what else the machine does makes
/// either of them dearer for a while, and would fail a test now and then.
template <class Cost>
double least_ratio(Cost cost, int few, int many, double enough) {
    double least = 1e9;
    for (int i = 0; i < 5 && least >= enough; ++i) {
        const double of_few = cost(few);
        least = std::min(least, cost(many) / of_few);
    }
    return least;
}

/// How many times dearer `work(8 * n)` is than `work(n)`: some 8 when it is linear, 64 when it is quadratic.
template <class Work>
double growth(Work work, int n) {
    const auto best_of_three = [&](int size) {
        double best = 1e9;
        for (int i = 0; i < 3; ++i) {
            const double before = time_of_thread();
            work(size);
            best = std::min(best, time_of_thread() - before);
        }
        return best;
    };
    return least_ratio(best_of_three, n, 8 * n, 16);
}

}  // namespace test
