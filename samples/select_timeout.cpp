// Select: two channels with a timeout, whichever comes first, and a default that never waits.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <string>

using namespace std::chrono_literals;

rondo::task<> send_after(rondo::channel<std::string>& into, rondo::duration pause, std::string text) {
    co_await rondo::sleep_for(pause);
    co_await into.send(std::move(text));
}

rondo::task<> app() {
    rondo::channel<std::string> ch1, ch2;
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        group.spawn(send_after, std::ref(ch1), 10ms, std::string("from channel 1")).discard();
        group.spawn(send_after, std::ref(ch2), 20ms, std::string("from channel 2")).discard();
        for (int i = 0; i < 3; ++i) {
            auto chosen = co_await rondo::select_one(ch1.receive(), ch2.receive(), rondo::sleep_for(30ms));
            switch (chosen.index()) {
                case 0: std::printf("Received %s\n", chosen.get<0>()->c_str()); break;
                case 1: std::printf("Received %s\n", chosen.get<1>()->c_str()); break;
                case 2: std::puts("Timeout!"); break;
            }
        }
    });

    rondo::channel<int> ch(1);
    for (int i = 0; i < 2; ++i) {
        auto chosen = co_await rondo::select_one(ch.receive(), rondo::otherwise());
        if (chosen.index() == 0) std::printf("Got: %d\n", *chosen.get<0>());
        if (chosen.index() == 1) std::puts("Channel empty, moving on");
        co_await ch.send(42);
    }
}

int main() { return rondo::run_main(app); }
