// Shows Python's gather, wait_for, and a gather with a limit, as when_all, with_timeout and map_concurrent.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <string>
#include <vector>

using namespace std::chrono_literals;

rondo::task<std::string> process(std::string item, std::chrono::milliseconds takes = 1000ms) {
    co_await rondo::sleep_for(takes);  // instead of I/O
    co_return "Processed: " + item;
}

rondo::task<std::string> fetch(std::string url) {
    std::printf("Fetching %s...\n", url.c_str());
    co_await rondo::sleep_for(1000ms);
    co_return "Data from " + url;
}

// What has passed on the loop's clock, in whole tenths of a second.
void print_passed(const char* what, rondo::time_point since) {
    std::printf("%s after %.1f s\n", what, static_cast<double>((rondo::now() - since) / 100ms) / 10);
}

void print(const std::vector<std::string>& results) {
    for (const std::string& result : results) std::printf("%s\n", result.c_str());
}

rondo::task<> app() {
    // asyncio.gather(a, b, c): one second, not three
    rondo::time_point start = rondo::now();
    auto [users, posts, comments] = co_await rondo::when_all(
        fetch("api.example.com/users"), fetch("api.example.com/posts"), fetch("api.example.com/comments"));
    std::printf("%s\n%s\n%s\n", users.c_str(), posts.c_str(), comments.c_str());
    print_passed("all three", start);

    // asyncio.gather(*tasks)
    const std::vector<std::string> items = {"a", "b", "c", "d", "e"};
    std::vector<rondo::task<std::string>> tasks;
    for (const std::string& item : items) tasks.push_back(process(item));
    start = rondo::now();
    const auto results = co_await rondo::when_all(std::move(tasks));
    print(results);
    print_passed("all five", start);

    // asyncio.wait_for(process("slow"), timeout=0.5)
    bool in_time = true;
    try {
        co_await rondo::with_timeout(500ms, process, std::string("slow"), 1000ms);
    } catch (const rondo::timeout_error&) {
        in_time = false;
    }
    std::printf("%s\n", in_time ? "in time" : "Timeout!");

    // a semaphore of three around each: two rounds
    start = rondo::now();
    const auto limited =
        co_await rondo::map_concurrent(items, 3, [](const std::string& item) { return process(item); });
    print(limited);
    print_passed("five, three at once,", start);
}

int main() { return rondo::run_main(app); }
