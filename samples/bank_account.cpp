// A bank account as an actor under supervision: it restarts after a failure, resumes after a bad message.
#include <rondo/rondo.hpp>
#include <rondo/actor/supervisor.hpp>

#include <cstdio>
#include <stdexcept>
#include <variant>

struct deposit {
    double amount;
};
struct withdraw : rondo::request<bool> {
    double amount;
};
struct get_balance : rondo::request<double> {};
struct corrupt {};  // a bug that breaks the state

struct account {
    using message = std::variant<deposit, withdraw, get_balance, corrupt>;

    void on(deposit& d) {
        if (d.amount <= 0) throw std::invalid_argument("a deposit must be positive");
        balance += d.amount;
        std::printf("deposited %.2f, balance: %.2f\n", d.amount, balance);
    }
    bool on(withdraw& w) {
        if (w.amount > balance) {
            std::printf("insufficient funds: %.2f < %.2f\n", balance, w.amount);
            return false;
        }
        balance -= w.amount;
        std::printf("withdrew %.2f, balance: %.2f\n", w.amount, balance);
        return true;
    }
    double on(get_balance&) { return balance; }
    void on(corrupt&) { throw std::logic_error("the books do not balance"); }

    double balance = 0;
};

// A bad message leaves the state alone; after anything else the state is not to be trusted.
rondo::decision decide(const std::exception_ptr& error) noexcept {
    try {
        std::rethrow_exception(error);
    } catch (const std::invalid_argument& e) {
        std::printf("resume: %s\n", e.what());
        return rondo::decision::resume;
    } catch (const std::exception& e) {
        return rondo::decision::restart;
    }
}

rondo::task<> bank(rondo::supervisor& accounts) {
    auto alice = co_await accounts.start_actor<account>({.name = "alice", .decide = decide});
    co_await alice.tell<deposit>(100.0);
    co_await alice.ask<withdraw>(30.0);
    co_await alice.ask<withdraw>(500.0);
    co_await alice.tell<deposit>(-1.0);
    double balance = co_await alice.ask<get_balance>();
    std::printf("balance: %.2f\n", balance);

    co_await alice.tell<corrupt>();
    balance = co_await alice.ask<get_balance>();  // the same address, a fresh account
    std::printf("balance after the restart: %.2f\n", balance);
    std::printf("restarts: %u\n", accounts.which_children()[0].restarts);
}

rondo::task<> app() { co_await rondo::with_supervisor(bank, {.name = "bank"}); }

int main() { return rondo::run_main(app); }
