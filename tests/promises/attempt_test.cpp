// attempt() says of a failure what awaiting alone would have thrown: kind, operation and subject.
#include <rondo/actor/supervisor.hpp>

#include "support/net.hpp"

#include <cerrno>
#include <typeinfo>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

/// Kind and text of the error that `f` throws.
template <class F>
std::string thrown_by(F f) {
    try {
        f();
    } catch (const std::exception& e) {
        return std::string(typeid(e).name()) + ": " + e.what();
    }
    return "nothing";
}

/// Awaits what `make()` gives, which fails, in both spellings, and compares; gives what the failure says.
template <class Make>
task<std::string> said_by_both(Make make) {
    std::exception_ptr error;
    try {
        static_cast<void>(co_await make());
    } catch (const std::exception&) {
        error = std::current_exception();
    }
    CHECK(error);
    auto tried = co_await attempt(make());
    CHECK_FALSE(tried.has_value());
    if (!error || tried.has_value()) co_return "no error";
    const std::string thrown = thrown_by([&] { std::rethrow_exception(error); });
    CHECK(thrown_by([&] { static_cast<void>(tried.value()); }) == thrown);
    CHECK(thrown_by([&] { tried.failure().raise(); }) == thrown);
    CHECK(thrown_by([&] { std::rethrow_exception(tried.failure().error()); }) == thrown);
    const std::string message = tried.failure().message();
    CHECK(thrown.ends_with(": " + message));
    co_return message;
}

TEST_CASE("attempt: of a connection that is refused, the failure names the operation and the address") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        const endpoint nobody = listener.local();
        co_await listener.close();
        const auto make = [&] { return tcp_stream::connect(nobody); };
        const std::string said = co_await said_by_both(make);
        CHECK(said == "connect " + nobody.to_string() + ": Connection refused");
    });
}

TEST_CASE("attempt: of a stream, the failure names the operation and the peer") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        tcp_stream server = co_await listener.accept();
        const std::string peer = client.peer().to_string();
        client.shutdown();
        const auto write = [&] { return client.write_all("late"); };
        const std::string written = co_await said_by_both(write);
        CHECK(written == "write " + peer + ": Broken pipe");
        co_await client.close();
        const auto read = [&] { return client.receive(); };
        const std::string received = co_await said_by_both(read);
        CHECK(received == "receive: Bad file descriptor");
        const auto foreign = [] { return wait_readable(-1); };
        const std::string ready = co_await said_by_both(foreign);
        CHECK(ready == "wait_readable: Bad file descriptor");
    });
}

TEST_CASE("attempt: of what tasks wait for from each other, the failure says the same, too") {
    test::run([]() -> task<> {
        channel<int> numbers(1);
        numbers.close();
        int number = 1;
        const auto send = [&] { return numbers.send(std::move(number)); };
        const std::string sent = co_await said_by_both(send);
        CHECK(sent == "send a closed channel: Broken pipe");

        queue<int> work(1);
        work.shutdown();
        const auto put = [&] { return work.put(std::move(number)); };
        const std::string was_put = co_await said_by_both(put);
        CHECK(was_put.ends_with("which is shut down: Broken pipe"));

        semaphore permits(1, "permits", 1);
        const auto acquire = [&] { return permits.acquire(2); };
        const std::string acquired = co_await said_by_both(acquire);
        CHECK(acquired.ends_with("which never has so many: Invalid argument"));

        mutex lock("accounts");
        const auto held = co_await lock.lock();
        const auto again = [&] { return lock.lock(); };
        const std::string locked = co_await said_by_both(again);
        CHECK(locked.starts_with("lock mutex 'accounts'"));
    });
}

task<> refused(int error) {
    co_await yield();
    throw io_error(errno_code(error), "open", "/etc/rondo");
}

TEST_CASE("attempt: of tasks, handles and limits, the failure holds their error") {
    test::run([]() -> task<> {
        const auto of_a_task = [] { return refused(ENOENT); };
        const std::string task_said = co_await said_by_both(of_a_task);
        CHECK(task_said == "open /etc/rondo: No such file or directory");

        const auto limited = [] { return with_timeout(1h, refused, ENOENT); };
        const std::string limited_said = co_await said_by_both(limited);
        CHECK(limited_said == task_said);

        const auto too_late = [] { return with_timeout(1ms, sleep_for(1h)); };
        const std::string late_said = co_await said_by_both(too_late);
        CHECK(late_said.starts_with("timed out after 0.001 s (with_timeout at attempt_test.cpp:"));
        const auto body_too_late = [] { return with_timeout(1ms, []() -> task<> { co_await sleep_for(1h); }); };
        const std::string body_said = co_await said_by_both(body_too_late);
        CHECK(body_said.starts_with("timed out after 0.001 s (with_timeout at attempt_test.cpp:"));

        auto child = spawn(refused, ENOENT);
        const auto failed = co_await attempt(child);
        CHECK(failed.failure().message() == task_said);
        auto sleeper = spawn([]() -> task<> { co_await sleep_for(1h); });
        sleeper.cancel();
        const auto cancelled_one = co_await attempt(sleeper);
        CHECK(cancelled_one.failure().message().starts_with("await task "));
    });
}

TEST_CASE("attempt: a failure goes on to another result with all that is known of it") {
    struct local {
        static task<result<int>> size_of() {
            auto opened = co_await attempt(refused(EACCES));
            if (!opened) co_return opened.failure();
            co_return 1;
        }
        static task<> body() {
            const auto size = co_await size_of();
            CHECK(size.error() == std::errc::permission_denied);
            CHECK(size.failure().message() == "open /etc/rondo: Permission denied");
            CHECK_THROWS_AS(static_cast<void>(size.value()), io_error);
        }
    };
    test::run(local::body);
}

/// A wait of a program's own, which fails at once.
class broken_wait : public basic_wait<broken_wait> {
 public:
    static constexpr const char* name = "the dentist";
    bool start() noexcept {
        result = -EBUSY;
        return false;
    }
    void cancel() noexcept {}
};
class broken_wait_for_a_value : public basic_wait<broken_wait_for_a_value> {
 public:
    static constexpr const char* name = "a number";
    bool start() noexcept { return false; }
    void cancel() noexcept {}
    rondo::result<int> finish() const { return errno_code(EBUSY); }
};

TEST_CASE("attempt: of a program's own wait, the failure has its name") {
    test::run([]() -> task<> {
        const auto plain = [] { return broken_wait(); };
        const std::string said = co_await said_by_both(plain);
        CHECK(said == "the dentist: Device or resource busy");
        const auto valued = [] { return broken_wait_for_a_value(); };
        const std::string of_value = co_await said_by_both(valued);
        CHECK(of_value == "a number: Device or resource busy");
    });
}

TEST_CASE("attempt: an arm of select_one keeps it") {
    test::run([]() -> task<> {
        channel<int> numbers(1);
        numbers.close();
        int number = 1;
        const auto send = [&] { return select_one(numbers.send(std::move(number)), sleep_for(1h)); };
        const std::string sent = co_await said_by_both(send);
        CHECK(sent == "send a closed channel: Broken pipe");
    });
}

TEST_CASE("attempt: of mailboxes and supervisors, the failure says the same, too") {
    struct ping : request<int> {};
    struct local {
        static task<> answers(mailbox<ping>& box) {
            while (auto got = co_await box.receive()) got->reply(1);
        }
        static task<> works() { co_await sleep_for(1h); }
        static task<> body() {
            const auto actor = spawn_actor({.name = "echo"}, answers);
            actor.kill();
            co_await actor.ended();
            const auto ask = [&] { return actor.ask(); };
            const std::string asked = co_await said_by_both(ask);
            CHECK(asked == "ask echo: No such process");
            const auto supervising = [](supervisor& workers) -> task<> {
                const child_handle worker = co_await workers.start({.name = "w"}, works);
                const auto forget = [&] { return workers.delete_child(worker); };
                const std::string forgotten = co_await said_by_both(forget);
                CHECK(forgotten == "delete a child w, which is not terminated: Device or resource busy");
            };
            co_await with_supervisor(supervising);
        }
    };
    test::run(local::body);
}

TEST_CASE("result: a failure may be just a code") {
    const result<int> r = std::errc::no_link;
    CHECK(r.failure().is_just_code());
    CHECK(r.failure().message() == std::make_error_code(std::errc::no_link).message());
    CHECK_THROWS_AS(static_cast<void>(r.value()), std::system_error);
    result<std::string> moved = std::string("text");
    moved = result<std::string>(failure(errno_code(ENOENT)));
    CHECK(moved.error() == std::errc::no_such_file_or_directory);
    moved = result<std::string>(std::string("again"));
    CHECK(*moved == "again");
    CHECK_FALSE(moved.failure().code());
}

}  // namespace
