// The coroutine shapes that docs/compilers.md calls safe, each with objects that count themselves: a
// compiler that copies, loses or doubles one fails here.
#include "support/test.hpp"

#include <map>

using namespace rondo;

namespace {

int live = 0;

struct tracked {
    tracked() { ++live; }
    explicit tracked(int n) : value(n) { ++live; }
    tracked(const tracked& o) : value(o.value) { ++live; }
    tracked(tracked&& o) noexcept : value(o.value) { ++live; }
    tracked& operator=(const tracked&) = default;
    ~tracked() {
        CHECK(self == this);  // moved by the compiler behind our back otherwise
        --live;
    }
    int value = 0;
    tracked* self = this;
};

task<int> number(int n) {
    co_await yield();
    co_return n;
}
task<tracked> object(int n) {
    co_await yield();
    co_return tracked(n);
}
task<int> take(tracked t) {
    co_await yield();
    co_return t.value;
}
task<int> take_reference(const tracked& t) {
    co_await yield();
    co_return t.value;
}
task<std::pair<int, tracked>> both(int n) { co_return std::pair<int, tracked>(n, tracked(n)); }
task<std::vector<int>> numbers() { co_return std::vector<int>{1, 2, 3}; }

template <class F>
void check_shape(F shape) {
    const int before = live;
    test::run(shape);
    CHECK(live == before);
}

TEST_CASE("compiler: temporaries with constructors in an awaiting statement live once") {
    check_shape([]() -> task<> {
        const int a = co_await take(tracked(3));
        CHECK(a == 3);
        const int b = co_await take_reference(tracked(4));
        CHECK(b == 4);
    });
}

TEST_CASE("compiler: results that are objects arrive once") {
    check_shape([]() -> task<> {
        const tracked t = co_await object(5);
        CHECK(t.value == 5);
        auto [n, u] = co_await both(6);
        CHECK(n == 6);
        CHECK(u.value == 6);
    });
}

TEST_CASE("compiler: awaits in arguments, sums and initialisers of conditions") {
    check_shape([]() -> task<> {
        int sum = co_await number(1) + co_await number(2);
        sum += co_await number(3);
        if (const int n = co_await number(4); n == 4) sum += n;
        for (const int n : co_await numbers()) sum += n;
        CHECK(sum == 16);
    });
}

TEST_CASE("compiler: exceptions thrown across awaits destroy everything once") {
    check_shape([]() -> task<> {
        const auto bad = [](tracked t) -> task<int> {
            co_await yield();
            throw tracked(t.value);
        };
        int caught = 0;
        try {
            const tracked local(1);
            co_await bad(tracked(7));
        } catch (const tracked& t) {
            caught = t.value;
        }
        CHECK(caught == 7);
    });
}

TEST_CASE("compiler: lambdas that are coroutines, named first, keep their captures") {
    check_shape([]() -> task<> {
        const tracked t(8);
        const auto named = [t]() -> task<int> {
            co_await yield();
            co_return t.value;
        };
        const int n = co_await named();
        CHECK(n == 8);
        const auto by_reference = [&t](int more) -> task<int> { co_return t.value + more; };
        const int m = co_await by_reference(1);
        CHECK(m == 9);
    });
}

TEST_CASE("compiler: a chain cancelled while suspended destroys its temporaries once") {
    const int before = live;
    test::run([]() -> task<> {
        auto h = spawn([]() -> task<int> {
            const tracked outer(1);
            // Named, not called where it stands: g++ 12 awaits the wrong task for
            // `co_await a() + co_await [] { ... }()`.
            const auto sleeper = [](tracked inner) -> task<int> {
                co_await sleep_for(std::chrono::hours(1));
                co_return inner.value;
            };
            co_return co_await take(tracked(2)) + co_await sleeper(tracked(3));
        });
        co_await yield();
        co_await yield();
        h.cancel();
        const auto ended = co_await attempt(h);
        CHECK(!ended);
    });
    CHECK(live == before);
}

// What must not compile, does not.
struct owner_of_memory {
    std::string text;
    task<> operator()() const { co_return; }
};
#if RONDO_GCC12
static_assert(!detail::safe_callable<owner_of_memory>, "a temporary closure with captures");
#endif
static_assert(detail::safe_callable<owner_of_memory&>, "a named one");
static_assert(detail::safe_callable<task<> (*)()>, "a function");
static_assert(!std::is_copy_constructible_v<task<int>>);
static_assert(!std::is_convertible_v<task<int>, task<long>>);
static_assert(std::is_trivially_copyable_v<serve_options>);
static_assert(std::is_trivially_copyable_v<listen_options>);
static_assert(alignof(tracked) <= 16);

}  // namespace
