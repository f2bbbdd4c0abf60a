// Shows Java's StructuredTaskScope: user and order, then each of its joiners.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;
using rondo::joined_group;
namespace joiners = rondo::joiners;

struct user {
    std::string name;
};
struct order {
    std::string id;
};

rondo::task<user> fetch_user(std::string) {
    co_await rondo::sleep_for(500ms);
    co_return user{"Alice"};
}

rondo::task<order> fetch_order(std::string id) {
    co_await rondo::sleep_for(800ms);
    if (id == "none") throw std::runtime_error("no such order");
    co_return order{"ORD-123"};
}

rondo::task<std::string> ask_mirror(std::string name, std::chrono::milliseconds takes, bool up = true) {
    co_await rondo::sleep_for(takes);
    if (!up) throw std::runtime_error(name + " is down");
    co_return name;
}

rondo::task<> app() {
    // ShutdownOnFailure: fork, join, throwIfFailed
    auto [alice, bought] = co_await rondo::when_all(fetch_user("user-1"), fetch_order("order-1"));
    std::printf("User: %s, Order: %s\n", alice.name.c_str(), bought.id.c_str());
    try {
        co_await rondo::when_all(fetch_user("user-1"), fetch_order("none"));
    } catch (const std::runtime_error& e) {
        std::printf("failed: %s\n", e.what());
    }

    // open(Joiner.anySuccessfulResultOrThrow())
    const std::string fastest = co_await rondo::join(joiners::first_value<std::string>(), ask_mirror("far", 90ms),
                                                     ask_mirror("down", 10ms, false), ask_mirror("near", 30ms));
    std::printf("fastest: %s\n", fastest.c_str());

    // open(Joiner.allSuccessfulOrThrow()), with fork in a body
    const auto names = co_await rondo::with_joiner(
        joiners::all_values<std::string>(), [](joined_group<joiners::all_values<std::string>>& scope) -> rondo::task<> {
            scope.spawn(ask_mirror("one", 20ms));
            scope.spawn(ask_mirror("two", 10ms));
            co_return;
        });
    std::printf("all: %s and %s\n", names[0].c_str(), names[1].c_str());

    // a joiner of Java's users: two of three
    const auto two = co_await rondo::join(joiners::quorum<std::string>(2), ask_mirror("a", 30ms), ask_mirror("b", 10ms),
                                          ask_mirror("c", 20ms));
    std::printf("two of three: %s and %s\n", two[0].c_str(), two[1].c_str());
}

int main() { return rondo::run_main(app); }
