// Nobody receives from an unbuffered channel: the deadlock is reported, with who waits for what.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <sstream>
#include <string>

rondo::task<> alone() {
    rondo::channel<int> ch;
    co_await ch.send(42);  // waits for a receiver, who would come in the next line
    const auto value = co_await ch.receive();
    std::printf("%d\n", *value);
}

rondo::task<> together() {
    rondo::channel<int> ch;
    auto sender = rondo::spawn([&]() -> rondo::task<> { co_await ch.send(42); });
    const auto value = co_await ch.receive();
    std::printf("with a task that sends: %d\n", *value);
    co_await sender;
}

int main() {
    try {
        rondo::run(alone);
    } catch (const rondo::deadlock_error& deadlock) {
        std::istringstream lines(deadlock.what());
        std::string line;
        std::getline(lines, line);
        std::printf("%s\n", line.c_str());
        while (std::getline(lines, line))  // of the tree only what is waited for
            if (const auto at = line.find("waits: "); at != line.npos) std::printf("%s\n", line.c_str() + at);
    }
    return rondo::run_main(together);
}
