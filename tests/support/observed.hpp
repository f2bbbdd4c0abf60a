// Loops at work that are looked at: who looks, and what there is to see.
#pragma once

#include "../../lib/loop/engine.hpp"
#include "support/net.hpp"

#include <rondo/sim/simulate.hpp>
#include <rondo/sim/world_recorder.hpp>

#include <algorithm>
#include <map>
#include <set>

namespace test::observed {

using namespace rondo;
using namespace std::chrono_literals;

template <class F>
void run_under(observer& by, F&& fn) {
    loop_options options;
    options.observer = &by;
    rondo::run(options, std::forward<F>(fn));
}

/// A timer wakes the main task, task 1, which wakes task 2 by an event.
inline void a_task_wakes_another(observer& seen) {
    event happened;
    run_under(seen, [&]() -> task<> {
        auto child = spawn([&]() -> task<> { co_await happened.wait(); });
        co_await sleep_for(1us);
        happened.set();
        co_await child;
    });
}

/// Whether what it is told fits together: a task is made ready once before each of its steps.
struct checker {
    void ready(std::uint32_t task) {
        ++readied;
        wrong += !is_ready.insert(task).second;
    }
    void step(std::uint32_t task) {
        wrong += in_step;
        in_step = true;
        if (task == 0) return;
        ++steps;
        wrong += is_ready.erase(task) != 1;
    }
    void step_end() {
        wrong += !in_step;
        in_step = false;
    }
    std::set<std::uint32_t> is_ready;
    bool in_step = false;
    std::uint64_t readied = 0;
    std::uint64_t steps = 0;
    std::uint64_t ended = 0;
    std::uint64_t wrong = 0;
};

struct checking_observer final : observer {
    void on(const loop_event& e) noexcept override {
        switch (e.kind) {
            case loop_event_kind::spawned:
            case loop_event_kind::ready: return its.ready(e.task.number());
            case loop_event_kind::step: return its.step(e.task.number());
            case loop_event_kind::step_end: return its.step_end();
            case loop_event_kind::ended:
                ++its.ended;
                its.is_ready.erase(e.task.number());  // cancelled before its first step
                return;
            default: return;
        }
    }
    checker its;
};

/// Every sort of wake-up there is: yields, ticks, microtasks, timers, immediates, I/O, groups, cancellation.
inline task<> something_of_everything() {
    auto listener = test::listen();
    auto body = [&](task_group& group) -> task<> {
        group.spawn([&]() -> task<> {
            auto peer = co_await listener.accept();
            for (;;) {
                auto data = co_await peer.receive();
                if (data.empty()) co_return;
                co_await peer.write_all(data);
            }
        });
        for (int i = 0; i < 20; ++i)
            group.spawn(
                [](int n) -> task<> {
                    for (int k = 0; k < n; ++k) {
                        co_await yield();
                        co_await next_tick();
                        co_await microtask();
                        co_await sleep_for(1us);
                        co_await immediate();
                    }
                },
                i);
        auto late = group.spawn([]() -> task<> { co_await sleep_for(1h); });
        auto never_started = group.spawn([]() -> task<> { co_await yield(); });
        never_started.cancel();
        this_loop().set_immediate([] { this_loop().queue_microtask([] {}); });
        auto peer = co_await tcp_stream::connect(listener.local());
        for (int i = 0; i < 20; ++i) {
            char answer[4];
            co_await peer.write_all("ping");
            const std::size_t size = co_await peer.read_exactly(answer);
            CHECK(size == 4);
        }
        co_await peer.close();
        late.cancel();
    };
    co_await with_task_group(body);
}

inline task<> child_that_yields() { co_await yield(); }

inline std::vector<recorded_event> all_of(const record& seen) {
    std::vector<recorded_event> all;
    seen.for_each([&](const recorded_event& e) { all.push_back(e); });
    return all;
}

using kind = recorded_event::kind;

/// Two hosts, a lost packet, a partition, a crash. Gives the world's hash.
inline std::uint64_t eventful_world(rondo::world_observer* by) {
    world_options options;
    options.observer = by;
    world w(options);
    bool lose = true;
    const auto rule = w.rule([&](const packet_info& p) {
        return p.what == packet_info::kind::data && std::exchange(lose, false) ? rondo::verdict::drop()
                                                                               : rondo::verdict::pass();
    });
    w.host("srv").run([]() -> task<> {
        auto listener = tcp_listener::bind("0.0.0.0", 80);
        co_await rondo::serve(listener, [](tcp_stream& peer) -> task<> {
            for (;;) {
                auto data = co_await peer.receive();
                if (data.empty()) co_return;
                co_await peer.write_all(data);
            }
        });
    });
    w.run(
        [](world& its) -> task<> {
            name_task("<scenario>");
            {
                auto peer = co_await tcp_stream::connect(its.address_of("srv", 80));
                co_await peer.write_all("ping");
                char answer[4];
                const std::size_t size = co_await peer.read_exactly(answer);
                CHECK(size == 4);
            }
            {
                const auto cut = its.partition({"test"}, {"srv"});
            }
            its.host("srv").crash();
            its.host("srv").restart();
            co_await sleep_for(1s);
        },
        std::ref(w));
    return w.hash();
}

/// A series of the text format, its value, and its labels unescaped.
struct series {
    std::string name;
    std::map<std::string, std::string> labels;
    double value;
};

/// As strict as promtool: HELP and TYPE once, before the series of their name, which follow each other.
inline std::vector<series> parsed(const std::string& text) {
    std::vector<series> all;
    std::map<std::string, std::string> types;
    std::string current;
    REQUIRE(text.ends_with('\n'));
    std::size_t at = 0;
    const auto name = [&] {
        const std::size_t from = at;
        while (at < text.size() &&
               (std::isalnum(static_cast<unsigned char>(text[at])) || text[at] == '_' || text[at] == ':'))
            ++at;
        REQUIRE(at > from);
        REQUIRE_FALSE(std::isdigit(static_cast<unsigned char>(text[from])));
        return text.substr(from, at - from);
    };
    while (at < text.size()) {
        if (text.compare(at, 7, "# HELP ") == 0) {
            at += 7;
            current = name();
            REQUIRE(types.count(current) == 0);
            at = text.find('\n', at) + 1;
            REQUIRE(text.compare(at, 7, "# TYPE ") == 0);
            at += 7;
            REQUIRE(name() == current);
            ++at;
            types[current] = name();
            REQUIRE(text[at++] == '\n');
            continue;
        }
        series s;
        s.name = name();
        const std::string suffix = s.name.substr(std::min(s.name.size(), current.size()));
        REQUIRE(s.name.starts_with(current));
        REQUIRE((suffix.empty() ||
                 (types[current] == "histogram" && (suffix == "_bucket" || suffix == "_sum" || suffix == "_count"))));
        if (text[at] == '{') {
            do {
                ++at;
                const std::string key = name();
                REQUIRE(text.compare(at, 2, "=\"") == 0);
                std::string value;
                for (at += 2; text[at] != '"'; ++at) {
                    REQUIRE(text[at] != '\n');
                    if (text[at] == '\\') {
                        ++at;
                        REQUIRE((text[at] == 'n' || text[at] == '\\' || text[at] == '"'));
                        value += text[at] == 'n' ? '\n' : text[at];
                    } else {
                        value += text[at];
                    }
                }
                REQUIRE(s.labels.emplace(key, value).second);
                ++at;
            } while (text[at] == ',');
            REQUIRE(text[at++] == '}');
        }
        REQUIRE(text[at++] == ' ');
        std::size_t used = 0;
        const std::string value = text.substr(at, text.find('\n', at) - at);
        s.value = std::stod(value, &used);
        REQUIRE(used == value.size());
        at += used + 1;
        all.push_back(s);
    }
    return all;
}

inline const series* find(const std::vector<series>& all, const std::string& name) {
    for (const series& s : all)
        if (s.name == name) return &s;
    return nullptr;
}

/// Buckets rise up to the count.
inline void check_histogram(const std::vector<series>& all, const std::string& name) {
    double bound = 0, below = 0;
    std::size_t buckets = 0;
    for (const series& s : all) {
        if (s.name != name + "_bucket") continue;
        ++buckets;
        CHECK(s.value >= below);
        below = s.value;
        const double le = s.labels.at("le") == "+Inf" ? 1e300 : std::stod(s.labels.at("le"));
        CHECK(le > bound);
        bound = le;
    }
    CHECK(buckets == 15);
    CHECK(bound == 1e300);
    REQUIRE(find(all, name + "_count") != nullptr);
    CHECK(find(all, name + "_count")->value == below);
    CHECK(find(all, name + "_sum") != nullptr);
}

}  // namespace test::observed
