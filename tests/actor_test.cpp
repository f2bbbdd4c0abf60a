// Actors: messages, mailboxes, addresses and ends.
#include "support/every_step.hpp"

#include <variant>

using namespace rondo;
using test::journal;
using test::run;
using namespace std::chrono_literals;

namespace {

struct deposit {
    int amount;
};
struct withdraw : request<bool> {
    int amount;
};
struct get_balance : request<int> {};

struct account {
    using message = std::variant<deposit, withdraw, get_balance>;
    void on(deposit& d) { balance += d.amount; }
    bool on(withdraw& w) {
        if (w.amount > balance) return false;
        balance -= w.amount;
        return true;
    }
    int on(get_balance&) { return balance; }
    int balance = 0;
};

TEST_CASE("actor: a behaviour handles what is told, and answers what is asked") {
    struct local {
        static task<> body() {
            auto alice = spawn_actor<account>();
            co_await alice.tell<deposit>(100);
            const bool enough = co_await alice.ask<withdraw>(30);
            CHECK(enough);
            const bool too_much = co_await alice.ask<withdraw>(100);
            CHECK_FALSE(too_much);
            const int left = co_await alice.ask<get_balance>();
            CHECK(left == 70);
        }
    };
    run(local::body);
}

}  // namespace
