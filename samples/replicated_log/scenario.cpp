#define RONDO_SIM 1
#include "scenario.hpp"

#include <rondo/sim/buggify.hpp>

#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <utility>

using namespace std::chrono_literals;
using rondo::task;
using rondo::tcp_listener;
using rondo::world;

namespace replicated {
namespace {

constexpr std::size_t size = 3;
constexpr const char* names[size] = {"node 1", "node 2", "node 3"};
constexpr std::uint16_t port = 7000;

/// All there is to know about the cluster, as nobody inside can know it. It outlives the hosts.
class cluster final : public witness {
 public:
    cluster(world& w, plan what) : world_(w), tell_(what.tell) { how.with = what.with; }

    settings how{.heartbeat = 100ms, .answer_within = 1s, .election = 1500ms};
    endpoints nodes;
    std::deque<storage> disks;
    word clients_done = 0;
    bool whole = false;  // no faults any more

    void starts(word node) {
        at_[node] = 0;
        seen_[node].clear();
        disks[node - 1].recover();
    }
    void votes(word node, word term, word candidate) override {
        say("%s votes for %s in term %lu", names[node - 1], names[candidate - 1], term);
        may_crash(node);
    }
    void leads(word node, word term) override {
        say("%s leads term %lu", names[node - 1], term);
        RONDO_ALWAYS(leader_of_.try_emplace(term, node).first->second == node, "one leader for a term");
        may_crash(node);
    }
    /// By induction: two logs that have the same entry have the same before it.
    void wrote(word node, std::size_t index, const entry& e, word term_before) override {
        const auto known = written_.try_emplace({index, e.term}, e, term_before).first->second;
        RONDO_ALWAYS(known == std::pair(e, term_before), "logs that agree on an entry agree on all before it");
        may_crash(node);
    }
    void applied(word node, std::size_t index, const entry& e, bool again) override {
        if (e.client == 0)
            say("%s applies %lu: term %lu begins", names[node - 1], index, e.term);
        else
            say("%s applies %lu: request %lu of client %lu%s", names[node - 1], index, e.request, e.client,
                again ? ", again" : "");
        RONDO_ALWAYS(index == ++at_[node], "entries are applied in their order");
        RONDO_ALWAYS(agreed_.try_emplace(index, e).first->second == e,
                     "what is committed is the same for all, for ever");
        if (e.client == 0 || again) return;
        word& latest = seen_[node][e.client];
        RONDO_ALWAYS(e.request == latest + 1, "each request is applied once, in the order of its client");
        latest = e.request;
        done_.insert({e.client, e.request});
    }
    void acknowledged(word client, word request) {
        say("client %lu: request %lu is acknowledged", client, request);
        RONDO_ALWAYS(done_.contains({client, request}), "what is acknowledged is committed");
    }
    /// Whether each node has applied all that was acknowledged.
    bool all_have_all() const {
        for (word n = 1; n <= size; ++n)
            for (word c = 1; c <= clients; ++c)
                if (!seen_[n].contains(c) || seen_[n].at(c) != appends_each) return false;
        return true;
    }
    template <class... Args>
    void say(const char* format, Args... args) const {
        if (!tell_) return;
        std::printf("%9.3f s  ", std::chrono::duration<double>(world_.now().time_since_epoch()).count());
        std::printf(format, args...);
        std::putchar('\n');
    }

 private:
    /// Where it hurts: what the node has just done is not on its disk, and nobody knows of it.
    void may_crash(word node) {
        if (whole || world_.choose(30) != 29) return;
        say("%s crashes at that", names[node - 1]);
        world_.host(names[node - 1]).crash();
    }

    world& world_;
    const bool tell_;
    std::map<word, word> leader_of_;                                            // by term
    std::map<std::pair<std::size_t, word>, std::pair<entry, word>> written_;     // by index and term
    std::map<std::size_t, entry> agreed_;                                        // by index
    std::size_t at_[size + 1] = {};                                              // what each node has applied ...
    std::map<word, word> seen_[size + 1];                                        // ... of each client
    std::set<std::pair<word, word>> done_;
};

task<> node_program(std::shared_ptr<cluster> all, word id) {
    all->starts(id);
    node self(id, all->nodes, all->how, all->disks[id - 1], *all);
    auto listener = tcp_listener::bind("0.0.0.0", port);
    co_await self.run(listener);
}

task<> client_program(std::shared_ptr<cluster> all, word id) {
    for (word request = 1; request <= appends_each; ++request) {
        co_await append(all->nodes, id, request, id * 100 + request, 2s);
        all->acknowledged(id, request);
        const auto pause = std::chrono::milliseconds(rondo::random_u64() % 1000);
        co_await rondo::sleep_for(pause);
    }
    ++all->clients_done;
    co_await rondo::sleep_for(rondo::duration::max());
}

std::chrono::milliseconds some_ms(world& w, std::uint32_t most) {
    return std::chrono::milliseconds(w.choose(most + 1));
}

/// Starts again what has crashed, sooner or later.
task<> restart(world& w, const cluster& all) {
    for (;;) {
        const auto pause = some_ms(w, w.choose(2) != 0 ? 100 : 3000);
        co_await rondo::sleep_for(10ms + pause);
        for (const char* name : names) {
            if (w.host(name).up()) continue;
            all.say("%s starts again", name);
            w.host(name).restart();
        }
        if (all.whole) co_return;
    }
}

/// Crashes a node or cuts it off, again and again.
task<> disturb(world& w, const cluster& all) {
    const std::uint32_t times = w.choose(8);
    for (std::uint32_t i = 0; i < times; ++i) {
        const auto pause = some_ms(w, 4000), lasts = some_ms(w, 6000);
        co_await rondo::sleep_for(pause);
        const std::uint32_t which = w.choose(size), other = (which + 1 + w.choose(size - 1)) % size;
        auto& victim = w.host(names[which]);
        const std::uint32_t what = w.choose(6);
        if (what < 2) {
            all.say("%s crashes", names[which]);
            victim.crash(what == 0 ? rondo::crash_mode::reset : rondo::crash_mode::silent);
            continue;
        }
        const char *const a = names[which], *const b = names[other], *const c = names[size - which - other];
        constexpr const char* cuts[] = {"%s: cut off", "%s: nobody hears it", "%s: it hears nobody",
                                        "%s: cut off from %s"};
        all.say(cuts[what - 2], a, b);
        const auto cut = what == 2   ? w.partition({a}, {b, c, "client 1", "client 2"})
                         : what == 3 ? w.partition_from({a}, {b, c, "client 1", "client 2"})
                         : what == 4 ? w.partition_from({b, c, "client 1", "client 2"}, {a})
                                     : w.partition({a}, {b});
        co_await rondo::sleep_for(lasts);
        all.say("%s: no longer", a);
    }
}

}  // namespace

task<> scenario(world& w, plan what) {
    const auto all = std::make_shared<cluster>(w, what);
    if (w.choose(2) != 0) all->how.entries_at_once = 1;
    for (const char* name : names) {
        all->nodes.push_back(w.address_of(name, port));
        all->disks.emplace_back(w.choose(3) != 2 ? 20ms : 300ms);
    }
    for (std::size_t i = 0; i < size; ++i) {
        auto& h = w.host(names[i]).run(node_program, all, i + 1);
        if (w.choose(2) != 0) h.clock_drift(static_cast<std::int32_t>(w.choose(200'000)) - 100'000);
        for (const char* other : {"node 1", "node 2", "node 3", "client 1", "client 2"}) {
            if (other == names[i]) continue;
            auto link = w.link(names[i], other);
            if (w.choose(2) != 0) link.loss(rondo::percent(w.choose(20)));
            if (w.choose(2) != 0) link.latency(1ms, 200ms);
        }
    }
    w.host("client 1").run(client_program, all, 1);
    w.host("client 2").run(client_program, all, 2);

    const auto disturbances = [&](rondo::task_group& group) -> task<> {
        for (int i = 0; i < 2; ++i) group.spawn([&] { return disturb(w, *all); }).discard();
        co_return;
    };
    auto restarts = rondo::spawn([&] { return restart(w, *all); });
    co_await rondo::with_task_group(disturbances);
    w.heal_all();
    all->whole = true;
    all->say("%s", "from here on the world is whole");
    co_await restarts;
    const rondo::time_point limit = w.now() + 2min;
    while ((all->clients_done < clients || !all->all_have_all()) && w.now() < limit) co_await rondo::sleep_for(100ms);
    const bool in_time = all->clients_done == clients && all->all_have_all();
    RONDO_ALWAYS(in_time, "in a whole world every append is acknowledged, and every node has all");
    co_await rondo::sleep_for(0ms);
}

}  // namespace replicated
