// Two locks taken in opposite orders: the deadlock is reported when it arises. In one order it cannot arise.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <sstream>
#include <string>

// The report without its source lines, which depend on where this was built.
void print_report(const std::string& report) {
    std::istringstream lines(report);
    for (std::string line; std::getline(lines, line);)
        if (!line.starts_with("      ")) std::printf("  | %s\n", line.c_str());
}

rondo::task<> take_both(int number, rondo::mutex& first, rondo::mutex& second) {
    auto one = co_await first.lock();
    std::printf("  task %d has %s\n", number, first.name());
    co_await rondo::yield();
    auto two = co_await second.lock();
    std::printf("  task %d has %s and %s\n", number, first.name(), second.name());
}

// The two tasks fail or succeed each for itself.
rondo::task<> try_it(rondo::mutex& a, rondo::mutex& b, rondo::mutex& c, rondo::mutex& d) {
    co_await rondo::with_supervisor_group([&](rondo::supervisor_group& group) -> rondo::task<> {
        auto one = group.spawn(take_both, 1, std::ref(a), std::ref(b));
        auto two = group.spawn(take_both, 2, std::ref(c), std::ref(d));
        co_await one;
        std::string report;
        try {
            co_await two;
        } catch (const rondo::deadlock_error& deadlock) {
            report = deadlock.what();
        }
        if (!report.empty()) print_report(report);
    });
}

rondo::task<> app() {
    rondo::mutex a("A"), b("B");
    std::puts("A before B, and B before A:");
    co_await try_it(a, b, b, a);
    std::puts("A before B, both times:");
    co_await try_it(a, b, a, b);
}

int main() { return rondo::run_main(app); }
