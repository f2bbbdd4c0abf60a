// A counter as an actor: nobody shares its state, everybody sends it messages. As a coroutine with a mailbox.
#include <rondo/actor/actor.hpp>
#include <rondo/rondo.hpp>

#include <cstdio>
#include <variant>

struct increment {
    int by;
};
struct get : rondo::request<int> {};
using message = std::variant<increment, get>;

rondo::task<> counter(rondo::mailbox<message>& box, int count) {
    for (;;) {
        auto got = co_await box.receive();
        if (!got) co_return;  // stopped, and nothing is left
        if (auto* i = std::get_if<increment>(&*got)) count += i->by;
        if (auto* g = std::get_if<get>(&*got)) g->reply(count);
    }
}

rondo::task<> increments(rondo::actor_ref<message> to, int times) {
    for (int i = 0; i < times; ++i) co_await to.tell<increment>(1);
}

rondo::task<> app() {
    auto c = rondo::spawn_actor({.name = "counter", .capacity = 8}, counter, 0);
    co_await c.tell<increment>(1);
    co_await c.tell<increment>(1);
    const int two = co_await c.ask<get>();
    std::printf("after two increments: %d\n", two);

    co_await rondo::with_task_group([&](rondo::task_group& senders) -> rondo::task<> {
        for (int i = 0; i < 10; ++i) senders.spawn(increments, c, 100);
        co_return;
    });
    const int all = co_await c.ask<get>();
    std::printf("and ten senders of a hundred: %d\n", all);

    c.stop();
    co_await c.ended();
    const auto reply = co_await rondo::attempt(c.ask<get>());
    std::printf("after its end: %s\n", reply.error().message().c_str());
    co_await c.tell<increment>(1);
    std::printf("dead letters: %d\n", static_cast<int>(rondo::this_loop().stats().dead_letters));
}

int main() { return rondo::run_main(app); }
