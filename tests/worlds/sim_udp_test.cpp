// Datagrams between the hosts of a world: what links do to them, who hears them, and what comes back.
#include <rondo/net/udp.hpp>
#include <rondo/sim/world.hpp>

#include "support/net.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <map>
#include <set>
#include <string>
#include <vector>

using namespace rondo;
using namespace std::literals;
using test::error_of;

namespace {

world_options decided_by(oracle& decisions) {
    world_options options;
    options.decisions = &decisions;
    return options;
}

/// Sends back what comes, to whom it comes from.
task<> echo() {
    udp_socket s = udp_socket::bind("0.0.0.0", 7777);
    std::array<char, 2048> into;
    for (;;) {
        const received_datagram got = co_await s.receive_from(into);
        co_await s.send_to({into.data(), got.size}, got.sender);
    }
}

task<std::string> hear(udp_socket& on) {
    std::array<char, 2048> into;
    const received_datagram got = co_await on.receive_from(into);
    co_return std::string(into.data(), got.size);
}

/// What comes within so much time, in order.
task<std::vector<std::string>> hear_all(udp_socket& on, duration within) {
    std::vector<std::string> all;
    const auto listen = [&]() -> task<> {
        for (;;) {
            std::string one = co_await hear(on);
            all.push_back(std::move(one));
        }
    };
    static_cast<void>(co_await move_on_after(within, listen));
    co_return all;
}

std::vector<std::string> numbers(int count) {
    std::vector<std::string> all;
    for (int i = 0; i < count; ++i) all.push_back(std::to_string(i));
    return all;
}

/// A host "srv" that hears all on port 7777 for a second of the world, and what it has heard after `sends`.
template <class F>
std::vector<std::string> heard_by(world& w, F sends) {
    std::vector<std::string> heard;
    w.host("srv").run([&]() -> task<> {
        udp_socket s = udp_socket::bind("0.0.0.0", 7777, {.receive_buffer_size = 1 << 20});
        heard = co_await hear_all(s, 60s);
    });
    w.run([&]() -> task<> {
        co_await w.advance(1ms);
        udp_socket s = udp_socket::bind("0.0.0.0", 0);
        s.connect(w.address_of("srv", 7777));
        co_await sends(s);
        co_await w.advance(100s);
    });
    return heard;
}

template <class F>
void send_numbers_and(world& w, int count, F check) {
    check(heard_by(w, [&](udp_socket& s) -> task<> {
        for (const std::string& each : numbers(count)) co_await s.send(each);
    }));
}

TEST_CASE("world: a datagram takes as long as its link, and the answer as well") {
    world w;
    w.host("srv").run(echo);
    w.link("test", "srv").latency(5ms);
    w.run([&]() -> task<> {
        co_await w.advance(1ms);
        udp_socket s = udp_socket::unbound_v4();
        const time_point before = w.now();
        co_await s.send_to("ping", w.address_of("srv", 7777));
        CHECK(w.now() == before);
        char into[16];
        const received_datagram got = co_await s.receive_from(into);
        CHECK(std::string_view(into, got.size) == "ping");
        CHECK(got.sender == w.address_of("srv", 7777));
        CHECK(w.now() == before + 10ms);
    });
}

TEST_CASE("world: nothing is lost, doubled or out of order on a link that does none of it") {
    world w;
    w.link("test", "srv").latency(1ms);
    send_numbers_and(w, 50, [](const std::vector<std::string>& heard) { CHECK(heard == numbers(50)); });
}

TEST_CASE("world: a link loses datagrams, for good") {
    seeded_oracle decisions(1);
    world w(decided_by(decisions));
    w.link("test", "srv").latency(1ms).loss(percent(50));
    send_numbers_and(w, 200, [](const std::vector<std::string>& heard) {
        CHECK(heard.size() > 50);
        CHECK(heard.size() < 150);
        const std::set<std::string> different(heard.begin(), heard.end());
        CHECK(different.size() == heard.size());
    });
}

TEST_CASE("world: a datagram in pieces is lost with any of them") {
    const auto arrive = [](std::uint32_t packet_size) {
        seeded_oracle decisions(1);
        world w(decided_by(decisions));
        w.link("test", "srv").latency(1ms).loss(percent(10)).packet_size(packet_size);
        return heard_by(w,
                        [&](udp_socket& s) -> task<> {
                            const std::string large(1800, 'x');
                            for (int i = 0; i < 200; ++i) co_await s.send(large);
                        })
            .size();
    };
    const std::size_t whole = arrive(2000);
    const std::size_t in_pieces = arrive(100);
    CHECK(whole > 150);
    CHECK(in_pieces < 70);
}

TEST_CASE("world: a link doubles datagrams") {
    seeded_oracle decisions(1);
    world w(decided_by(decisions));
    w.link("test", "srv").latency(1ms).duplication(percent(100));
    send_numbers_and(w, 20, [](std::vector<std::string> heard) {
        CHECK(heard.size() == 40);
        std::vector<std::string> twice = numbers(20);
        for (const std::string& each : numbers(20)) twice.push_back(each);
        std::sort(twice.begin(), twice.end());
        std::sort(heard.begin(), heard.end());
        CHECK(heard == twice);
    });
}

TEST_CASE("world: datagrams overtake each other") {
    seeded_oracle decisions(3);
    world w(decided_by(decisions));
    w.link("test", "srv").latency(1ms, 2ms).reordering(percent(20));
    send_numbers_and(w, 50, [](std::vector<std::string> heard) {
        CHECK(heard != numbers(50));
        std::vector<std::string> all = numbers(50);
        std::sort(all.begin(), all.end());
        std::sort(heard.begin(), heard.end());
        CHECK(heard == all);
    });
}

TEST_CASE("world: a partition swallows datagrams, also those under way, and tells nobody") {
    world w;
    w.host("srv").run(echo);
    w.link("test", "srv").latency(5ms);
    w.run([&]() -> task<> {
        co_await w.advance(1ms);
        udp_socket s = udp_socket::unbound_v4();
        s.connect(w.address_of("srv", 7777));
        co_await s.send("under way");
        {
            const auto cut = w.partition({"test"}, {"srv"});
            co_await s.send("into it");
            co_await w.advance(1s);
        }
        const std::vector<std::string> heard = co_await hear_all(s, 1s);
        CHECK(heard.empty());
        co_await s.send("after it");
        const std::string again = co_await hear(s);
        CHECK(again == "after it");
    });
}

TEST_CASE("world: the host of a port where nobody is says so to who is connected; the way there and back takes time") {
    world w;
    w.host("srv");
    w.link("test", "srv").latency(5ms);
    w.run([&]() -> task<> {
        udp_socket s = udp_socket::unbound_v4();
        s.connect(w.address_of("srv", 7777));
        const time_point before = w.now();
        co_await s.send("anybody?");
        char into[4];
        const std::error_code refused = co_await error_of(s.receive(into));
        CHECK(refused == std::errc::connection_refused);
        CHECK(w.now() == before + 10ms);

        udp_socket other = udp_socket::unbound_v4();
        co_await other.send_to("anybody?", w.address_of("srv", 7777));
        const std::vector<std::string> heard = co_await hear_all(other, 1s);
        CHECK(heard.empty());
        const std::error_code no_way = co_await error_of(other.send_to("x", endpoint("10.99.0.1", 1)));
        CHECK(no_way == std::errc::network_unreachable);
    });
}

TEST_CASE("world: a host that is down is silent; once it is up, it hears again") {
    world w;
    w.host("srv").run(echo);
    w.run([&]() -> task<> {
        co_await w.advance(1ms);
        udp_socket s = udp_socket::unbound_v4();
        s.connect(w.address_of("srv", 7777));
        for (const crash_mode how : {crash_mode::reset, crash_mode::silent}) {
            co_await s.send("a");
            w.host("srv").crash(how);
            co_await s.send("b");
            std::vector<std::string> heard = co_await hear_all(s, 1s);
            CHECK(heard.empty());
            w.host("srv").restart();
            co_await w.advance(1ms);
            co_await s.send("c");
            heard = co_await hear_all(s, 1s);
            CHECK(heard == std::vector<std::string>{"c"});
        }
    });
}

TEST_CASE("world: a narrow link makes who sends wait, and a send that is cancelled then has not been sent") {
    world w;
    w.link("test", "srv").latency(1ms).bandwidth(1'000'000);
    std::vector<std::string> heard = heard_by(w, [&](udp_socket& s) -> task<> {
        s.send_buffer_size(10'000);
        const std::string thousand(1000, 'x');
        const time_point before = w.now();
        for (int i = 0; i < 10; ++i) co_await s.send(thousand);
        CHECK(w.now() == before);  // they stand in the buffer
        CHECK(s.try_send("no room").error() == std::errc::resource_unavailable_try_again);
        const auto sends = [&]() -> task<> { co_await s.send("cancelled"); };
        const bool went = co_await move_on_after(1ms, sends);
        CHECK_FALSE(went);

        std::vector<datagram> out(5, datagram(thousand));
        std::size_t sent = 99;
        const auto sends_many = [&]() -> task<> { co_await s.send_many(out, &sent); };
        const bool all_went = co_await move_on_after(1ms, sends_many);
        CHECK_FALSE(all_went);
        CHECK(sent == 0);
        for (int i = 0; i < 10; ++i) co_await s.send(thousand);
        CHECK(w.now() > before + 4ms);
    });
    CHECK(heard.size() == 20);
    for (const std::string& each : heard) CHECK(each.size() == 1000);
}

TEST_CASE("world: a receiver that does not keep up loses what its buffer has no room for, and nobody is told") {
    world w;
    w.link("test", "srv").latency(1ms);
    std::size_t heard = 0;
    w.host("srv").run([&]() -> task<> {
        udp_socket s = udp_socket::bind("0.0.0.0", 7777, {.receive_buffer_size = 10'000});
        co_await sleep_for(1s);
        const std::vector<std::string> all = co_await hear_all(s, 1s);
        heard = all.size();
    });
    w.run([&]() -> task<> {
        co_await w.advance(1ms);
        udp_socket s = udp_socket::unbound_v4();
        const std::string thousand(1000, 'x');
        for (int i = 0; i < 100; ++i) co_await s.send_to(thousand, w.address_of("srv", 7777));
        for (int i = 0; i < 1000; ++i) co_await s.send_to("", w.address_of("srv", 7777));
        co_await w.advance(5s);
    });
    CHECK(heard >= 7);
    CHECK(heard <= 40);
}

TEST_CASE("world: a group is heard by the hosts that have joined it, each by its own link") {
    world w;
    const ip_address group = ip_address::parse("239.1.1.1");
    std::map<std::string, std::vector<std::string>> heard;
    const auto member = [&](std::string name, bool joins) -> task<> {
        udp_socket s = udp_socket::bind("0.0.0.0", 7777);
        if (joins) s.join_group(group);
        heard[name] = co_await hear_all(s, 10s);
        if (joins) s.leave_group(group);
        std::vector<std::string> later = co_await hear_all(s, 10s);
        CHECK(later.empty());
    };
    for (const char* name : {"a", "b", "c"}) {
        w.host(name).run(member, std::string(name), *name != 'c');
        w.link("test", name).latency(1ms);
    }
    w.run([&]() -> task<> {
        co_await w.advance(1ms);
        udp_socket own = udp_socket::bind("0.0.0.0", 7777);
        own.join_group(group);
        const endpoint to(group, 7777);
        udp_socket s = udp_socket::unbound_v4();
        co_await s.send_to("to all", to);
        s.multicast_loop(false);
        co_await s.send_to("to others", to);
        s.multicast_ttl(0);
        co_await s.send_to("to nobody", to);
        s.multicast_loop(true);
        co_await s.send_to("within", to);
        s.multicast_ttl(1);
        co_await w.advance(5ms);
        const auto cut = w.partition({"test"}, {"b"});
        co_await s.send_to("not to b", to);
        const std::vector<std::string> mine = co_await hear_all(own, 1s);
        CHECK(mine == std::vector<std::string>{"to all", "within", "not to b"});
        co_await w.advance(12s);
        co_await s.send_to("too late", to);
        co_await w.advance(20s);
    });
    CHECK(heard["a"] == std::vector<std::string>{"to all", "to others", "not to b"});
    CHECK(heard["b"] == std::vector<std::string>{"to all", "to others"});
    CHECK(heard["c"].empty());
}

TEST_CASE("world: a broadcast is heard by every host, if one may") {
    world w;
    std::map<std::string, std::vector<std::string>> heard;
    const auto listens = [&](std::string name) -> task<> {
        udp_socket s = udp_socket::bind("0.0.0.0", 7777);
        heard[name] = co_await hear_all(s, 10s);
    };
    for (const char* name : {"a", "b"}) w.host(name).run(listens, std::string(name));
    w.run([&]() -> task<> {
        co_await w.advance(1ms);
        const endpoint all("255.255.255.255", 7777);
        udp_socket s = udp_socket::unbound_v4();
        const std::error_code refused = co_await error_of(s.send_to("no", all));
        CHECK(refused == std::errc::permission_denied);
        udp_socket may = udp_socket::unbound_v4({.broadcast = true});
        co_await may.send_to("yes", all);
        co_await w.advance(20s);
    });
    CHECK(heard["a"] == std::vector<std::string>{"yes"});
    CHECK(heard["b"] == std::vector<std::string>{"yes"});
}

TEST_CASE("world: sockets that share a port have their share of the senders") {
    world w;
    std::size_t heard[2] = {};
    const auto listens = [&](std::size_t which) -> task<> {
        udp_socket s = udp_socket::bind("0.0.0.0", 7777, {.reuse_port = true});
        std::set<std::string> senders;
        const std::vector<std::string> all = co_await hear_all(s, 10s);
        heard[which] = all.size();
        senders.insert(all.begin(), all.end());
        CHECK(senders.size() * 3 == all.size());  // each of a sender's went to the same one
    };
    w.host("srv").run(listens, std::size_t{0});
    w.host("srv").run(listens, std::size_t{1});
    w.run([&]() -> task<> {
        co_await w.advance(1ms);
        for (int i = 0; i < 20; ++i) {
            udp_socket s = udp_socket::unbound_v4();
            for (int j = 0; j < 3; ++j) co_await s.send_to(std::to_string(i), w.address_of("srv", 7777));
        }
        co_await w.advance(20s);
    });
    CHECK(heard[0] + heard[1] == 60);
    CHECK(heard[0] > 0);
    CHECK(heard[1] > 0);
}

TEST_CASE("world: rules and observers see datagrams, and what comes back when nobody is there") {
    struct : world_observer {
        void on_packet(packet what, const packet_info& p, time_point) noexcept override {
            if (what == packet::sent) sent.add(name_of(p.what));
            if (what == packet::lost) lost.add(name_of(p.what));
            if (what == packet::arrived) ++arrived;
        }
        test::journal sent, lost;
        int arrived = 0;
    } seen;
    world_options options;
    options.observer = &seen;
    world w(options);
    w.host("srv");
    w.link("test", "srv").latency(1ms);
    bool lose = true;
    const auto rule = w.rule([&](const packet_info& p) {
        if (p.what == packet_info::kind::datagram) {
            CHECK(p.from.name() == "test");
            CHECK(p.to.name() == "srv");
            CHECK(p.destination == w.address_of("srv", 7777));
            CHECK(p.source.address() == w.host("test").address());
            CHECK(p.size == 5);
            return std::exchange(lose, false) ? verdict::drop() : verdict::pass();
        }
        CHECK(p.what == packet_info::kind::unreachable);
        CHECK(p.from.name() == "srv");
        CHECK(p.source == w.address_of("srv", 7777));
        CHECK(p.destination.address() == w.host("test").address());
        return verdict::hold(1s);
    });
    w.run([&]() -> task<> {
        udp_socket s = udp_socket::unbound_v4();
        s.connect(w.address_of("srv", 7777));
        co_await s.send("first");
        co_await s.send("other");
        const time_point before = w.now();
        char into[4];
        const std::error_code refused = co_await error_of(s.receive(into));
        CHECK(refused == std::errc::connection_refused);
        CHECK(w.now() == before + 1s + 2ms);
    });
    CHECK(seen.sent.text() == "datagram datagram unreachable");
    CHECK(seen.lost.text() == "datagram");
    CHECK(seen.arrived == 2);
}

TEST_CASE("world: a host without buffers refuses to send, and loses nothing else") {
    seeded_oracle decisions(5);
    world w(decided_by(decisions));
    w.host("srv").run(echo);
    w.link("test", "srv").latency(1ms);
    int refused = 0;
    w.run([&]() -> task<> {
        udp_socket s = udp_socket::unbound_v4();
        s.connect(w.address_of("srv", 7777));
        co_await w.advance(1ms);
        w.host("test").lack_buffers(percent(50));
        for (int i = 0; i < 40; ++i) {
            const auto sent = co_await attempt(s.send("x"));
            if (!sent) {
                CHECK(sent.error() == std::errc::no_buffer_space);
                ++refused;
            } else {
                const std::string answer = co_await hear(s);
                CHECK(answer == "x");
            }
        }
    });
    CHECK(refused > 5);
    CHECK(refused < 35);
}

/// Retries until it is answered, in a network that does what it likes.
task<> insists(world& w, int& answered) {
    udp_socket s = udp_socket::unbound_v4();
    for (int i = 0; i < 10; ++i) {
        const std::string question = std::to_string(i);
        for (bool done = false; !done;) {
            const auto asks = [&]() -> task<> {
                co_await s.send_to(question, w.address_of("srv", 7777));
                for (;;) {
                    const std::string answer = co_await hear(s);
                    if (answer == question) co_return;  // else a late one, or a copy
                }
            };
            done = co_await move_on_after(50ms, asks);
        }
        ++answered;
    }
}

TEST_CASE("world: a seed is the same run, and who insists is answered in the worst of networks") {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        CAPTURE(seed);
        std::uint64_t hashes[2];
        for (std::uint64_t& hash : hashes) {
            seeded_oracle decisions(seed);
            world w(decided_by(decisions));
            w.host("srv").run(echo);
            w.link("test", "srv")
                .latency(1ms, 20ms)
                .loss(percent(20))
                .duplication(percent(20))
                .reordering(percent(20))
                .bandwidth(100'000);
            int answered = 0;
            w.run([&]() -> task<> { co_await insists(w, answered); });
            CHECK(answered == 10);
            hash = w.hash();
        }
        CHECK(hashes[0] == hashes[1]);
    }
}

TEST_CASE("world: nothing is left of datagrams that are under way when it ends") {
    world w;
    w.link("test", "srv").bandwidth(1000);
    w.host("srv").run(echo);
    w.run([&]() -> task<> {
        udp_socket s = udp_socket::unbound_v4();
        for (int i = 0; i < 10; ++i) co_await s.send_to("under way", w.address_of("srv", 7777));
    });  // a sanitizer sees what is left
}

}  // namespace
