// A backend round another one: whatever is inside, a program does not notice, and all that crosses is seen.
#include "support/net.hpp"

#include <rondo/loop/forwarding_backend.hpp>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

struct counts {
    int submitted = 0;
    int at_once = 0;
    int reported = 0;
    int calls = 0;
    int looks_at_the_clock = 0;
};

/// What a recording backend would do: it sees each answer of the world before the program does.
class counting_backend final : public forwarding_backend {
 public:
    counting_backend(std::unique_ptr<backend> inside, counts& seen) noexcept
        : forwarding_backend(std::move(inside)), seen_(seen) {}

    time_point now() noexcept override {
        ++seen_.looks_at_the_clock;
        return forwarding_backend::now();
    }
    bool submit(io_op& what) noexcept override {
        ++seen_.submitted;
        const bool finished = forwarding_backend::submit(what);
        if (finished) ++seen_.at_once;
        return finished;
    }
    int control(sys_op& what) noexcept override {
        ++seen_.calls;
        return forwarding_backend::control(what);
    }
    bool wait(time_point until, completions& done) noexcept override {
        const bool goes_on = forwarding_backend::wait(until, done);
        seen_.reported += static_cast<int>(done.size());
        return goes_on;
    }

 private:
    counts& seen_;
};

/// Puts one round the backend that the loop would have had.
struct counted : backend_factory {
    std::unique_ptr<backend> make(const backend_options& options, std::string& why) override {
        return std::make_unique<counting_backend>(choose_backend(backend_kind::automatic, options, why), seen);
    }
    counts seen;
};

TEST_CASE("forwarding_backend: a TCP echo runs, whatever backend is inside, and all of it is seen") {
    counted factory;
    loop_options options;
    options.factory = &factory;
    loop l(options);
    CHECK(l.kind() == test::backend_under_test());
    run_on(l, []() -> task<> {
        test::connection c = co_await test::connected();
        auto echo = spawn(test::echo_session, std::ref(c.server));
        const test::bytes sent = test::make_pattern(1, 0, 100'000);
        auto back = spawn(
            [](tcp_stream& from, std::size_t size) -> task<test::bytes> {
                test::bytes all(size);
                co_await from.read_exactly(all);
                co_return all;
            },
            std::ref(c.client), sent.size());
        co_await c.client.write_all(sent);
        const test::bytes heard = co_await back;
        CHECK(heard == sent);
        co_await c.client.close();
        co_await echo;
    });
    CHECK(factory.seen.submitted > 10);
    CHECK(factory.seen.submitted == factory.seen.at_once + factory.seen.reported);
    CHECK(factory.seen.calls > 3);
    CHECK(factory.seen.looks_at_the_clock > 0);
}

TEST_CASE("forwarding_backend: a wait inside is cancelled, and what is dropped is closed") {
    counted factory;
    loop_options options;
    options.factory = &factory;
    loop l(options);
    run_on(l, []() -> task<> {
        test::connection c = co_await test::connected();
        const auto late = co_await attempt(with_timeout(1ms, [&]() -> task<> { co_await c.client.receive(); }));
        CHECK(late.error() == std::errc::timed_out);
        auto reader = spawn([](tcp_stream from) -> task<> { co_await from.receive(); }, std::move(c.client));
        co_await yield();
        reader.cancel();
        const auto ended = co_await attempt(reader);
        CHECK(ended.error() == std::errc::operation_canceled);
    });
    CHECK(test::simulated_descriptors(l) == 0);
}

TEST_CASE("backend_factory: that none is to be had is an error of the loop's") {
    struct : backend_factory {
        std::unique_ptr<backend> make(const backend_options&, std::string& why) override {
            why = "it rains";
            return nullptr;
        }
    } none;
    loop_options options;
    options.factory = &none;
    std::string told;
    try {
        loop l(options);
    } catch (const io_error& e) {
        told = e.what();
    }
    CHECK(told.find("it rains") != std::string::npos);
    options.backend.receive_buffer_size = 1;
    CHECK_THROWS_AS(loop{options}, io_error);
}

}  // namespace
