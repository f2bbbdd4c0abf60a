// Shows JavaScript's Promise.all, allSettled, race and any, with requests of which some fail.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;

rondo::task<std::string> fetch(std::string url, std::chrono::milliseconds takes) {
    co_await rondo::sleep_for(takes);
    if (url.find("bad") != url.npos) throw std::runtime_error(url + ": 500");
    co_return url + ": 200";
}

std::string reason(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) {
        return e.what();
    }
}

std::vector<rondo::task<std::string>> requests() {
    std::vector<rondo::task<std::string>> all;
    all.push_back(fetch("/users", 30ms));
    all.push_back(fetch("/bad", 10ms));
    all.push_back(fetch("/orders", 20ms));
    all.push_back(fetch("/worse-than-bad", 40ms));
    return all;
}

rondo::task<> fetch_with_partial_failure() {
    const auto results = co_await rondo::all_settled(requests());
    int successes = 0;
    for (const auto& result : results) {
        successes += result ? 1 : 0;
        std::printf("  %-9s %s\n", result ? "fulfilled" : "rejected",
                    result ? result.value().c_str() : reason(result.error()).c_str());
    }
    std::printf("%d successes, %zu failures\n", successes, results.size() - static_cast<std::size_t>(successes));
}

rondo::task<> app() {
    std::puts("Promise.all");
    const auto both = co_await rondo::when_all(fetch("/users", 30ms), fetch("/orders", 20ms));
    std::printf("  %s, %s\n", std::get<0>(both).c_str(), std::get<1>(both).c_str());
    try {
        co_await rondo::when_all(requests());
    } catch (const std::runtime_error& e) {
        std::printf("  rejected  %s\n", e.what());  // and the others are cancelled, which JavaScript cannot
    }

    std::puts("Promise.allSettled");
    co_await fetch_with_partial_failure();

    std::puts("Promise.any");
    const std::string first = co_await rondo::race(requests());
    std::printf("  %s\n", first.c_str());
    try {
        co_await rondo::race(fetch("/bad", 20ms), fetch("/worse-than-bad", 10ms));
    } catch (const rondo::exception_group& all) {
        for (const auto& error : all.errors()) std::printf("  rejected  %s\n", reason(error).c_str());
    }

    std::puts("Promise.race");
    const auto winner = co_await rondo::when_any(requests());
    std::printf("  request %zu: %s\n", winner.index(), reason(winner.outcomes()[winner.index()].error()).c_str());
}

int main() { return rondo::run_main(app); }
