// A supervisor with three workers: W2 crashes and is restarted alone; at five restarts in five minutes all end.
#include <rondo/rondo.hpp>
#include <rondo/actor/supervisor.hpp>

#include <cstdio>
#include <stdexcept>
#include <variant>

using namespace std::chrono_literals;

struct work {
    int n;
};
struct crash {};
struct done : rondo::request<> {};  // answered when all before it is

struct worker {
    using message = std::variant<work, crash, done>;
    explicit worker(const char* n) : name(n) { std::printf("%s started\n", name); }
    ~worker() { std::printf("%s gone\n", name); }
    void on(work& w) { std::printf("%s works on %d\n", name, w.n); }
    void on(crash&) { throw std::runtime_error(std::string(name) + " has crashed"); }
    void on(done&) {}
    const char* name;
};

using worker_ref = rondo::actor_ref<worker::message>;

rondo::task<> use(rondo::supervisor& workers) {
    worker_ref w1 = co_await workers.start_actor<worker>({.name = "W1"}, "W1");
    worker_ref w2 = co_await workers.start_actor<worker>({.name = "W2"}, "W2");
    worker_ref w3 = co_await workers.start_actor<worker>({.name = "W3"}, "W3");
    int n = 0;
    for (const worker_ref* each : {&w1, &w2, &w3}) {
        co_await each->tell<work>(++n);
        co_await each->ask<done>();
    }

    std::printf("-- W2 crashes\n");
    co_await w2.tell<crash>();
    co_await w2.tell<work>(++n);  // waits in its mailbox meanwhile
    co_await w2.ask<done>();
    for (const auto& each : workers.which_children())
        std::printf("%s: %u restarts\n", each.name.c_str(), each.restarts);

    std::printf("-- W2 crashes again and again\n");
    for (int i = 0; i < 4; ++i) {
        co_await w2.tell<crash>();
        static_cast<void>(co_await rondo::attempt(w2.ask<done>()));
    }
    co_await rondo::sleep_for(1h);  // cut short: the supervisor gives up
}

rondo::task<> app() {
    try {
        co_await rondo::with_supervisor(use, {.how = rondo::strategy::one_for_one, .intensity = 4, .period = 5min});
    } catch (const rondo::supervisor_gave_up& e) {
        std::printf("-- %s\n", e.what());
    }
}

int main() { return rondo::run_main(app); }
