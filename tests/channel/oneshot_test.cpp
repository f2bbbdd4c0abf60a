#include <rondo/channel/oneshot.hpp>

#include "support/every_step.hpp"

#include <memory>
#include <string>

using namespace rondo;
using namespace std::chrono_literals;

TEST_CASE("oneshot: a value sent before or after it is waited for") {
    test::run([]() -> task<> {
        oneshot<std::string> early;
        CHECK(early.sender.send("early"));
        CHECK(early.receiver.ready());
        const auto first = co_await early.receiver.receive();
        CHECK(first == "early");
        const auto none = co_await early.receiver.receive();  // it was received
        CHECK_FALSE(none);

        oneshot<std::unique_ptr<int>> late;
        auto answers = spawn(
            [](oneshot_sender<std::unique_ptr<int>> to) -> task<> {
                co_await yield();
                CHECK(to.send(std::make_unique<int>(4)));
            },
            std::move(late.sender));
        const auto four = co_await late.receiver.receive();
        CHECK(**four == 4);
        co_await answers;
    });
}

TEST_CASE("oneshot: the receiver learns that the sender went (tokio #4225, futures #620: a drop wakes)") {
    test::run([]() -> task<> {
        oneshot<int> o;
        auto goes = spawn([](oneshot_sender<int>) -> task<> { co_await yield(); }, std::move(o.sender));
        const auto nothing = co_await o.receiver.receive();
        CHECK_FALSE(nothing);
        co_await goes;
    });
}

TEST_CASE("oneshot: the sender learns that the receiver went, and keeps the value") {
    test::run([]() -> task<> {
        oneshot<std::unique_ptr<int>> o;
        bool gave_up = false;
        auto works = spawn(
            [&gave_up](oneshot_sender<std::unique_ptr<int>> to) -> task<> {
                CHECK(to.wanted());
                co_await to.unwanted();
                gave_up = true;
                auto mine = std::make_unique<int>(1);
                CHECK_FALSE(to.send(std::move(mine)));
                CHECK(mine != nullptr);
                co_await to.unwanted();  // it still is
            },
            std::move(o.sender));
        co_await test::others_first();
        CHECK_FALSE(gave_up);
        {
            const oneshot_receiver<std::unique_ptr<int>> gone = std::move(o.receiver);
        }
        co_await works;
        CHECK(gave_up);
    });
}

TEST_CASE("oneshot: ends may be moved, in any order, and still find each other") {
    test::run([]() -> task<> {
        oneshot<int> o;
        oneshot_sender<int> a = std::move(o.sender);
        oneshot_receiver<int> b = std::move(o.receiver);
        auto sender = std::make_unique<oneshot_sender<int>>(std::move(a));
        oneshot_receiver<int> c = std::move(b);
        CHECK_FALSE(a.wanted());
        CHECK(sender->send(1));
        oneshot_receiver<int> d = std::move(c);  // with the value in it
        sender.reset();
        const auto one = co_await d.receive();
        CHECK(one == 1);
    });
}

TEST_CASE("oneshot: a value that comes in the turn of a cancel is received; else it stays (hazard G7)") {
    test::run([]() -> task<> {
        for (const bool cancel_first : {false, true}) {
            CAPTURE(cancel_first);
            oneshot<int> o;
            int got = 0;
            auto waits = spawn([&]() -> task<> {
                const auto item = co_await o.receiver.receive();
                got = item.value_or(-1);
            });
            co_await test::others_first();
            if (cancel_first) waits.cancel();
            CHECK(o.sender.send(7));
            if (!cancel_first) waits.cancel();
            static_cast<void>(co_await attempt(waits));
            CHECK(got == (cancel_first ? 0 : 7));
            CHECK(o.receiver.try_receive().value_or(0) == (cancel_first ? 7 : 0));
        }
    });
}

// It was taken for the end of a sender on which a task waits, and asserted.
TEST_CASE("oneshot: a task that waits for the receiver to go is woken when another sends") {
    struct local {
        static task<> waits(oneshot_sender<int>& s) { co_await s.unwanted(); }
        static task<> body() {
            oneshot<int> o;
            auto waiter = spawn(waits, std::ref(o.sender));
            co_await test::others_first();
            CHECK(o.sender.send(1));
            co_await waiter;
            const auto got = co_await o.receiver.receive();
            CHECK(got == 1);
        }
    };
    test::run(local::body);
}

TEST_CASE("oneshot: an arm of a select that lost leaves the end to the next who waits") {
    test::run([]() -> task<> {
        oneshot<int> o;
        for (int i = 0; i < 2; ++i) {
            const auto chosen = co_await select_in_order(o.receiver.receive(), immediate());
            CHECK(chosen.index() == 1);
        }
        o.sender.send(3);
        const auto got = co_await o.receiver.receive();
        CHECK(got == 3);
    });
}

TEST_CASE("oneshot: cancel at every step") {
    const auto program = []() -> task<> {
        oneshot<int> question, reply;
        co_await with_task_group([&](task_group& group) -> task<> {
            group
                .spawn(
                    [](oneshot_receiver<int> in, oneshot_sender<int> out) -> task<> {
                        const auto q = co_await in.receive();
                        co_await sleep_for(1ms);
                        if (q) out.send(*q + 1);
                    },
                    std::move(question.receiver), std::move(reply.sender))
                .discard();
            question.sender.send(1);
            const auto answer = co_await reply.receiver.receive();
            CHECK(answer == 2);
        });
    };
    CHECK(test::cancel_at_every_step(program) > 0);
}
