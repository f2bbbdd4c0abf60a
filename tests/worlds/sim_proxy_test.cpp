// A TCP proxy in a bad world. What one end writes is what the other reads, both ways at once: never other bytes,
// and an end of stream only where there was one, behind all that came before it. What breaks on one side breaks
// on the other. A reader that is slow makes the writer wait, not the proxy grow; and when nobody is there any
// more, the proxy holds nothing.
#include <rondo/sim/simulate.hpp>
#include <rondo/testing/doctest.hpp>
#include <rondo/testing/eventually.hpp>
#include <rondo/io/relay.hpp>

#include "support/bad_world.hpp"
#include "support/net.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>

using namespace std::literals;
using rondo::task;
using rondo::tcp_stream;
using rondo::world;
using test::must;
using test::wrong;

namespace {

/// What may be wrong with the proxy: each of these must be found.
enum class flaw {
    none,
    closes_at_the_first_end,
    breaks_look_like_ends,
    believes_each_end,
    writes_some,
    keeps_all,
    no_limit
};

// --- the proxy ------------------------------------------------------------------------------------

constexpr rondo::duration idle_limit = 30s;  // in which no byte passes, either way

/// Behind what looks like an end: the kernel tells of a reset once, and when the other direction's write was told,
/// a read finds an end. That task has not run yet, maybe; before the check phase it has, and this one is cancelled.
auto a_break_would_be_known() { return rondo::immediate(); }

/// One direction: bytes, then the end of the stream. The next are read when these were written.
task<> pump(tcp_stream& from, tcp_stream& to, rondo::cancel_scope& both, flaw with) {
    for (;;) {
        auto data = co_await from.receive();
        if (data.empty()) break;
        if (with != flaw::no_limit) both.set_deadline(rondo::now() + idle_limit);
        if (with == flaw::writes_some)
            co_await to.write_some(data);
        else
            co_await to.write_all(data);
    }
    if (with != flaw::believes_each_end) co_await a_break_would_be_known();
    if (with == flaw::closes_at_the_first_end)
        both.cancel();
    else
        to.shutdown();
}

/// The same as two tasks with a queue between them, that has no bounds: a flaw.
task<> pump_without_bounds(tcp_stream& from, tcp_stream& to) {
    std::deque<test::bytes> held;
    bool ended = false;
    const auto both = [&](rondo::task_group& group) -> task<> {
        group
            .spawn([&]() -> task<> {
                while (!ended || !held.empty()) {
                    if (held.empty()) {
                        co_await rondo::sleep_for(1ms);
                        continue;
                    }
                    const test::bytes next = std::move(held.front());
                    held.pop_front();
                    co_await to.write_all(next);
                }
                to.shutdown();
            })
            .discard();
        for (;;) {
            auto data = co_await from.receive();
            if (data.empty()) break;
            held.emplace_back(data.begin(), data.end());
        }
        ended = true;
    };
    co_await rondo::with_task_group(both);
}

/// Whoever leaves before both directions have ended leaves with a reset, so that nobody takes it for an end.
class broken_unless_whole {
 public:
    broken_unless_whole(tcp_stream& stream, const bool& whole) : stream_(stream), whole_(whole) {}
    broken_unless_whole(const broken_unless_whole&) = delete;
    broken_unless_whole& operator=(const broken_unless_whole&) = delete;
    ~broken_unless_whole() {
        if (!whole_ && stream_.is_open()) static_cast<void>(stream_.try_reset_on_close());
    }

 private:
    tcp_stream& stream_;
    const bool& whole_;
};

task<tcp_stream> connected_to(rondo::endpoint to) {
    tcp_stream made = co_await tcp_stream::connect(to);
    co_return made;
}

task<> relay(tcp_stream& client, rondo::endpoint upstream, flaw with) {
    bool whole = with == flaw::breaks_look_like_ends;
    const broken_unless_whole to_client(client, whole);
    tcp_stream server = co_await rondo::with_timeout(5s, connected_to, upstream);
    const broken_unless_whole to_server(server, whole);

    const auto relayed = [&](rondo::cancel_scope& both) -> task<> {
        if (with != flaw::no_limit) both.set_deadline(rondo::now() + idle_limit);
        const auto directions = [&](rondo::task_group& group) -> task<> {
            group.spawn(pump, std::ref(server), std::ref(client), std::ref(both), with).discard();
            if (with == flaw::keeps_all)
                co_await pump_without_bounds(client, server);
            else
                co_await pump(client, server, both, with);
        };
        co_await rondo::with_task_group(directions);
    };
    const bool ended = co_await rondo::with_cancel_scope(relayed);
    whole |= ended;
}

constexpr rondo::serve_options twenty{.max_connections = 20};

task<> proxy(rondo::endpoint upstream, flaw with) {
    const auto session = [&](tcp_stream& client) { return relay(client, upstream, with); };
    co_await test::serve_at(80, session, twenty);
}

// --- its two ends, and what they must find -------------------------------------------------------------

/// Begins each connection: how much comes behind it, and how much is to come back. The pattern of the bytes is
/// that of `id` there, of `id` + 1 back.
struct request {
    std::uint32_t id = 0, there = 0, back = 0;
    std::uint32_t at_the_end = 0;  // answered only when all of it, and its end, was read
};

/// It outlives the hosts. An end that finds something wrong says so here: servers log what their sessions throw.
struct records {
    std::uint32_t done = 0;
    std::vector<std::uint32_t> ended;  // the ids that were read to their ends
    const char* fault = nullptr;
    void must(bool holds, const char* what) {
        if (!holds && fault == nullptr) fault = what;
    }
};

task<> write_pattern(tcp_stream& to, std::size_t which, std::size_t size) {
    for (std::size_t from = 0; from < size;) {
        const std::size_t part = std::min<std::size_t>(size - from, 7000);
        const test::bytes next = test::make_pattern(which, from, part);
        co_await to.write_all(next);
        from += part;
    }
    to.shutdown();
}

task<> read_pattern(tcp_stream& from, std::size_t which, std::size_t size, std::shared_ptr<records> all) {
    std::size_t got = 0;
    for (;;) {
        auto data = co_await from.receive();
        if (data.empty()) break;
        all->must(test::is_pattern(data, which, got), "what is read is what was written");
        got += data.size();
    }
    co_await a_break_would_be_known();
    all->must(got == size, "an end comes behind all that was written");
}

task<> upstream_session(tcp_stream& peer, std::shared_ptr<records> all) {
    bool whole = false;
    const broken_unless_whole guard(peer, whole);
    const auto session = [&]() -> task<> {
        request asked;
        const std::size_t n = co_await peer.read_exactly(std::as_writable_bytes(std::span(&asked, 1)));
        all->must(n == sizeof asked, "an end comes behind all that was written");
        if (n != sizeof asked) co_return;
        if (asked.at_the_end != 0) {
            co_await read_pattern(peer, asked.id, asked.there, all);
            all->ended.push_back(asked.id);
            co_await write_pattern(peer, asked.id + 1, asked.back);
        } else {
            const auto both = [&](rondo::task_group& group) -> task<> {
                group.spawn(write_pattern, std::ref(peer), asked.id + 1, asked.back).discard();
                co_await read_pattern(peer, asked.id, asked.there, all);
            };
            co_await rondo::with_task_group(both);
        }
        whole = true;
    };
    co_await rondo::move_on_after(1min, session);
}

task<> upstream(std::shared_ptr<records> all) {
    const auto late = std::chrono::milliseconds(rondo::random_u64() % 1000);
    co_await rondo::sleep_for(late);  // meanwhile it refuses
    const auto session = [&all](tcp_stream& peer) { return upstream_session(peer, all); };
    co_await test::serve_at(81, session, twenty);
}

task<> ask(rondo::endpoint to, request asked, std::shared_ptr<records> all, bool& whole) {
    tcp_stream peer = co_await tcp_stream::connect(to);
    const broken_unless_whole guard(peer, whole);
    const auto both = [&](rondo::task_group& group) -> task<> {
        const auto write = [&]() -> task<> {
            co_await peer.write_all(std::as_bytes(std::span(&asked, 1)));
            co_await write_pattern(peer, asked.id, asked.there);
        };
        group.spawn(write).discard();
        co_await read_pattern(peer, asked.id + 1, asked.back, all);
    };
    co_await rondo::with_task_group(both);
    whole = true;
}

constexpr std::uint32_t requests_each = 3;

/// A program of a host: asks until it was answered, so many times; again after a crash.
task<> client(rondo::endpoint to, std::uint32_t which, std::shared_ptr<records> all) {
    constexpr std::uint32_t sizes[] = {0, 1, 5000, 70'000};
    for (std::uint32_t i = 0; i < requests_each;) {
        request asked{which * 1000 + i * 10, sizes[rondo::random_u64() % 4], sizes[rondo::random_u64() % 4],
                      static_cast<std::uint32_t>(rondo::random_u64() % 2)};
        bool whole = false;
        const auto work = [&] { return ask(to, asked, all, whole); };
        try {
            co_await rondo::move_on_after(30s, work);
        } catch (const std::exception&) {  // a break of one direction, or of both
        }
        if (whole) {
            const bool seen = std::find(all->ended.begin(), all->ended.end(), asked.id) != all->ended.end();
            all->must(asked.at_the_end == 0 || seen, "who is answered at the end has been read to the end");
            ++i;
        } else {
            co_await rondo::sleep_for(200ms);
        }
    }
    ++all->done;
    co_await rondo::sleep_for(rondo::duration::max());
}

task<> bad_world(world& w, flaw with = flaw::none) {
    auto all = std::make_shared<records>();
    auto& middle = w.host("proxy").run(proxy, w.address_of("up", 81), with);
    auto& up = w.host("up").run(upstream, all);
    test::make_scarce(w, middle);
    test::spoil_link(w, "proxy", "up");
    for (std::uint32_t i = 1; i <= 2; ++i) {
        const char* const name = i == 1 ? "one" : "two";
        test::spoil_link(w, "proxy", name);
        w.host(name).run(client, w.address_of("proxy", 80), i, all);
    }
    const test::victims victims{{"one", "two", "up", "proxy"}, {{"proxy", "one"}, {"proxy", "two"}, {"proxy", "up"}}};
    co_await test::disturb(w, victims);

    w.heal_all();
    test::end_scarcity(middle);
    const bool done =
        co_await rondo::testing::eventually([&] { return all->done >= 2 || all->fault != nullptr; }, 10min, 100ms);
    if (all->fault != nullptr) throw wrong(all->fault);
    must(done, "in a whole world all are answered");
    const auto alone = [&] {
        return middle.descriptors() + up.descriptors() == 2 &&
               w.host("one").descriptors() + w.host("two").descriptors() == 0;
    };
    const bool empty = co_await rondo::testing::eventually(alone, 5min, 100ms);
    must(empty, "the proxy holds nothing for those who have gone");
    if (all->fault != nullptr) throw wrong(all->fault);
}

/// A reader that does not read at first.
task<> slow_reader(world& w, flaw with) {
    constexpr std::size_t size = 4'000'000;
    auto all = std::make_shared<records>();
    auto& middle = w.host("proxy").run(proxy, w.address_of("up", 81), with);
    test::spoil_link(w, "proxy", "up");
    test::spoil_link(w, "proxy", "test");
    w.heal_all();  // latencies and bandwidths stay
    w.link("proxy", "test").bandwidth(0);
    w.link("proxy", "up").bandwidth(0);
    std::size_t read = 0;
    const auto reader = [&read](tcp_stream& peer) -> task<> {
        co_await rondo::sleep_for(20s);
        for (;;) {
            auto data = co_await peer.receive();
            if (data.empty()) break;
            must(test::is_pattern(data, 1, read), "what is read is what was written");
            read += data.size();
        }
    };
    w.host("up").run([reader] { return test::serve_at(81, reader, twenty); });
    co_await rondo::sleep_for(1s);
    tcp_stream peer = co_await tcp_stream::connect(w.address_of("proxy", 80));
    const test::bytes sent = test::make_pattern(1, 0, size);
    std::size_t written = 0;
    const auto write = [&]() -> task<> { co_await peer.write_all(sent, &written); };
    co_await rondo::move_on_after(15s, write);
    must(written > 0 && written < size / 4, "the writer waits for the reader");
    co_await peer.write_all(std::span(sent).subspan(written));
    peer.shutdown();
    auto rest = co_await peer.receive();
    must(rest.empty() && read == size, "an end comes behind all that was written");
    rest = {};
    const bool empty = co_await rondo::testing::eventually([&] { return middle.descriptors() == 1; }, 5min, 100ms);
    must(empty, "the proxy holds nothing for those who have gone");
}

}  // namespace

RONDO_SIM_TEST("sim proxy: in a bad world both directions stay what they are, and get done", rondo::seeds(300)) {
    co_await bad_world(w);
}

RONDO_SIM_TEST("sim proxy: the same with ready tasks in any order", test::in_chaos(rondo::seeds(300, 1000))) {
    co_await bad_world(w);
}

RONDO_SIM_TEST("sim proxy: a writer waits for a slow reader", rondo::seeds(20)) { co_await slow_reader(w, flaw::none); }

TEST_CASE("sim proxy: what could be wrong with it is found") {
    if (!test::on_sim()) return;  // the same on every backend
    const std::pair<flaw, const char*> flaws[] = {
        {flaw::closes_at_the_first_end, "all are answered"},
        {flaw::breaks_look_like_ends, "an end comes behind"},
        {flaw::believes_each_end, "an end comes behind"},
        {flaw::writes_some, "what is read is"},
        {flaw::keeps_all, "the writer waits"},
        {flaw::no_limit, "holds nothing"},
    };
    for (const auto& [with, says] : flaws) {
        INFO(says);
        const auto flawed = [planted = with](world& w) {
            return planted == flaw::keeps_all ? slow_reader(w, planted) : bad_world(w, planted);
        };
        const auto found = rondo::explore(rondo::seeds(100, 1), flawed);
        CHECK(found.failed);
        CHECK_MESSAGE(found.message.find(says) != std::string::npos, found.message);
        if (std::getenv("RONDO_PLANTED_BUGS") != nullptr)
            std::printf("proxy, flaw %d: run %lu: %s\n", static_cast<int>(with), static_cast<unsigned long>(found.runs),
                        found.message.c_str());
    }
}
