// UDP sockets: datagrams one by one and in batches, what is cut, what is refused, groups, and cancelling.
#include <rondo/net/udp.hpp>

#include "support/net.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/time.h>

using namespace rondo;
using namespace std::literals;
using test::error_of;

namespace {

udp_socket bind_here(const udp_options& options = {}) { return udp_socket::bind("127.0.0.1", 0, options); }

/// Receives one, and gives it as a text.
task<std::string> hear(udp_socket& on) {
    char into[2048];
    const received_datagram got = co_await on.receive_from(into);
    CHECK_FALSE(got.truncated);
    co_return std::string(into, got.size);
}

/// Nothing comes, although there was time for it.
task<> check_silence(udp_socket& on) {
    co_await test::settle();
    char into[16];
    const auto got = on.try_receive_from(into);
    CHECK(got.error() == std::errc::resource_unavailable_try_again);
}

TEST_CASE("udp: a datagram goes there and back, and says from whom it is") {
    test::run([]() -> task<> {
        udp_socket server = udp_socket::bind("127.0.0.1", 0);
        udp_socket client = bind_here();
        CHECK(server.local().port() != 0);
        CHECK(server.native_handle() >= 0);
        CHECK(static_cast<bool>(server));

        co_await client.send_to("hello", server.local());
        char into[64];
        const received_datagram got = co_await server.receive_from(into);
        CHECK(std::string_view(into, got.size) == "hello");
        CHECK(got.sender == client.local());
        CHECK_FALSE(got.truncated);

        co_await server.send_to("and back", got.sender);
        const std::string answer = co_await hear(client);
        CHECK(answer == "and back");
        co_await client.close();
        CHECK_FALSE(client.is_open());
    });
}

TEST_CASE("udp: a receive that has to wait gets the datagram when it comes") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        auto waits = spawn(hear, std::ref(server));
        co_await test::settle();
        CHECK_FALSE(waits.done());
        udp_socket client = udp_socket::unbound_v4();
        co_await client.send_to("at last", server.local());
        const std::string got = co_await waits;
        CHECK(got == "at last");
    });
}

TEST_CASE("udp: IPv6 works like IPv4") {
    bool there = true;
    test::run([&]() -> task<> {
        auto server = udp_socket::try_bind("::1", 0);
        there = server.has_value();
        if (!there) co_return;
        udp_socket client = udp_socket::unbound_v6();
        co_await client.send_to("six", server->local());
        char into[8];
        const received_datagram got = co_await server->receive_from(into);
        CHECK(std::string_view(into, got.size) == "six");
        CHECK(got.sender.address() == ip_address::loopback_v6());
        const std::error_code other = co_await error_of(client.send_to("four", endpoint("127.0.0.1", 9)));
        CHECK(other);
    });
    if (!there) MESSAGE("skipped: this machine has no IPv6 loopback");
}

TEST_CASE("udp: an IPv6 socket that is asked to takes IPv4 datagrams, too") {
    bool there = true;
    test::run([&]() -> task<> {
        auto both = udp_socket::try_bind("::", 0, {.v6_only = false});
        there = both.has_value();
        if (!there) co_return;
        udp_socket four = bind_here();
        co_await four.send_to("ping", endpoint("127.0.0.1", both->local().port()));
        char into[8];
        const received_datagram got = co_await both->receive_from(into);
        CHECK(got.sender.address().to_string() == "::ffff:127.0.0.1");
        co_await both->send_to("pong", got.sender);
        const std::string answer = co_await hear(four);
        CHECK(answer == "pong");
    });
    if (!there) MESSAGE("skipped: this machine has no IPv6");
}

TEST_CASE("udp: a socket without a port is given one when it first needs one") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        udp_socket sends = udp_socket::unbound_v4();
        CHECK(sends.local().port() == 0);
        co_await sends.send_to("x", server.local());
        CHECK(sends.local().port() != 0);
        udp_socket connects = udp_socket::unbound_v4();
        connects.connect(server.local());
        CHECK(connects.local().port() != 0);
        CHECK(connects.local().address() == ip_address::loopback_v4());
        connects.disconnect();
        CHECK(connects.local().port() == 0);
        CHECK(connects.local().address() == ip_address::any_v4());
    });
}

TEST_CASE("udp: a connected socket sends to its peer, and hears nobody else") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        udp_socket stranger = bind_here();
        udp_socket client = bind_here();
        CHECK_FALSE(client.is_connected());
        const std::error_code to_whom = co_await error_of(client.send("x"));
        CHECK(to_whom == std::errc::destination_address_required);
        client.connect(server.local());
        CHECK(client.is_connected());
        CHECK(client.peer() == server.local());

        co_await client.send("question");
        char into[64];
        const received_datagram asked = co_await server.receive_from(into);
        CHECK(asked.sender == client.local());
        co_await stranger.send_to("spam", client.local());
        co_await test::settle();
        co_await server.send_to("answer", asked.sender);
        const received_datagram got = co_await client.receive(into);
        CHECK(std::string_view(into, got.size) == "answer");
        CHECK(got.sender == server.local());
        co_await check_silence(client);

        client.disconnect();
        CHECK_FALSE(client.is_connected());
        CHECK(client.peer() == endpoint());
        co_await stranger.send_to("hello again", client.local());
        const std::string heard = co_await hear(client);
        CHECK(heard == "hello again");
        client.connect(stranger.local());
        co_await client.send("you");
        const std::string to_other = co_await hear(stranger);
        CHECK(to_other == "you");
    });
}

TEST_CASE("udp: a datagram of no bytes is one like any other, and no end") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        udp_socket client = bind_here();
        co_await client.send_to("", server.local());
        co_await client.send_to("more", server.local());
        char into[16];
        const received_datagram empty = co_await server.receive_from(into);
        CHECK(empty.size == 0);
        CHECK(empty.sender == client.local());
        CHECK_FALSE(empty.truncated);
        const std::string more = co_await hear(server);
        CHECK(more == "more");

        client.connect(server.local());
        co_await client.send("");
        co_await client.send_segments("", 100);
        std::array<datagram, 4> places;
        for (datagram& each : places) each = datagram::place(into);
        co_await test::settle();
        const std::size_t count = co_await server.receive_many(places);
        CHECK(count >= 1);
        CHECK(places[0].size() == 0);
        CHECK(places[0].peer() == client.local());
    });
}

TEST_CASE("udp: what is longer than its place is cut, and says so; the next one is whole (hazard C14)") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        udp_socket client = bind_here();
        co_await client.send_to("0123456789", server.local());
        co_await client.send_to("abcd", server.local());
        co_await client.send_to("gone", server.local());
        co_await client.send_to("", server.local());
        char into[4];
        const received_datagram cut = co_await server.receive_from(into);
        CHECK(cut.truncated);
        CHECK(std::string_view(into, cut.size) == "0123");
        const received_datagram fits = co_await server.receive_from(into);
        CHECK_FALSE(fits.truncated);
        CHECK(std::string_view(into, fits.size) == "abcd");
        const received_datagram nothing = co_await server.receive_from({into, 0});
        CHECK(nothing.truncated);
        CHECK(nothing.size == 0);
        const received_datagram empty = co_await server.receive_from({into, 0});
        CHECK_FALSE(empty.truncated);

        co_await client.send_to("0123456789", server.local());
        co_await test::settle();
        std::array<datagram, 2> places{datagram::place(into), datagram::place(into)};
        const std::size_t count = co_await server.receive_many(places);
        REQUIRE(count == 1);
        CHECK(places[0].truncated());
        CHECK(places[0].text() == "0123");
    });
}

TEST_CASE("udp: what is too large for any packet is refused, and has harmed nobody") {
    test::run([]() -> task<> {
        udp_socket server = bind_here({.receive_buffer_size = 400'000});
        udp_socket client = bind_here({.send_buffer_size = 400'000});
        const std::string largest(65'507, 'x');
        const std::string larger(65'508, 'x');
        const std::error_code refused = co_await error_of(client.send_to(larger, server.local()));
        CHECK(refused == std::errc::message_size);
        CHECK(client.try_send_to(larger, server.local()).error() == std::errc::message_size);
        co_await client.send_to(largest, server.local());
        std::string into(70'000, '?');
        const received_datagram got = co_await server.receive_from(into);
        CHECK(got.size == largest.size());
        CHECK_FALSE(got.truncated);
        CHECK(into.compare(0, got.size, largest) == 0);
    });
}

// --- batches

TEST_CASE("udp: a batch takes what is there in order, and sends all; what has come can go back as it is") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        udp_socket client = bind_here();
        constexpr std::size_t count = 10;
        std::vector<std::string> texts;
        std::vector<datagram> out;
        for (std::size_t i = 0; i < count; ++i) texts.push_back("datagram " + std::to_string(i));
        for (const std::string& text : texts) out.emplace_back(text, server.local());
        std::size_t sent = 99;
        const std::size_t went = co_await client.send_many(out, &sent);
        CHECK(went == count);
        CHECK(sent == count);

        std::array<std::array<char, 64>, count + 3> memory;
        std::array<datagram, count + 3> batch;
        for (std::size_t i = 0; i < batch.size(); ++i) batch[i] = datagram::place(memory[i]);
        std::size_t got = 0;
        while (got < count) {
            const std::size_t more = co_await server.receive_many(std::span(batch).subspan(got));
            REQUIRE(more >= 1);
            got += more;
        }
        CHECK(got == count);
        for (std::size_t i = 0; i < count; ++i) {
            CHECK(batch[i].text() == texts[i]);
            CHECK(batch[i].peer() == client.local());
            CHECK_FALSE(batch[i].truncated());
        }
        const std::size_t back = co_await server.send_many(std::span(batch).first(count));
        CHECK(back == count);
        for (std::size_t i = 0; i < count; ++i) {
            const std::string heard = co_await hear(client);
            CHECK(heard == texts[i]);
        }
        const std::size_t none = co_await server.receive_many({});
        CHECK(none == 0);
        const std::size_t nothing = co_await server.send_many({});
        CHECK(nothing == 0);
    });
}

TEST_CASE("udp: more than a system call takes go out in one batch, and come in several") {
    test::run([]() -> task<> {
        udp_socket server = bind_here({.receive_buffer_size = 1 << 20});
        udp_socket client = udp_socket::unbound_v4();
        client.connect(server.local());
        constexpr std::uint32_t count = 200;
        std::vector<std::uint32_t> numbers(count);
        std::vector<datagram> out;
        for (std::uint32_t i = 0; i < count; ++i) {
            numbers[i] = i;
            out.emplace_back(bytes_view(reinterpret_cast<const char*>(&numbers[i]), sizeof numbers[i]));
        }
        const std::size_t sent = co_await client.send_many(out);
        CHECK(sent == count);
        std::vector<std::uint32_t> came(count);
        std::vector<datagram> places;
        for (std::uint32_t& each : came)
            places.push_back(datagram::place({reinterpret_cast<char*>(&each), sizeof each}));
        std::size_t got = 0;
        while (got < count) {
            const std::size_t more = co_await server.receive_many(std::span(places).subspan(got));
            CHECK(more <= 64);
            got += more;
        }
        CHECK(came == numbers);
    });
}

TEST_CASE("udp: a batch ends with the one that is refused, and says which; the rest can go on behind it") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        udp_socket client = bind_here();
        const std::string larger(65'508, 'x');
        std::array<datagram, 3> out{datagram("one", server.local()), datagram(larger, server.local()),
                                    datagram("three", server.local())};
        std::size_t sent = 99;
        const std::error_code refused = co_await error_of(client.send_many(out, &sent));
        CHECK(refused == std::errc::message_size);
        CHECK(sent == 1);
        const auto again = co_await attempt(client.send_many(std::span(out).subspan(sent), &sent));
        CHECK(again.error() == std::errc::message_size);
        CHECK(sent == 0);
        co_await client.send_many(std::span(out).subspan(2));
        const std::string one = co_await hear(server);
        const std::string three = co_await hear(server);
        CHECK(one == "one");
        CHECK(three == "three");
        const auto at_once = client.try_send_many(out);
        CHECK(at_once.value() == 1);
        CHECK(client.try_send_many(std::span(out).subspan(1)).error() == std::errc::message_size);
    });
}

TEST_CASE("udp: datagrams that were only to be sent are never written to") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        std::array<datagram, 1> constant{datagram("literal", server.local())};
        co_await server.send_many(constant);
        const std::size_t got = co_await server.receive_many(constant);
        CHECK(got == 1);
        CHECK(constant[0].truncated());
        CHECK(constant[0].size() == 0);
    });
}

TEST_CASE("udp: a place of a batch is filled by hand, and sent as long as it says") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        char memory[32] = "what I say, and no more";
        std::array<datagram, 1> one{datagram::place(memory)};
        one[0].resize(10);
        one[0].set_peer(server.local());
        co_await server.send_many(one);
        const std::string heard = co_await hear(server);
        CHECK(heard == "what I say");
    });
}

// --- segments

/// Receives until so many bytes have come: the size of each datagram, and all bytes.
task<std::string> gather(udp_socket& from, std::size_t size, std::vector<std::size_t>& sizes) {
    std::string all;
    std::string into(70'000, '?');
    while (all.size() < size) {
        const received_datagram got = co_await from.receive_from(into);
        CHECK_FALSE(got.truncated);
        const std::size_t each = got.segment_size != 0 ? got.segment_size : got.size;
        for (std::size_t at = 0; at < got.size; at += each) sizes.push_back(std::min(each, got.size - at));
        all.append(into, 0, got.size);
    }
    co_return all;
}

std::string letters(std::size_t size) {
    std::string made(size, ' ');
    for (std::size_t i = 0; i < size; ++i) made[i] = static_cast<char>('a' + (i * 7 + i / 26) % 26);
    return made;
}

TEST_CASE("udp: segments arrive as datagrams of that size, however many, and by whomever they were cut") {
    for (const bool together : {false, true}) {
        CAPTURE(together);
        test::run([&]() -> task<> {
            udp_socket server = bind_here({.receive_segments = together, .receive_buffer_size = 4 << 20});
            udp_socket client = udp_socket::unbound_v4();
            client.connect(server.local());
            struct {
                std::size_t bytes;
                std::uint16_t segment;
            } const cases[] = {{1000, 100}, {1001, 100}, {999, 1000}, {15'050, 100}, {100'000, 1400}, {7, 1}};
            for (const auto& each : cases) {
                CAPTURE(each.bytes);
                const std::string text = letters(each.bytes);
                std::size_t sent = 0;
                std::vector<std::size_t> sizes;
                auto receiver = spawn(gather, std::ref(server), each.bytes, std::ref(sizes));
                if (each.segment == 100) {
                    co_await client.send_segments(text, each.segment, {}, &sent);
                } else {
                    co_await client.send_segments(text, each.segment, server.local(), &sent);
                }
                CHECK(sent == each.bytes);
                const std::string came = co_await receiver;
                CHECK(came == text);
                CHECK(sizes.size() == (each.bytes + each.segment - 1) / each.segment);
                for (std::size_t i = 0; i + 1 < sizes.size(); ++i) CHECK(sizes[i] == each.segment);
            }
        });
    }
}

TEST_CASE("udp: a batch may hold segments, too") {
    test::run([]() -> task<> {
        udp_socket server = bind_here({.receive_buffer_size = 1 << 20});
        udp_socket client = bind_here();
        const std::string text = letters(250);
        std::array<datagram, 3> out{datagram("first", server.local()), datagram(text, server.local(), 100),
                                    datagram("last", server.local())};
        CHECK(out[1].segment_size() == 100);
        const std::size_t sent = co_await client.send_many(out);
        CHECK(sent == 3);
        const std::string expected[] = {"first", text.substr(0, 100), text.substr(100, 100), text.substr(200), "last"};
        for (const std::string& each : expected) {
            const std::string heard = co_await hear(server);
            CHECK(heard == each);
        }
    });
}

// --- refused: hazard C14

TEST_CASE("udp: a client that has vanished harms nobody else (hazard C14: bun#28690, bun#35922, c-ares#821)") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        udp_socket healthy = bind_here();
        endpoint gone;
        {
            udp_socket vanishes = bind_here();
            gone = vanishes.local();
            co_await vanishes.close();
        }
        auto echo = spawn([&]() -> task<> {
            char into[64];
            for (int i = 0; i < 3; ++i) {
                const received_datagram got = co_await server.receive_from(into);
                co_await server.send_to({into, got.size}, got.sender);
            }
        });
        for (int i = 0; i < 3; ++i) {
            co_await server.send_to("are you there?", gone);
            co_await test::settle();
            co_await healthy.send_to("ping", server.local());
            const std::string answer = co_await hear(healthy);
            CHECK(answer == "ping");
        }
        co_await echo;
    });
}

TEST_CASE("udp: a connected socket is told once that nobody is there, whoever is next, and goes on (hazard C14)") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        const endpoint at = server.local();
        udp_socket client = udp_socket::unbound_v4();
        client.connect(at);
        co_await server.close();

        co_await client.send("1");  // to a reader
        char into[16];
        const std::error_code heard = co_await error_of(client.receive(into));
        CHECK(heard == std::errc::connection_refused);
        co_await check_silence(client);

        auto reader = spawn([&]() -> task<std::error_code> { co_return co_await error_of(client.receive(into)); });
        co_await test::settle();
        co_await client.send("2");  // to one that waits
        const std::error_code waited = co_await reader;
        CHECK(waited == std::errc::connection_refused);

        co_await client.send("3");  // to a writer
        co_await test::settle();
        const auto refused = co_await attempt(client.send("not sent"));
        CHECK(refused.error() == std::errc::connection_refused);

        udp_socket back = udp_socket::bind(at);
        co_await client.send("welcome");
        const std::string welcome = co_await hear(back);
        CHECK(welcome == "welcome");
    });
}

TEST_CASE("udp: what the host of the peer before has said is not told about the next one") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        udp_socket vanishes = bind_here();
        udp_socket client = udp_socket::unbound_v4();
        client.connect(vanishes.local());
        const endpoint gone = vanishes.local();
        co_await vanishes.close();
        co_await client.send("1");
        co_await test::settle();
        client.connect(server.local());
        co_await client.send("2");
        const std::string heard = co_await hear(server);
        CHECK(heard == "2");
        co_await check_silence(client);

        client.connect(gone);
        co_await client.send("3");
        co_await test::settle();
        client.disconnect();
        co_await check_silence(client);
    });
}

// --- what does not wait

TEST_CASE("udp: without waiting: what is there, or try again") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        udp_socket client = bind_here();
        char into[16];
        CHECK(server.try_receive_from(into).error() == std::errc::resource_unavailable_try_again);
        CHECK(client.try_send_to("one", server.local()).has_value());
        co_await test::settle();
        const auto got = server.try_receive_from(into);
        REQUIRE(got.has_value());
        CHECK(std::string_view(into, got->size) == "one");
        CHECK(got->sender == client.local());
        CHECK(client.try_connect(server.local()).has_value());
        CHECK(client.try_send("two").has_value());
        co_await test::settle();
        std::array<datagram, 2> places{datagram::place(into), datagram::place(into)};
        CHECK(server.try_receive_many(places).value() == 1);
        CHECK(places[0].text() == "two");
        CHECK(server.try_receive_many({}).value() == 0);
        CHECK(server.try_send_many({}).value() == 0);
        CHECK(client.try_disconnect().has_value());

        // Nobody takes a datagram away from a receive that waits.
        auto waits = spawn(hear, std::ref(server));
        co_await test::others_first();
        co_await client.send_to("three", server.local());
        CHECK(server.try_receive_from(into).error() == std::errc::resource_unavailable_try_again);
        const std::string three = co_await waits;
        CHECK(three == "three");
    });
}

TEST_CASE("udp: one receives and one sends at a time; a second one is busy") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        auto waits = spawn(hear, std::ref(server));
        co_await test::settle();
        char into[16];
        const std::error_code second = co_await error_of(server.receive_from(into));
        CHECK(second == std::errc::device_or_resource_busy);
        co_await server.send_to("to myself", server.local());
        const std::string heard = co_await waits;
        CHECK(heard == "to myself");
    });
}

// --- closing

TEST_CASE("udp: a close ends the receive that waits, and the port is free at once") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        const endpoint at = server.local();
        char into[16];
        auto waits = spawn([&]() -> task<std::error_code> { co_return co_await error_of(server.receive_from(into)); });
        co_await test::settle();
        co_await server.close();
        const std::error_code ended = co_await waits;
        CHECK(ended == std::errc::bad_file_descriptor);
        udp_socket again = udp_socket::bind(at);
        CHECK(again.local() == at);
    });
}

TEST_CASE("udp: a closed socket, and one that never was, answers bad_file_descriptor") {
    test::run([]() -> task<> {
        udp_socket closed = bind_here();
        co_await closed.close();
        for (udp_socket* s : {&closed}) {
            const auto bad = std::errc::bad_file_descriptor;
            char into[4];
            std::array<datagram, 1> batch{datagram::place(into)};
            const std::error_code received = co_await error_of(s->receive_from(into));
            CHECK(received == bad);
            const std::error_code received_many = co_await error_of(s->receive_many(batch));
            CHECK(received_many == bad);
            const std::error_code sent = co_await error_of(s->send_to("x", endpoint("127.0.0.1", 9)));
            CHECK(sent == bad);
            const std::error_code connected = co_await error_of(s->send("x"));
            CHECK(connected == bad);
            const std::error_code segments = co_await error_of(s->send_segments("xyz", 1));
            CHECK(segments == bad);
            const std::error_code sent_many = co_await error_of(s->send_many(batch));
            CHECK(sent_many == bad);
            CHECK(s->try_receive_from(into).error() == bad);
            CHECK(s->try_receive_many(batch).error() == bad);
            CHECK(s->try_send("x").error() == bad);
            CHECK(s->try_send_many(batch).error() == bad);
            CHECK(s->try_connect(endpoint("127.0.0.1", 9)).error() == bad);
            CHECK(s->try_disconnect().error() == bad);
            CHECK(s->try_local().error() == bad);
            CHECK(s->try_broadcast(true).error() == bad);
            CHECK(s->try_ttl(1).error() == bad);
            CHECK(s->try_join_group(ip_address::parse("239.1.1.1")).error() == bad);
            CHECK_THROWS_AS(s->disconnect(), io_error);
            CHECK_THROWS_AS(static_cast<void>(s->local()), io_error);
            co_await s->close();
            CHECK(s->native_handle() == -1);
        }
    });
}

TEST_CASE("udp: a socket moves, and its destructor gives the port back") {
    test::run([]() -> task<> {
        endpoint at;
        {
            udp_socket one = bind_here();
            at = one.local();
            udp_socket other = std::move(one);
            CHECK_FALSE(one.is_open());  // NOLINT(bugprone-use-after-move)
            CHECK(other.local() == at);
            one = std::move(other);
            co_await one.send_to("x", at);
            const std::string heard = co_await hear(one);
            CHECK(heard == "x");
        }
        co_await test::settle();
        CHECK(udp_socket::try_bind(at).has_value());
    });
}

// --- making one, and options

TEST_CASE("udp: a port is taken once, unless both sides share it") {
    test::run([]() -> task<> {
        udp_socket first = bind_here();
        const endpoint at = first.local();
        const auto second = udp_socket::try_bind(at);
        CHECK(second.error() == std::errc::address_in_use);
        try {
            static_cast<void>(udp_socket::bind(at));
            FAIL("the port was taken");
        } catch (const io_error& e) {
            CHECK(e.operation() == std::string_view("bind to"));
            CHECK(e.subject() == at.to_string());
        }
        CHECK(udp_socket::try_bind("no address", 1).error() == std::errc::invalid_argument);
        CHECK_THROWS_AS(static_cast<void>(udp_socket::bind("no address", 1)), std::system_error);
        bool both = false;  // TCP has ports of its own, which others on this machine may use
        for (int i = 0; i < 50 && !both; ++i) {
            const udp_socket udp = bind_here();
            both = tcp_listener::try_bind("127.0.0.1", udp.local().port()).has_value();
        }
        CHECK(both);

        const udp_socket shared = bind_here({.reuse_port = true});
        const auto joins = udp_socket::try_bind(shared.local(), {.reuse_port = true});
        CHECK(joins.has_value());
        CHECK(udp_socket::try_bind(shared.local()).error() == std::errc::address_in_use);
        co_return;
    });
}

TEST_CASE("udp: options") {
    test::run([]() -> task<> {
        udp_socket s = bind_here({.receive_buffer_size = 100'000, .send_buffer_size = 100'000});
        s.broadcast(true);
        s.broadcast(false);
        s.ttl(1);
        s.ttl(255);
        CHECK(s.try_ttl(0).error() == std::errc::invalid_argument);
        CHECK(s.try_ttl(256).error() == std::errc::invalid_argument);
        CHECK(s.try_ttl(-1).error() == std::errc::invalid_argument);
        s.receive_buffer_size(50'000);
        s.send_buffer_size(50'000);
        s.multicast_ttl(0);
        s.multicast_ttl(255);
        CHECK(s.try_multicast_ttl(256).error() == std::errc::invalid_argument);
        CHECK(s.try_multicast_ttl(-1).error() == std::errc::invalid_argument);
        s.multicast_loop(false);
        s.multicast_loop(true);
        CHECK_THROWS_AS(s.ttl(0), io_error);
        CHECK_THROWS_AS(s.multicast_ttl(256), io_error);
        CHECK(s.try_multicast_interface(123'456).error() == std::errc::address_not_available);
        co_return;
    });
}

TEST_CASE("udp: who may not broadcast is refused; who may is heard") {
    test::run([]() -> task<> {
        // The kernel's loopback has an address of its own for all.
        const ip_address all = ip_address::parse(test::on_sim() ? "255.255.255.255" : "127.255.255.255");
        udp_socket server = udp_socket::bind("0.0.0.0", 0);
        const endpoint to(all, server.local().port());
        udp_socket client = bind_here();
        const std::error_code refused = co_await error_of(client.send_to("x", to));
        CHECK(refused == std::errc::permission_denied);
        client.broadcast(true);
        const auto sent = co_await attempt(client.send_to("to all", to));
        if (!sent) {
            MESSAGE("skipped: no broadcasts here: " << sent.error().message());
            co_return;
        }
        const std::string heard = co_await hear(server);
        CHECK(heard == "to all");
    });
}

// --- groups

constexpr unsigned loopback_interface = 1;

TEST_CASE("udp: members of a group hear what is sent to it; who has left, or never joined, does not") {
    bool there = true;
    test::run([&]() -> task<> {
        const ip_address group = ip_address::parse("239.77.1.2");
        udp_socket member = udp_socket::bind("0.0.0.0", 0, {.reuse_address = true});
        const std::uint16_t port = member.local().port();
        udp_socket stranger = udp_socket::bind("0.0.0.0", port, {.reuse_address = true});
        udp_socket sender = bind_here();
        sender.multicast_interface(loopback_interface);
        const auto joined = member.try_join_group(group, loopback_interface);
        const auto sent = co_await attempt(sender.send_to("to members", endpoint(group, port)));
        there = joined && sent;
        if (!there) co_return;
        const std::string heard = co_await hear(member);
        CHECK(heard == "to members");
        co_await check_silence(stranger);

        CHECK(member.try_join_group(group, loopback_interface).error() == std::errc::address_in_use);
        if (test::on_sim()) {  // on the loopback, what leaves comes back all the same
            sender.multicast_loop(false);
            co_await sender.send_to("not here", endpoint(group, port));
            co_await check_silence(member);
            sender.multicast_loop(true);
        }
        sender.multicast_ttl(0);
        co_await sender.send_to("within", endpoint(group, port));
        const std::string within = co_await hear(member);
        CHECK(within == "within");

        stranger.join_group(group, loopback_interface);
        co_await sender.send_to("to both", endpoint(group, port));
        const std::string one = co_await hear(member);
        const std::string other = co_await hear(stranger);
        CHECK(one == "to both");
        CHECK(other == "to both");

        member.leave_group(group, loopback_interface);
        co_await sender.send_to("the rest", endpoint(group, port));
        const std::string rest = co_await hear(stranger);
        CHECK(rest == "the rest");
        co_await check_silence(member);
        CHECK(member.try_leave_group(group, loopback_interface).error() == std::errc::address_not_available);
    });
    if (!there) MESSAGE("skipped: this machine has no multicast on its loopback");
}

TEST_CASE("udp: what is no group is not joined") {
    test::run([]() -> task<> {
        udp_socket s = udp_socket::bind("0.0.0.0", 0);
        CHECK(s.try_join_group(ip_address::parse("127.0.0.1"), loopback_interface).error() ==
              std::errc::invalid_argument);
        CHECK(s.try_join_group(ip_address::parse("239.1.2.3"), 123'456).error() == std::errc::no_such_device);
        try {
            s.join_group(ip_address::parse("127.0.0.1"), loopback_interface);
            FAIL("joined");
        } catch (const io_error& e) {
            CHECK(e.operation() == std::string_view("join"));
            CHECK(e.subject() == "127.0.0.1");
        }
        co_return;
    });
}

TEST_CASE("udp: a group of IPv6 names its interface by a zone") {
    bool there = true;
    test::run([&]() -> task<> {
        const ip_address group = ip_address::parse("ff01::7%1");
        auto member = udp_socket::try_bind("::", 0);
        there = member && member->try_join_group(group);
        if (!there) co_return;
        udp_socket sender = udp_socket::unbound_v6();
        sender.multicast_interface(loopback_interface);
        const auto sent = co_await attempt(sender.send_to("six", endpoint(group, member->local().port())));
        there = sent.has_value();
        if (!there) co_return;
        const std::string heard = co_await hear(*member);
        CHECK(heard == "six");
        member->leave_group(group);
    });
    if (!there) MESSAGE("skipped: this machine has no IPv6 multicast on its loopback");
}

// --- cancelling

TEST_CASE("udp: a cancelled receive loses no datagram, whenever it is cancelled") {
    for (int when = 0; when < 6; ++when) {
        CAPTURE(when);
        test::run([&]() -> task<> {
            udp_socket server = bind_here();
            udp_socket client = bind_here();
            std::vector<std::string> came;
            auto receiver = spawn([&]() -> task<> {
                for (;;) {
                    std::string one = co_await hear(server);
                    came.push_back(std::move(one));
                }
            });
            co_await test::settle();
            co_await client.send_to("1", server.local());
            co_await client.send_to("2", server.local());
            for (int i = 0; i < when; ++i) co_await immediate();
            receiver.cancel();
            static_cast<void>(co_await attempt(receiver));
            while (came.size() < 2) {
                std::string one = co_await hear(server);
                came.push_back(std::move(one));
            }
            CHECK(came == std::vector<std::string>{"1", "2"});
            co_await check_silence(server);
        });
    }
}

TEST_CASE("udp: a losing arm of select_one leaves its datagram to the next receive, whole or as cut as it was") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        udp_socket client = bind_here();
        channel<int> other(1);
        char into[16];
        for (const bool many : {false, true}) {
            for (std::size_t room : {16, 4}) {
                co_await client.send_to("abcdefgh", server.local());
                co_await test::settle();
                CHECK(other.try_send(1).has_value());
                // Both are ready: the first arm wins, except where a seed decides.
                auto chosen = co_await select_one(other.receive(), server.receive_from({into, room}));
                if (chosen.index() == 1) {
                    const received_datagram got = chosen.get<1>();
                    CHECK(got.truncated == (room == 4));
                    const auto left = other.try_receive();
                    CHECK(left.has_value());
                    continue;
                }
                char again[16];
                received_datagram got;
                if (many) {
                    std::array<datagram, 2> places{datagram::place(again), datagram::place(again)};
                    const std::size_t count = co_await server.receive_many(places);
                    REQUIRE(count == 1);
                    got = {places[0].size(), places[0].peer(), places[0].truncated(), 0};
                } else {
                    got = co_await server.receive_from(again);
                }
                CHECK(got.sender == client.local());
                if (got.truncated) {
                    CHECK(room == 4);
                    CHECK(std::string_view(again, got.size) == "abcd");
                } else {
                    CHECK(std::string_view(again, got.size) == "abcdefgh");
                }
                co_await check_silence(server);
            }
        }
    });
}

TEST_CASE("udp: a time limit around a receive") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        char into[16];
        const bool in_time = co_await move_on_after(5ms, [&]() -> task<> { co_await server.receive_from(into); });
        CHECK_FALSE(in_time);
        co_await server.send_to("later", server.local());
        const std::string heard = co_await hear(server);
        CHECK(heard == "later");
    });
}

// --- fairness

TEST_CASE("udp: a flood of datagrams starves nobody (hazard F1: tokio#5946)") {
    test::run([]() -> task<> {
        udp_socket flooded = bind_here();
        const endpoint at = flooded.local();
        std::size_t received = 0;
        bool enough = false;
        auto flood = spawn([&]() -> task<> {
            std::array<char, 512> memory{};
            std::array<datagram, 32> out;
            std::array<datagram, 32> in;
            for (datagram& each : out) each = datagram(bytes_view(memory.data(), memory.size()), at);
            for (datagram& each : in) each = datagram::place(memory);
            while (!enough) {
                co_await flooded.send_many(out);
                received += co_await flooded.receive_many(in);
            }
        });
        test::connection quiet = co_await test::connected();
        for (int i = 0; i < 20; ++i) {
            co_await quiet.client.write_all("ping");
            char into[4];
            co_await quiet.server.read_exactly(into);
            co_await sleep_for(100us);
        }
        enough = true;
        co_await flood;
        CHECK(received > 0);
    });
}

TEST_CASE("udp: a batch moves no more bytes in one go than anybody may") {
    if (test::on_sim()) return;  // time is not what I/O takes there
    test::run([]() -> task<> {
        udp_socket server = bind_here({.receive_buffer_size = 8 << 20});
        const std::string large(60'000, 'x');
        std::vector<datagram> out(20, datagram(large, server.local()));
        co_await server.send_many(out);
        std::vector<std::string> memory(20, std::string(65'536, '?'));
        std::vector<datagram> in;
        for (std::string& each : memory) in.push_back(datagram::place(each));
        const std::size_t got = co_await server.receive_many(in);
        CHECK(got >= 1);
        CHECK(got <= byte_budget::at_a_time / 65'536 + 1);
    });
}

// --- hazards of descriptors and of io_uring

TEST_CASE("udp: who waits at a closed socket is not given what comes for the next one of its number (hazard C3)") {
    test::run([]() -> task<> {
        udp_socket first = bind_here();
        const int number = first.native_handle();
        char into[16] = "";
        auto waits = spawn([&]() -> task<std::error_code> { co_return co_await error_of(first.receive_from(into)); });
        co_await test::settle();
        co_await first.close();
        udp_socket second = bind_here();
        CHECK(second.native_handle() == number);
        co_await second.send_to("for the second", second.local());
        const std::error_code ended = co_await waits;
        CHECK(ended == std::errc::bad_file_descriptor);
        const std::string heard = co_await hear(second);
        CHECK(heard == "for the second");
        CHECK(into[0] == '\0');
    });
}

TEST_CASE("udp: interrupted calls are made again (hazard C10)") {
    if (test::on_sim()) return;  // no kernel, no signals
    struct sigaction none{}, before{};
    none.sa_handler = [](int) {};
    ::sigaction(SIGALRM, &none, &before);
    const itimerval often{{0, 500}, {0, 500}};
    ::setitimer(ITIMER_REAL, &often, nullptr);
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        udp_socket client = bind_here();
        for (int i = 0; i < 2000; ++i) {
            const std::string text = std::to_string(i);
            std::array<datagram, 2> two{datagram(text, server.local()), datagram(text, server.local())};
            co_await client.send_many(two);
            const std::string one = co_await hear(server);
            const std::string other = co_await hear(server);
            CHECK(one == text);
            CHECK(other == text);
        }
    });
    const itimerval never_more{};
    ::setitimer(ITIMER_REAL, &never_more, nullptr);
    ::sigaction(SIGALRM, &before, nullptr);
}

TEST_CASE("udp: descriptors are closed on exec, and never block (hazard C12)") {
    if (test::on_sim()) return;  // its numbers are no descriptors
    test::run([]() -> task<> {
        const udp_socket s = bind_here();
        CHECK((::fcntl(s.native_handle(), F_GETFD) & FD_CLOEXEC) != 0);
        CHECK((::fcntl(s.native_handle(), F_GETFL) & O_NONBLOCK) != 0);
        co_return;
    });
}

TEST_CASE("udp: a place is not written to once its receive has ended (hazard D1: liburing#733)") {
    test::run([]() -> task<> {
        udp_socket server = bind_here();
        udp_socket client = bind_here();
        std::size_t received = 0;
        constexpr int rounds = 300;
        for (int i = 0; i < rounds; ++i) {
            auto place = std::make_unique<std::array<char, 64>>();
            auto waits = spawn([&]() -> task<> {
                const received_datagram got = co_await server.receive_from(*place);
                received += got.size;
            });
            co_await test::others_first();
            co_await client.send_to("x", server.local());
            for (int j = 0; j < i % 4; ++j) co_await immediate();
            waits.cancel();
            static_cast<void>(co_await attempt(waits));
            place->fill('p');
            co_await immediate();
            CHECK(std::all_of(place->begin(), place->end(), [](char c) { return c == 'p'; }));
        }
        char into[64];
        while (received < rounds) {  // and none of them is lost
            const received_datagram got = co_await server.receive_from(into);
            received += got.size;
        }
        CHECK(received == rounds);
    });
}

TEST_CASE("udp: more sockets wait than the ring has entries (hazard D6: liburing#396)") {
    loop_options options;
    options.backend.ring_entries = 8;
    rondo::run(options, []() -> task<> {
        constexpr std::size_t count = 200;
        std::vector<udp_socket> sockets;
        for (std::size_t i = 0; i < count; ++i) sockets.push_back(bind_here());
        std::size_t heard = 0;
        co_await with_task_group([&](task_group& group) -> task<> {
            for (udp_socket& each : sockets)
                group
                    .spawn(
                        [](udp_socket& s, std::size_t& n) -> task<> {
                            const std::string text = co_await hear(s);
                            n += text == "x";
                        },
                        std::ref(each), std::ref(heard))
                    .discard();
            co_await test::settle();
            for (udp_socket& each : sockets) co_await sockets[0].send_to("x", each.local());
        });
        CHECK(heard == count);
    });
}

TEST_CASE("udp: a close with a receive in flight, and a loop that ends under one, end it (hazards D4, D14)") {
    const std::size_t before = test::open_descriptors();
    {
        loop l;
        run_on(l, []() -> task<> {
            udp_socket server = bind_here();
            char into[16];
            auto waits = spawn([&]() -> task<> { co_await server.receive_from(into); });
            co_await test::settle();
            co_await server.close();
            const auto ended = co_await attempt(waits);
            CHECK(ended.error() == std::errc::bad_file_descriptor);
        });
        auto left = spawn_on(l, []() -> task<> {
            udp_socket server = bind_here();
            char into[16];
            co_await server.receive_from(into);
        });
        l.run_nowait();
        CHECK_FALSE(left.done());
    }
    CHECK(test::open_descriptors() == before);
}

}  // namespace
