#include "real.hpp"

#include <chrono>
#include <cstdio>
#include <deque>

using namespace std::chrono_literals;
using rondo::task;
using rondo::tcp_listener;

namespace replicated {
namespace {

constexpr word size = 3;

struct journal final : witness {
    std::vector<entry> applied_by[size + 1];
    rondo::event news;

    void votes(word, word, word) override {}
    void leads(word node, word term) override { std::printf("node %lu leads term %lu\n", node, term); }
    void wrote(word, std::size_t, const entry&, word) override {}
    void applied(word node, std::size_t, const entry& e, bool again) override {
        if (e.client == 0 || again) return;
        applied_by[node].push_back(e);
        news.set();
        news.clear();
    }
    bool complete(std::size_t entries) const {
        for (word n = 1; n <= size; ++n)
            if (applied_by[n].size() < entries) return false;
        return true;
    }
};

}  // namespace

task<bool> real_run(word requests_each) {
    const settings how{.heartbeat = 20ms, .answer_within = 500ms, .election = 150ms};
    journal seen;
    endpoints nodes;
    std::deque<tcp_listener> listeners;
    std::deque<storage> disks;
    std::deque<node> all;
    for (word id = 1; id <= size; ++id)
        nodes.push_back(listeners.emplace_back(tcp_listener::bind("127.0.0.1", 0)).local());
    for (word id = 1; id <= size; ++id) all.emplace_back(id, nodes, how, disks.emplace_back(1ms), seen);
    const auto client = [&](word id) -> task<> {
        for (word request = 1; request <= requests_each; ++request)
            co_await append(nodes, id, request, id * 1000 + request, 1s);
    };
    const rondo::time_point began = rondo::now();
    const auto cluster = [&](rondo::task_group& group) -> task<> {
        for (word id = 1; id <= size; ++id)
            group.spawn_background([&, id] { return all[id - 1].run(listeners[id - 1]); }).discard();
        for (word id = 1; id <= size; ++id) group.spawn(client, id).discard();
        while (!seen.complete(size * requests_each)) co_await seen.news.wait();
    };
    co_await rondo::with_task_group(cluster);

    bool same = true;
    for (word id = 2; id <= size; ++id) same = same && seen.applied_by[id] == seen.applied_by[1];
    for (const entry& e : seen.applied_by[1])
        std::printf("client %lu, request %lu: %lu\n", e.client, e.request, e.value);
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(rondo::now() - began);
    std::printf("%zu entries, %s on %lu nodes, after %ld ms on %s\n", seen.applied_by[1].size(),
                same ? "the same" : "NOT the same", size, static_cast<long>(took.count()),
                rondo::name_of(rondo::this_loop().kind()));
    co_return same;
}

}  // namespace replicated
