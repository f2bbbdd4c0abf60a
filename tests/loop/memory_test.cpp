// What a burst has left behind, and when it goes back to the system.
#include "support/test.hpp"

#include <rondo/loop/memory.hpp>

#include <malloc.h>

#include <cstdio>
#include <thread>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t megabyte = 1024 * 1024;

/// On a thread of its own, whose pool is empty.
template <class F>
void on_a_fresh_thread(F f) {
    std::thread(f).join();
}

/// What the process has of memory that is not of a file. Pages of the program itself come and go as the kernel
/// likes: on a machine that takes back what is cold they were megabytes.
std::size_t resident_bytes() {
    std::size_t kilobytes = 0;
    std::FILE* const file = std::fopen("/proc/self/status", "r");
    if (file == nullptr) return 0;
    char line[256];
    while (std::fgets(line, sizeof line, file) != nullptr)
        if (std::sscanf(line, "RssAnon: %zu kB", &kilobytes) == 1) break;
    std::fclose(file);
    return kilobytes * 1024;
}

task<> sleeps(duration how_long) { co_await sleep_for(how_long); }

task<> burst(std::size_t tasks) {
    auto body = [](task_group& group, std::size_t count) -> task<> {
        for (std::size_t i = 0; i < count; ++i) group.spawn(sleeps, 1ms).discard();
        co_return;
    };
    co_await with_task_group([&](task_group& group) -> task<> { return body(group, tasks); });
}

/// Not with a sanitizer.
bool pooled() {
    bool is = false;
    on_a_fresh_thread([&] {
        test::run(sleeps, 1us);
        is = frame_memory() != 0;
    });
    return is;
}

TEST_CASE("memory: what a burst of tasks needed goes back when the last loop of the thread ends") {
    // 150 MB stayed for the life of the thread, whatever it did afterwards.
    if (!pooled()) return;
    // Both grow with what has run before, up to 64 MiB, and malloc_trim() leaves the end of a thread's heap alone: so
    // much glibc would keep, whatever we give back.
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    mallopt(M_TRIM_THRESHOLD, 128 * 1024);
    on_a_fresh_thread([] {
        trim_memory();
        const std::size_t before = resident_bytes();
        std::size_t most = 0;
        {
            loop l;
            run_on(l, [&]() -> task<> {
                co_await burst(100'000);
                most = resident_bytes();
            });
            CHECK(frame_memory() > 10 * megabyte);
        }
        CHECK(frame_memory() <= megabyte);
        trim_memory();  // for malloc's part
        const std::size_t after = resident_bytes();
        CHECK(most - before > 10 * megabyte);
        CHECK(after < before + (most - before) / 4);
    });
}

TEST_CASE("memory: it goes back on request while the loop goes on, and what is in use stays as it is") {
    if (!pooled()) return;
    on_a_fresh_thread([] {
        test::run([]() -> task<> {
            std::vector<task_handle<int>> others;
            const auto gives = [](int n) -> task<int> {
                const int mine[] = {n, n + 1, n + 2};
                co_await sleep_for(1h);
                co_return mine[0] + mine[1] + mine[2];
            };
            auto body = [&](task_group& group) -> task<> {
                for (int i = 0; i < 20'000; ++i) {
                    group.spawn(sleeps, 1ms).discard();
                    if (i % 1000 == 0) others.push_back(group.spawn(gives, i));
                }
                co_await sleep_for(1s);
                const std::size_t many = frame_memory();
                CHECK(many > 2 * megabyte);
                trim_memory();
                // Twenty that live hold twenty chunks, or forty if their frames are apart.
                CHECK(frame_memory() < many / 2);
                CHECK(frame_memory() <= 2 * megabyte);
                const std::size_t few = frame_memory();
                trim_memory();
                CHECK(frame_memory() == few);

                // What lies in their chunks is taken again before there are more.
                for (int i = 0; i < 1000; ++i) group.spawn(sleeps, 1ms).discard();
                co_await sleep_for(1s);
                CHECK(frame_memory() <= few + 64 * 1024);
                trim_memory();
                CHECK(frame_memory() <= few);
                for (auto& each : others) each.cancel();
            };
            co_await with_task_group(body);
            trim_memory();
            CHECK(frame_memory() <= megabyte);
        });
    });
}

TEST_CASE("memory: it goes back slowly while the loop turns") {
    if (!pooled()) return;
    on_a_fresh_thread([] {
        test::run([]() -> task<> {
            co_await burst(12'000);
            const std::size_t many = frame_memory();
            CHECK(many > 2 * megabyte);
            std::size_t rounds = 0;
            std::size_t steps = 0;
            for (std::size_t last = many; frame_memory() > megabyte && rounds < 200; ++rounds) {
                co_await sleep_for(101ms);
                steps += frame_memory() < last;
                last = frame_memory();
            }
            CHECK(frame_memory() <= megabyte);
            CHECK(steps > 1);  // not in one go
        });
    });
}

TEST_CASE("memory: trimming is harmless at any time: in a timer's callback, in a post, without a loop") {
    trim_memory();
    loop l;
    std::string order;
    std::vector<timer> many;
    for (int i = 0; i < 300; ++i) many.push_back(l.set_timeout(1ms, [] { trim_memory(); }));
    timer last;
    static_cast<void>(l.remote().post([&] {
        trim_memory();
        order += "post ";
        last = l.set_timeout(2ms, [&] { order += "timer "; });  // no earlier: a slow machine would run it before this
    }));
    l.next_tick([&] {
        trim_memory();
        order += "tick ";
    });
    l.run();
    many.clear();
    trim_memory();
    auto again = l.set_timeout(1ms, [&] { order += "again"; });
    l.run();
    trim_memory();
    CHECK(order == "tick post timer again");
}

}  // namespace
