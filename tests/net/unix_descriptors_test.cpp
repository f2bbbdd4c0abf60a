// Descriptors that go along with bytes and messages of Unix sockets: nothing of them is lost, or left.
#include "support/directory.hpp"
#include "support/net.hpp"

#include <rondo/sim/world.hpp>
#include <rondo/testing/every_step.hpp>
#include <rondo/io/owned_descriptor.hpp>
#include <rondo/net/unix.hpp>
#include <rondo/net/unix_datagram.hpp>
#include <rondo/net/unix_seqpacket.hpp>

#include <array>
#include <vector>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace rondo;
using namespace std::literals;
using test::error_of;

static_assert(reversible_wait<detail::receive_descriptors_awaiter>);
static_assert(wait_operation<detail::send_descriptors_awaiter> && !reversible_wait<detail::send_descriptors_awaiter>);

namespace {

using place = std::array<char, 64>;

/// As many as are open in this process, or world.
std::size_t open_here() { return test::on_sim() ? test::simulated_descriptors(this_loop()) : test::open_descriptors(); }

/// Something to pass on: whoever has the other end can tell whether this one is still there.
struct parcel {
    parcel() : parcel(unix_stream::pair()) {}
    int fd() const { return inside.native_handle(); }

    unix_stream inside;
    unix_stream outside;

 private:
    explicit parcel(std::pair<unix_stream, unix_stream> both)
        : inside(std::move(both.first)), outside(std::move(both.second)) {}
};

/// The far end of a parcel that nobody has any more.
task<bool> is_gone(parcel& of) {
    co_await of.inside.close();
    co_await test::settle();
    std::byte into[1];
    const rondo::result<std::size_t> got = of.outside.try_read_some(into);
    co_return got.has_value() && *got == 0;
}

/// That it is just this one: a word goes through.
task<bool> leads_to(owned_descriptor& one, parcel& from) {
    unix_stream made = unix_stream::from_fd(one.release());
    co_await made.write_all("hello");
    place into;
    const std::size_t got = co_await from.outside.read_exactly(writable_bytes(into.data(), 5));
    co_await made.close();
    co_return std::string_view(into.data(), got) == "hello";
}

TEST_CASE("descriptors: one goes along with bytes of a stream, and lives on when the sender closes its own") {
    test::run([]() -> task<> {
        auto [left, right] = unix_stream::pair();
        parcel sent;
        const int fds[] = {sent.fd()};
        const std::size_t count = co_await left.send_with_descriptors("take this", fds);
        CHECK(count == 9);
        co_await sent.inside.close();
        place into;
        owned_descriptor got[1];
        const received_with_descriptors came = co_await right.receive_with_descriptors(into, got);
        CHECK(came.descriptors == 1);
        CHECK(came.size >= 1);
        CHECK(got[0].is_open());
        if (!test::on_sim()) CHECK((::fcntl(got[0].native_handle(), F_GETFD) & FD_CLOEXEC) != 0);
        const bool same = co_await leads_to(got[0], sent);
        CHECK(same);
        const bool gone = co_await is_gone(sent);
        CHECK(gone);
    });
}

TEST_CASE("descriptors: over datagrams and packets, too") {
    test::run([]() -> task<> {
        auto [left, right] = unix_datagram_socket::pair();
        auto [first, second] = unix_seqpacket::pair();
        place into;
        owned_descriptor got[2];
        parcel one, two;
        const int fds[] = {one.fd(), two.fd()};
        co_await left.send("", fds);  // a datagram needs no byte
        const received_unix_datagram datagram = co_await right.receive(into, got);
        CHECK(datagram.size == 0);
        CHECK(datagram.descriptors == 2);
        bool same = co_await leads_to(got[0], one);
        CHECK(same);
        same = co_await leads_to(got[1], two);
        CHECK(same);
        co_await first.send("packet", fds);
        const received_packet packet = co_await second.receive(into, got);
        CHECK(packet.size == 6);
        CHECK_FALSE(packet.end);
        CHECK(packet.descriptors == 2);
        same = co_await leads_to(got[1], two);
        CHECK(same);
        CHECK(first.try_send("packet", fds).has_value());
        const rondo::result<received_packet> at_once = second.try_receive(into, got);
        CHECK(at_once->descriptors == 2);
        CHECK(left.try_send("datagram", fds).has_value());
        CHECK(right.try_receive(into, got)->descriptors == 2);
    });
}

TEST_CASE("descriptors: those of each send stay with its bytes, and bytes without any come without any") {
    test::run([]() -> task<> {
        auto [left, right] = unix_stream::pair();
        parcel one, two;
        const int first[] = {one.fd()};
        const int second[] = {two.fd()};
        co_await left.write_all("a");
        co_await left.send_with_descriptors("b", first);
        co_await left.send_with_descriptors("c", second);
        co_await left.write_all("d");
        left.shutdown();
        std::string bytes;
        std::string with;
        for (;;) {
            place into;
            owned_descriptor got[4];
            const received_with_descriptors came = co_await right.receive_with_descriptors(into, got);
            if (came.size == 0) break;
            bytes.append(into.data(), came.size);
            CHECK(came.descriptors <= 1);
            if (came.descriptors == 0) continue;
            with += bytes.back();  // what comes with descriptors ends a read
            parcel& expected = bytes.back() == 'b' ? one : two;
            const bool same = co_await leads_to(got[0], expected);
            CHECK(same);
        }
        CHECK(bytes == "abcd");
        CHECK(with == "bc");
    });
}

TEST_CASE("descriptors: 253 go at once, and no more; on a stream not without a byte") {
    test::run([]() -> task<> {
        auto [left, right] = unix_stream::pair();
        auto [first, second] = unix_datagram_socket::pair();
        parcel sent;
        std::vector<int> fds(253, sent.fd());
        std::vector<owned_descriptor> got(300);
        const std::size_t before = open_here();
        co_await left.send_with_descriptors("x", fds);
        place into;
        const received_with_descriptors came = co_await right.receive_with_descriptors(into, got);
        CHECK(came.descriptors == 253);
        CHECK(open_here() == before + 253);
        CHECK(got[252].is_open());
        CHECK_FALSE(got[253].is_open());
        got.clear();
        co_await test::settle();
        CHECK(open_here() == before);

        fds.push_back(sent.fd());
        const auto many = co_await attempt(left.send_with_descriptors("x", fds));
        CHECK(many.error() == std::errc::invalid_argument);
        CHECK(many.failure().message() == "send more than 253 descriptors at once: Invalid argument");
        CHECK(first.try_send("x", fds).error() == std::errc::invalid_argument);
        const auto datagram = co_await attempt(first.send("x", fds));
        CHECK(datagram.failure().message() == many.failure().message());
        const int one[] = {sent.fd()};
        std::size_t written = 7;
        const auto nothing = co_await attempt(left.send_with_descriptors("", one, &written));
        CHECK(nothing.failure().message() == "send descriptors go with a byte, and there is none: Invalid argument");
        CHECK(written == 0);
        const int closed[] = {-1};
        const std::error_code none = co_await error_of(left.send_with_descriptors("x", closed));
        CHECK(none == std::errc::bad_file_descriptor);
        std::byte rest[1];
        CHECK(right.try_read_some(rest).error() == std::errc::resource_unavailable_try_again);
    });
}

TEST_CASE("descriptors: a read that asks for none closes those that come with its bytes") {
    test::run([]() -> task<> {
        auto [left, right] = unix_stream::pair();
        auto [first, second] = unix_datagram_socket::pair();
        place into;
        const std::size_t before = open_here();
        for (int how = 0; how < 5; ++how) {
            CAPTURE(how);
            parcel sent;
            const int fds[] = {sent.fd()};
            if (how < 4) {
                co_await left.send_with_descriptors("x", fds);
            } else {
                co_await first.send("x", fds);
            }
            if (how == 0) {
                const std::size_t got = co_await right.read_some(into);
                CHECK(got == 1);
            } else if (how == 1) {
                const buffer got = co_await right.receive();
                CHECK(got.size() == 1);
            } else if (how == 2) {
                CHECK(right.try_read_some(into).value() == 1);
            } else if (how == 3) {
                const received_with_descriptors got = co_await right.receive_with_descriptors(into, {});
                CHECK(got.descriptors == 0);
            } else {
                const received_unix_datagram got = co_await second.receive(into);
                CHECK(got.descriptors == 0);
            }
            const bool gone = co_await is_gone(sent);
            CHECK(gone);
        }
        co_await test::settle();
        CHECK(open_here() == before);
    });
}

TEST_CASE("descriptors: what has been read ahead by nobody's wish takes no descriptors of later bytes away") {
    test::run([]() -> task<> {
        auto [left, right] = unix_stream::pair();
        parcel sent;
        const int fds[] = {sent.fd()};
        co_await left.write_all("line\n");
        std::string line;
        while (line.size() < 5) {
            const buffer part = co_await right.receive();
            line += part.text();
        }
        CHECK(line == "line\n");
        // A read that is given up takes nothing either.
        const auto late = co_await attempt(with_timeout(1ms, right.receive()));
        CHECK(late.error() == std::errc::timed_out);
        co_await left.send_with_descriptors("x", fds);
        co_await test::settle();
        place into;
        owned_descriptor got[1];
        const received_with_descriptors came = co_await right.receive_with_descriptors(into, got);
        CHECK(came.size == 1);
        CHECK(came.descriptors == 1);
    });
}

TEST_CASE("descriptors: more than there are places for are an error; they are closed, and their bytes come next") {
    test::run([]() -> task<> {
        auto [left, right] = unix_stream::pair();
        parcel one, two;
        const int fds[] = {one.fd(), two.fd()};
        co_await left.send_with_descriptors("x", fds);
        const std::size_t before = open_here();
        place into;
        owned_descriptor got[1];
        const auto came = co_await attempt(right.receive_with_descriptors(into, got));
        CHECK(came.error() == std::errc::message_size);
        CHECK(came.failure().message() == "receive more descriptors than there are places for: Message too long");
        CHECK_FALSE(got[0].is_open());
        CHECK(open_here() == before);
        const received_with_descriptors bytes = co_await right.receive_with_descriptors(into, got);
        CHECK(bytes.size == 1);
        CHECK(bytes.descriptors == 0);
        for (parcel* each : {&one, &two}) {
            const bool gone = co_await is_gone(*each);
            CHECK(gone);
        }
        auto [first, second] = unix_seqpacket::pair();
        parcel three, four;
        const int more[] = {three.fd(), four.fd()};
        co_await first.send("lost", more);
        co_await first.send("next");
        const std::error_code lost = co_await error_of(second.receive(into, got));
        CHECK(lost == std::errc::message_size);
        const received_packet next = co_await second.receive(into, got);
        CHECK(std::string_view(into.data(), next.size) == "next");
    });
}

TEST_CASE("descriptors: a process that may have no more is told so, and has none of them") {
    if (test::on_sim()) return;  // see the test of a world's hosts
    test::run([]() -> task<> {
        auto [left, right] = unix_stream::pair();
        parcel sent;
        const int fds[] = {sent.fd(), sent.fd(), sent.fd()};
        co_await left.send_with_descriptors("x", fds);
        const std::size_t before = open_here();
        rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit);
        const int next = ::dup(sent.fd());  // the lowest free number
        ::close(next);
        rlimit tight = limit;
        tight.rlim_cur = static_cast<rlim_t>(next) + 2;
        ::setrlimit(RLIMIT_NOFILE, &tight);
        place into;
        owned_descriptor got[3];
        const std::error_code none = co_await error_of(right.receive_with_descriptors(into, got));
        ::setrlimit(RLIMIT_NOFILE, &limit);
        CHECK(none == std::errc::too_many_files_open);
        CHECK(open_here() == before);
        const received_with_descriptors bytes = co_await right.receive_with_descriptors(into, got);
        CHECK(bytes.size == 1);
        CHECK(bytes.descriptors == 0);
    });
}

/// Two pairs of which one side waits for both, and both get something in the same turn.
template <class Socket>
struct two_pairs {
    std::pair<Socket, Socket> one = Socket::pair();
    std::pair<Socket, Socket> other = Socket::pair();
};

TEST_CASE("descriptors: a losing arm leaves bytes and descriptors together") {
    test::run([]() -> task<> {
        for (int how = 0; how < 4; ++how) {
            CAPTURE(how);
            two_pairs<unix_stream> pairs;
            parcel sent;
            const int fds[] = {sent.fd()};
            auto sends = [&]() -> task<> {
                co_await pairs.one.first.send_with_descriptors("x", fds);
                co_await pairs.other.first.send_with_descriptors("x", fds);
                co_await pairs.one.first.write_all("y");
                co_await pairs.other.first.write_all("y");
            };
            auto sender = spawn(sends);
            place into, also;
            owned_descriptor got[2], more[2];
            auto chosen = co_await select_one(pairs.one.second.receive_with_descriptors(into, got),
                                              pairs.other.second.receive_with_descriptors(also, more));
            co_await sender;
            CHECK(got[0].is_open() != more[0].is_open());
            got[0].reset();
            more[0].reset();
            unix_stream& lost = chosen.index() == 0 ? pairs.other.second : pairs.one.second;
            unix_stream& won = chosen.index() == 0 ? pairs.one.second : pairs.other.second;
            if (how == 0) {  // whoever asks has both
                const received_with_descriptors came = co_await lost.receive_with_descriptors(into, got);
                CHECK(came.size == 1);
                CHECK(came.descriptors == 1);
                const bool same = co_await leads_to(got[0], sent);
                CHECK(same);
            } else if (how == 1) {  // whoever does not ask closes them with the first byte
                const std::size_t one = co_await lost.read_some(into);
                CHECK(one == 1);
                const bool gone = co_await is_gone(sent);
                CHECK(gone);
            } else if (how == 2) {
                const buffer borrowed = co_await lost.receive();
                CHECK(borrowed.text() == "x");
                const bool gone = co_await is_gone(sent);
                CHECK(gone);
            } else {  // and with the stream
                lost = {};
                const bool gone = co_await is_gone(sent);
                CHECK(gone);
            }
            for (unix_stream* each : {&won, &lost}) {
                if (!each->is_open()) continue;
                const received_with_descriptors rest = co_await each->receive_with_descriptors(into, got);
                CHECK(rest.size == 1);
                CHECK(rest.descriptors == 0);
            }
        }
    });
}

TEST_CASE("descriptors: a losing arm leaves a message and its descriptors together, or not at all") {
    test::run([]() -> task<> {
        for (const std::size_t room : {2u, 1u, 0u}) {
            CAPTURE(room);
            two_pairs<unix_seqpacket> pairs;
            parcel sent;
            const int fds[] = {sent.fd(), sent.fd()};
            auto sends = [&]() -> task<> {
                co_await pairs.one.first.send("message", fds);
                co_await pairs.other.first.send("message", fds);
            };
            auto sender = spawn(sends);
            place into, also;
            owned_descriptor got[2], more[2];
            auto chosen = co_await select_one(pairs.one.second.receive(writable_bytes(into.data(), 4), got),
                                              pairs.other.second.receive(writable_bytes(also.data(), 4), more));
            co_await sender;
            for (owned_descriptor& each : got) each.reset();
            for (owned_descriptor& each : more) each.reset();
            unix_seqpacket& lost = chosen.index() == 0 ? pairs.other.second : pairs.one.second;
            const auto came = co_await attempt(lost.receive(into, std::span(got, room)));
            if (room == 1) {
                CHECK(came.error() == std::errc::message_size);
            } else {
                // In the same turn or not: the arm had got it already, or was ended before.
                CHECK(std::string_view(into.data(), came->size) == (came->truncated ? "mess" : "message"));
                CHECK(came->descriptors == room);
            }
            for (owned_descriptor& each : got) each.reset();
            const bool gone = co_await is_gone(sent);
            CHECK(gone);
        }
    });
}

TEST_CASE("descriptors: those on their way end with the socket that they were sent to") {
    test::run([]() -> task<> {
        const std::size_t before = open_here();
        for (int how = 0; how < 3; ++how) {
            parcel sent;
            const int fds[] = {sent.fd()};
            if (how == 0) {
                auto [left, right] = unix_stream::pair();
                co_await left.send_with_descriptors("x", fds);
            } else if (how == 1) {
                auto [left, right] = unix_datagram_socket::pair();
                co_await left.send("x", fds);
            } else {
                auto [left, right] = unix_seqpacket::pair();
                co_await left.send("x", fds);
            }
            const bool gone = co_await is_gone(sent);
            CHECK(gone);
        }
        co_await test::settle();
        CHECK(open_here() == before);
    });
}

TEST_CASE("descriptors: a number that had another owner before is a new one") {
    test::run([]() -> task<> {
        auto [left, right] = unix_stream::pair();
        for (int i = 0; i < 3; ++i) {
            {
                // The loop has much to remember of these numbers: they were read to the end, and waited for.
                auto [one, other] = unix_stream::pair();
                const auto nothing = co_await attempt(with_timeout(1ms, one.receive()));
                CHECK(nothing.error() == std::errc::timed_out);
                const auto none = co_await attempt(with_timeout(1ms, other.receive()));
                CHECK(none.error() == std::errc::timed_out);
                co_await one.close();
                co_await other.close();
            }
            parcel sent;
            const int fds[] = {sent.fd(), sent.fd()};
            co_await left.send_with_descriptors("x", fds);
            place into;
            owned_descriptor got[2];
            const received_with_descriptors came = co_await right.receive_with_descriptors(into, got);
            CHECK(came.descriptors == 2);
            for (owned_descriptor& each : got) {
                co_await sent.outside.write_all("?");
                if (!test::on_sim()) co_await wait_readable(each.native_handle());
                const std::string_view asked = "?";
                std::byte seen[1];
                if (test::on_sim()) {
                    const std::size_t n = co_await sent.inside.read_some(seen);
                    CHECK(n == asked.size());
                } else {
                    CHECK(::read(each.native_handle(), seen, 1) == 1);
                }
            }
            const bool same = co_await leads_to(got[0], sent);
            CHECK(same);
        }
    });
}

TEST_CASE("descriptors: a listener changes hands, and serves there") {
    test::run([]() -> task<> {
        auto [left, right] = unix_stream::pair();
        tcp_listener before = test::listen();
        const endpoint at = before.local();
        const int fds[] = {before.native_handle()};
        co_await left.send_with_descriptors("listener", fds);
        co_await before.close();
        place into;
        owned_descriptor got[1];
        const received_with_descriptors came = co_await right.receive_with_descriptors(into, got);
        CHECK(came.descriptors == 1);
        tcp_listener after = tcp_listener::from_fd(got[0].release());
        CHECK(after.local().port() == at.port());
        tcp_stream client = co_await tcp_stream::connect(at);
        tcp_stream server = co_await after.accept();
        CHECK(server.is_open());
    });
}

TEST_CASE("descriptors: a simulated world passes on what it simulates, and names what it does not") {
    if (!test::on_sim()) return;
    test::run([]() -> task<> {
        auto [left, right] = unix_stream::pair();
        auto [first, second] = unix_datagram_socket::pair();
        const int fds[] = {0};
        std::string said;
        try {
            co_await left.send_with_descriptors("x", fds);
        } catch (const not_simulated& e) {
            said = e.operation();
        }
        CHECK(said == "send a descriptor that is not simulated");
        bool thrown = false;
        try {
            co_await first.send("x", fds);
        } catch (const not_simulated&) {
            thrown = true;
        }
        CHECK(thrown);
        place into;
        CHECK(second.try_receive(into).error() == std::errc::resource_unavailable_try_again);
    });
}

TEST_CASE("descriptors: a host that crashes takes those on their way with it, also where they hold each other") {
    for (const bool silently : {false, true}) {
        world w;
        host& gone = w.host("gone");
        gone.run([]() -> task<> {
            auto [left, right] = unix_stream::pair();
            auto [first, second] = unix_seqpacket::pair();
            parcel sent;
            const int fds[] = {sent.fd(), second.native_handle()};
            co_await left.send_with_descriptors("x", fds);
            const int each_other[] = {right.native_handle(), second.native_handle()};
            co_await first.send("x", each_other);
            co_await sent.inside.close();
            co_await second.close();
            co_await right.close();
            co_await sleep_for(1h);
        });
        w.run([&]() -> task<> {
            co_await sleep_for(1s);
            CHECK(gone.descriptors() == 3);
            gone.crash(silently ? crash_mode::silent : crash_mode::reset);
            co_await w.wait_all_blocked();
            CHECK(gone.descriptors() == 0);
        });
    }
}

TEST_CASE("descriptors: a simulated host that may have no more is told so") {
    world w;
    host& small = w.host("small");
    small.run([&]() -> task<> {
        auto [left, right] = unix_stream::pair();
        parcel sent;
        const int fds[] = {sent.fd(), sent.fd()};
        co_await left.send_with_descriptors("x", fds);
        small.descriptor_limit(small.descriptors() + 1);
        place into;
        owned_descriptor got[2];
        const std::error_code none = co_await error_of(right.receive_with_descriptors(into, got));
        CHECK(none == std::errc::too_many_files_open);
        CHECK(small.descriptors() == 4);
        const received_with_descriptors bytes = co_await right.receive_with_descriptors(into, got);
        CHECK(bytes.size == 1);
        CHECK(bytes.descriptors == 0);
    });
    w.run([]() -> task<> { co_await sleep_for(1s); });
}

TEST_CASE("descriptors: cancelled at every step, none is lost and none is left") {
    const auto program = []() -> task<> {
        auto [left, right] = unix_stream::pair();
        auto [first, second] = unix_seqpacket::pair();
        auto sends = [](unix_stream& by, unix_seqpacket& also) -> task<> {
            for (int i = 0; i < 3; ++i) {
                parcel sent;
                const int fds[] = {sent.fd(), sent.outside.native_handle()};
                co_await by.send_with_descriptors("ab", fds);
                co_await yield();
                co_await also.send("packet", fds);
            }
            by.shutdown();
            also.shutdown();
        };
        auto receives = [](unix_stream& from) -> task<> {
            std::size_t all = 0;
            for (;;) {
                place into;
                owned_descriptor got[4];
                const received_with_descriptors came = co_await from.receive_with_descriptors(into, got);
                if (came.size == 0) break;
                all += came.descriptors;
            }
            CHECK(all == 6);
        };
        auto takes = [](unix_seqpacket& from) -> task<> {
            for (;;) {
                place into;
                owned_descriptor got[4];
                const received_packet came = co_await from.receive(into, got);
                if (came.end) break;
                CHECK(came.descriptors == 2);
            }
        };
        auto all = [&](task_group& group) -> task<> {
            group.spawn(receives, std::ref(right));
            group.spawn(takes, std::ref(second));
            group.spawn(sends, std::ref(left), std::ref(first));
            co_return;
        };
        co_await with_task_group(all);
    };
    const auto everywhere = testing::cancel_at_every_step(program);
    CHECK_MESSAGE(everywhere.ok(), everywhere.text());
}

}  // namespace
