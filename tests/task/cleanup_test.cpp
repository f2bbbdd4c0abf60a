// with_cleanup: what is done at the end, however it comes.
#include "support/every_step.hpp"

#include <stdexcept>

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;

namespace {

std::string text_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) {
        return e.what();
    }
}

TEST_CASE("with_cleanup: gives the body's value when the cleanup is done") {
    struct local {
        static task<> program() {
            journal j;
            auto body = [&]() -> task<int> {
                co_await sleep_for(1ms);
                j.add("body");
                co_return 42;
            };
            auto tidy = [&]() -> task<> {
                co_await sleep_for(1ms);
                j.add("tidy");
            };
            const int given = co_await with_cleanup(body, tidy, 1h);
            j.add("after");
            CHECK(given == 42);
            CHECK(j.text() == "body tidy after");
        }
    };
    test::run(local::program);
}

TEST_CASE("with_cleanup: an error of the body waits for the cleanup, and is thrown unchanged") {
    struct local {
        static task<> program() {
            bool tidied = false;
            std::string what;
            auto body = []() -> task<int> {
                throw std::runtime_error("body");
                co_return 0;
            };
            auto no_coroutine = []() -> task<int> { throw std::runtime_error("no frame"); };
            auto tidy = [&]() -> task<> {
                co_await sleep_for(1ms);
                tidied = true;
            };
            try {
                co_await with_cleanup(body, tidy, 1h);
            } catch (const std::runtime_error& e) {
                what = e.what();
            }
            CHECK(what == "body");
            CHECK(std::exchange(tidied, false));
            try {
                co_await with_cleanup(no_coroutine, tidy, 1h);
            } catch (const std::runtime_error& e) {
                what = e.what();
            }
            CHECK(what == "no frame");
            CHECK(tidied);
        }
    };
    test::run(local::program);
}

TEST_CASE("with_cleanup: a cancelled body is tidied up after in peace, then `cancelled` goes on") {
    struct local {
        static task<> program() {
            journal j;
            auto work = [&]() -> task<> {
                auto body = []() -> task<> { co_await sleep_for(1h); };
                auto tidy = [&]() -> task<> {
                    co_await sleep_for(2ms);
                    j.add("tidy");
                };
                co_await with_cleanup(body, tidy, 1h);
                j.add("never");
            };
            const bool in_time = co_await move_on_after(1ms, work);
            CHECK_FALSE(in_time);
            CHECK(j.text() == "tidy");
        }
    };
    test::run(local::program);
}

TEST_CASE("with_cleanup: a cancel that comes during the cleanup does not reach it") {
    struct local {
        static task<> program() {
            journal j;
            auto work = [&]() -> task<> {
                auto body = []() -> task<> { co_return; };
                auto tidy = [&]() -> task<> {
                    co_await sleep_for(5ms);
                    j.add("tidy");
                };
                co_await with_cleanup(body, tidy, 1h);
                j.add("value");  // what was completed is not thrown away
                co_await yield();
                j.add("never");
            };
            const bool in_time = co_await move_on_after(1ms, work);
            CHECK_FALSE(in_time);
            CHECK(j.text() == "tidy value");
        }
    };
    test::run(local::program);
}

TEST_CASE("with_cleanup: its own deadline cuts the cleanup short, and that is reported") {
    struct local {
        static task<> program() {
            bool cut = false, timed_out = false;
            auto tidy = [&]() -> task<> {
                try {
                    co_await sleep_for(1h);
                } catch (const cancelled&) {
                    cut = true;
                    throw;
                }
            };
            auto body = []() -> task<int> { co_return 1; };
            const time_point before = now();
            try {
                co_await with_cleanup(body, tidy, 2ms);
            } catch (const timeout_error&) {
                timed_out = true;
            }
            CHECK(cut);
            CHECK(timed_out);
            CHECK(now() - before >= 2ms);
            CHECK(now() - before < 1h);

            timed_out = false;
            auto forever = []() -> task<> { co_await sleep_for(1h); };
            try {
                co_await move_on_after(1ms, [&]() -> task<> { co_await with_cleanup(forever, tidy, 2ms); });
            } catch (const timeout_error&) {
                timed_out = true;  // `cancelled` is no error: this one is thrown alone
            }
            CHECK(timed_out);
        }
    };
    test::run(local::program);
}

TEST_CASE("with_cleanup: the limit counts from the start of the cleanup, not of the body") {
    struct local {
        static task<> program() {
            auto body = []() -> task<> { co_await sleep_for(10ms); };
            auto tidy = []() -> task<> { co_await sleep_for(2ms); };
            co_await with_cleanup(body, tidy, 9ms);
        }
    };
    test::run(local::program);
}

TEST_CASE("with_cleanup: errors of both are thrown together, the body's first") {
    struct local {
        static task<> program() {
            auto body = []() -> task<> {
                throw std::runtime_error("body");
                co_return;
            };
            auto tidy = []() -> task<> {
                co_await yield();
                throw std::runtime_error("tidy");
            };
            auto slow = []() -> task<> { co_await sleep_for(1h); };
            bool both = false;
            try {
                co_await with_cleanup(body, tidy, 1h);
            } catch (const exception_group& failed) {
                REQUIRE(failed.errors().size() == 2);
                CHECK(text_of(failed.errors()[0]) == "body");
                CHECK(text_of(failed.errors()[1]) == "tidy");
                both = true;
            }
            CHECK(std::exchange(both, false));
            try {
                co_await with_cleanup(body, slow, 1ms);
            } catch (const exception_group& failed) {
                REQUIRE(failed.errors().size() == 2);
                CHECK(text_of(failed.errors()[0]) == "body");
                CHECK_THROWS_AS(std::rethrow_exception(failed.errors()[1]), timeout_error);
                both = true;
            }
            CHECK(both);
            auto fine = []() -> task<int> { co_return 1; };
            std::string alone;
            try {
                co_await with_cleanup(fine, tidy, 1h);
            } catch (const std::runtime_error& e) {
                alone = e.what();
            }
            CHECK(alone == "tidy");
        }
    };
    test::run(local::program);
}

TEST_CASE("with_cleanup: if the cleanup cannot be made, the body does not run") {
    struct local {
        static task<> program() {
            bool ran = false;
            std::string what;
            auto body = [&]() -> task<> {
                ran = true;
                co_return;
            };
            auto tidy = []() -> task<> { throw std::runtime_error("no frame"); };
            try {
                co_await with_cleanup(body, tidy, 1h);
            } catch (const std::runtime_error& e) {
                what = e.what();
            }
            CHECK(what == "no frame");
            CHECK_FALSE(ran);
        }
    };
    test::run(local::program);
}

TEST_CASE("with_cleanup: nested, the inner cleanup runs first; groups may be used in both") {
    struct local {
        static task<> program() {
            journal j;
            auto note_later = [&j](const char* what) -> task<> {
                co_await sleep_for(1ms);
                j.add(what);
            };
            auto inner = [&]() -> task<> {
                auto body = [&]() -> task<> { co_await note_later("body"); };
                auto tidy = [&]() -> task<> {
                    co_await with_task_group([&](task_group& group) -> task<> {
                        group.spawn(note_later, "inner");
                        co_return;
                    });
                };
                co_await with_cleanup(body, tidy, 1h);
            };
            auto outer = [&]() -> task<> { co_await note_later("outer"); };
            co_await with_cleanup(inner, outer, 1h);
            CHECK(j.text() == "body inner outer");
        }
    };
    test::run(local::program);
}

TEST_CASE("with_cleanup: cancelled at every step, what was opened is closed") {
    static int open = 0;
    struct local {
        static task<> program() {
            auto body = []() -> task<> {
                ++open;
                co_await immediate();
                co_await immediate();
            };
            auto tidy = []() -> task<> {
                co_await immediate();
                co_await yield();
                open = 0;
            };
            co_await with_cleanup(body, tidy, 1h);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) >= 3);
    CHECK(open == 0);
}

}  // namespace
