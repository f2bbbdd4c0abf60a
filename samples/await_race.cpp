// Read, co_await, write: the race that one thread still has, on a bank account, and two ways out of it.
#include <rondo/rondo.hpp>

#include <cstdio>

struct account {
    int balance = 100;
    rondo::mutex lock{"account"};
};

rondo::task<> ask_the_bank() { co_await rondo::yield(); }

// What was read before the co_await may be wrong behind it.
rondo::task<bool> withdraw_carelessly(account& from, int amount) {
    const int seen = from.balance;
    if (seen < amount) co_return false;
    co_await ask_the_bank();
    from.balance -= amount;
    co_return true;
}

// Ask again behind the last co_await: from there to the write nobody else runs.
rondo::task<bool> withdraw_and_look_again(account& from, int amount) {
    if (from.balance < amount) co_return false;
    co_await ask_the_bank();
    if (from.balance < amount) co_return false;
    from.balance -= amount;
    co_return true;
}

// Or let nobody else in from the read to the write.
rondo::task<bool> withdraw_locked(account& from, int amount) {
    auto guard = co_await from.lock.lock();
    co_return co_await withdraw_carelessly(from, amount);
}

rondo::task<> two_at_once(const char* how, rondo::task<bool> (*withdraw)(account&, int)) {
    account shared;
    auto one = rondo::spawn(withdraw, std::ref(shared), 80);
    auto two = rondo::spawn(withdraw, std::ref(shared), 80);
    const bool first = co_await one;
    const bool second = co_await two;
    std::printf("%-12s 80 %s, 80 %s, %d left\n", how, first ? "paid" : "refused", second ? "paid" : "refused",
                shared.balance);
}

rondo::task<> app() {
    co_await two_at_once("carelessly:", withdraw_carelessly);
    co_await two_at_once("look again:", withdraw_and_look_again);
    co_await two_at_once("locked:", withdraw_locked);
}

int main() { return rondo::run_main(app); }
