// Shows Go's channels: unbuffered, where sender and receiver meet; buffered, where the sender need not wait at first.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <string>

using namespace std::chrono_literals;

rondo::task<> greet(rondo::channel<std::string>& ch) {
    co_await rondo::sleep_for(1s);
    co_await ch.send("Hello from a task!");  // until it is taken
}

rondo::task<> app() {
    rondo::channel<std::string> ch;
    auto greeter = rondo::spawn(greet, std::ref(ch));
    const auto message = co_await ch.receive();  // waits for it
    std::printf("%s\n", message->c_str());
    co_await greeter;

    rondo::channel<int> buffered(3);
    co_await buffered.send(1);
    co_await buffered.send(2);
    co_await buffered.send(3);
    // A fourth send would wait, for ever; so would Go's.
    const bool fourth = buffered.try_send(4).has_value();
    std::printf("a fourth has %s\n", fourth ? "room" : "no room");
    const auto one = co_await buffered.receive();
    const auto two = co_await buffered.receive();
    std::printf("%d\n%d\n", *one, *two);

    // What Go cannot ask: is it closed, and is everything received?
    buffered.close();
    const auto three = co_await buffered.receive();
    const auto end = co_await buffered.receive();
    std::printf("%d, then %s\n", *three, end ? "more" : "the end");
}

int main() { return rondo::run_main(app); }
