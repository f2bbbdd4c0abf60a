// What a kernel may answer to each call that is about datagrams, put there by a backend round the one under test; and
// cancelling at every step.
#include <rondo/net/udp.hpp>

#include "support/answering_backend.hpp"
#include "support/every_step.hpp"
#include "support/net.hpp"

#include <array>
#include <cerrno>
#include <deque>
#include <string>
#include <vector>

using namespace rondo;
using namespace std::literals;
using test::answers;
using test::error_of;
using test::with_answers;

namespace {

udp_socket bind_here() { return udp_socket::bind("127.0.0.1", 0); }

task<std::string> hear(udp_socket& on) {
    char into[64];
    const received_datagram got = co_await on.receive_from(into);
    co_return std::string(into, got.size);
}

TEST_CASE("udp: whatever a kernel answers to a send is told to who sends, by every verb, and the socket goes on") {
    for (const int error : {ENOBUFS, EMSGSIZE, ECONNREFUSED, ENETUNREACH, EPERM, EHOSTUNREACH, ENETDOWN, ENOMEM}) {
        CAPTURE(error);
        const std::error_code code = errno_code(error);
        with_answers([&](answers& say) -> task<> {
            udp_socket server = bind_here();
            udp_socket client = bind_here();
            auto& to_sends = say.to_ops[io_kind::send_datagrams];
            to_sends = {-error, -error, -error, -error, -error};
            std::size_t sent = 99;
            std::array<datagram, 2> out{datagram("a", server.local()), datagram("b", server.local())};
            try {
                co_await client.send_to("x", server.local());
                FAIL("it was sent");
            } catch (const io_error& e) {
                CHECK(e.code() == code);
                CHECK(e.operation() == "send"sv);
                CHECK(e.subject() == server.local().to_string());
            }
            const auto attempted = co_await attempt(client.send_to("x", server.local()));
            CHECK(attempted.error() == code);
            const std::error_code segments = co_await error_of(client.send_segments("xyz", 1, server.local(), &sent));
            CHECK(segments == code);
            CHECK(sent == 0);
            sent = 99;
            const std::error_code many = co_await error_of(client.send_many(out, &sent));
            CHECK(many == code);
            CHECK(sent == 0);
            client.connect(server.local());
            const std::error_code connected = co_await error_of(client.send("x"));
            CHECK(connected == code);

            say.to_calls[sys_op::call::try_send_datagrams] = {-error, -error};
            CHECK(client.try_send("x").error() == code);
            CHECK(client.try_send_many(out).error() == code);
            client.disconnect();
            co_await client.send_to("well", server.local());
            const std::string heard = co_await hear(server);
            CHECK(heard == "well");
        });
    }
}

TEST_CASE(
    "udp: a receive without a peer does not hear what others' hosts say, at once or later; a connected one does") {
    for (const int error : {ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EPROTO, EMSGSIZE}) {
        CAPTURE(error);
        const std::error_code code = errno_code(error);
        with_answers([&](answers& say) -> task<> {
            udp_socket server = bind_here();
            udp_socket healthy = bind_here();
            auto& to_receives = say.to_ops[io_kind::receive_datagrams];
            for (const std::size_t late : {0, 1, 2}) {
                CAPTURE(late);
                to_receives = {-error, -error, -error};
                say.reported_late = late;
                co_await healthy.send_to("ping", server.local());
                const std::string heard = co_await hear(server);
                CHECK(heard == "ping");
            }
            to_receives = {-error};
            co_await healthy.send_to("ping", server.local());
            char into[16];
            std::array<datagram, 2> places{datagram::place(into), datagram::place(into)};
            const std::size_t count = co_await server.receive_many(places);
            CHECK(count == 1);
            say.to_calls[sys_op::call::try_receive_datagrams] = {-error, -error};
            CHECK(server.try_receive_from(into).error() == std::errc::resource_unavailable_try_again);

            server.connect(healthy.local());
            to_receives = {-error, -error};
            try {
                static_cast<void>(co_await server.receive(into));
                FAIL("nothing was there");
            } catch (const io_error& e) {
                CHECK(e.code() == code);
                CHECK(e.operation() == "receive"sv);
                CHECK(e.subject() == healthy.local().to_string());
            }
            const auto many = co_await attempt(server.receive_many(places));
            CHECK(many.error() == code);
            say.to_calls[sys_op::call::try_receive_datagrams] = {-error};
            CHECK(server.try_receive(into).error() == code);
        });
    }
}

TEST_CASE("udp: what is the socket's own fault ends a receive, connected or not") {
    for (const int error : {ENOBUFS, ENOMEM, EBADF, ENETDOWN, EINVAL}) {
        CAPTURE(error);
        const std::error_code code = errno_code(error);
        with_answers([&](answers& say) -> task<> {
            udp_socket server = bind_here();
            char into[16];
            say.to_ops[io_kind::receive_datagrams] = {-error};
            const std::error_code told = co_await error_of(server.receive_from(into));
            CHECK(told == code);
            say.to_calls[sys_op::call::try_receive_datagrams] = {-error};
            CHECK(server.try_receive_from(into).error() == code);
        });
    }
}

TEST_CASE("udp: a kernel that says nothing else is believed in the end") {
    with_answers([](answers& say) -> task<> {
        udp_socket server = bind_here();
        say.to_ops[io_kind::receive_datagrams] = std::deque<int>(1025, -ECONNREFUSED);
        char into[16];
        const std::error_code told = co_await error_of(server.receive_from(into));
        CHECK(told == std::errc::connection_refused);
    });
}

TEST_CASE("udp: a receive that is cancelled while others' hosts are heard of ends, and waits no more") {
    with_answers([](answers& say) -> task<> {
        udp_socket server = bind_here();
        say.to_ops[io_kind::receive_datagrams] = {-ECONNREFUSED};
        say.reported_late = 1;
        auto waits = spawn(hear, std::ref(server));
        co_await test::others_first();
        waits.cancel();
        const auto ended = co_await attempt(waits);
        CHECK(ended.error() == std::errc::operation_canceled);
    });
}

TEST_CASE("udp: what a kernel answers to every call that makes or changes a socket is told, thrown or not") {
    for (const int error : {EMFILE, ENOBUFS, EACCES, EPERM, EADDRINUSE, ENETUNREACH}) {
        CAPTURE(error);
        const std::error_code code = errno_code(error);
        with_answers([&](answers& say) -> task<> {
            using call = sys_op::call;
            using option = sys_op::option;
            const endpoint at("127.0.0.1", 0);
            say.to_calls[call::udp_socket] = {-error, -error, -error, -error};
            CHECK(udp_socket::try_bind(at).error() == code);
            CHECK(udp_socket::try_unbound_v4().error() == code);
            CHECK(udp_socket::try_unbound_v6().error() == code);
            CHECK_THROWS_AS(static_cast<void>(udp_socket::unbound_v4()), io_error);
            say.to_calls[call::bind] = {-error};
            CHECK(udp_socket::try_bind(at).error() == code);
            const udp_options all{.reuse_address = true,
                                  .reuse_port = true,
                                  .broadcast = true,
                                  .receive_buffer_size = 10'000,
                                  .send_buffer_size = 10'000};
            for (const option each : {option::reuse_address, option::reuse_port, option::broadcast,
                                      option::receive_buffer, option::send_buffer}) {
                say.to_options[each] = {-error};
                CHECK(udp_socket::try_bind(at, all).error() == code);
            }
            say.to_options[option::receive_segments] = {-error};  // then they come one by one
            CHECK(udp_socket::try_bind(at, {.receive_segments = true}).has_value());

            udp_socket s = udp_socket::bind(at);
            say.to_options[option::broadcast] = {-error};
            CHECK(s.try_broadcast(true).error() == code);
            say.to_options[option::ttl] = {-error};
            CHECK(s.try_ttl(3).error() == code);
            say.to_options[option::receive_buffer] = {-error};
            CHECK(s.try_receive_buffer_size(10'000).error() == code);
            say.to_options[option::send_buffer] = {-error};
            CHECK(s.try_send_buffer_size(10'000).error() == code);
            say.to_options[option::multicast_ttl] = {-error};
            CHECK(s.try_multicast_ttl(3).error() == code);
            say.to_options[option::multicast_loop] = {-error};
            CHECK(s.try_multicast_loop(false).error() == code);
            say.to_options[option::multicast_interface] = {-error, -error};
            CHECK(s.try_multicast_interface(1).error() == code);
            CHECK_THROWS_AS(s.multicast_interface(1), io_error);
            const ip_address group = ip_address::parse("239.1.2.3");
            say.to_calls[call::join_group] = {-error, -error};
            CHECK(s.try_join_group(group).error() == code);
            CHECK_THROWS_AS(s.join_group(group), io_error);
            say.to_calls[call::leave_group] = {-error, -error};
            CHECK(s.try_leave_group(group).error() == code);
            CHECK_THROWS_AS(s.leave_group(group), io_error);
            say.to_calls[call::udp_connect] = {-error, -error, -error};
            CHECK(s.try_connect(endpoint("127.0.0.1", 9)).error() == code);
            CHECK_FALSE(s.is_connected());
            CHECK(s.try_disconnect().error() == code);
            CHECK_THROWS_AS(s.connect(endpoint("127.0.0.1", 9)), io_error);
            say.to_calls[call::local_address] = {-error};
            CHECK(s.try_local().error() == code);
            co_return;
        });
    }
}

// --- cancelled at every step

TEST_CASE("udp: echoes, batches and segments are cancelled at every step, and leave nothing") {
    const int points = test::cancel_at_every_step([]() -> task<> {
        udp_socket server = bind_here();
        udp_socket client = bind_here();
        const endpoint at = server.local();
        const auto echo = [&]() -> task<> {
            std::array<std::array<char, 32>, 4> memory;
            std::array<datagram, 4> batch;
            for (std::size_t i = 0; i < batch.size(); ++i) batch[i] = datagram::place(memory[i]);
            for (;;) {
                const std::size_t count = co_await server.receive_many(batch);
                co_await server.send_many(std::span(batch).first(count));
            }
        };
        const auto body = [&](task_group& group) -> task<> {
            group.spawn_background(echo).discard();
            for (int i = 0; i < 3; ++i) {
                co_await client.send_to("ping", at);
                const std::string answer = co_await hear(client);
                CHECK(answer == "ping");
            }
            co_await client.send_segments("abcdefgh", 3, at);
            std::string all;
            for (int i = 0; i < 3; ++i) {
                const std::string part = co_await hear(client);
                all += part;
            }
            CHECK(all == "abcdefgh");
        };
        co_await with_task_group(body);
        co_await client.close();
    });
    CHECK(points > 10);
}

TEST_CASE("udp: a receive that is an arm is cancelled at every step, and leaves nothing") {
    const int points = test::cancel_at_every_step([]() -> task<> {
        udp_socket server = bind_here();
        channel<int> other(1);
        char into[16];
        for (int i = 0; i < 3; ++i) {
            co_await server.send_to("x", server.local());
            co_await immediate();
            if (i == 1) co_await other.send(1);
            static_cast<void>(co_await select_one(other.receive(), server.receive_from(into)));
        }
    });
    CHECK(points >= 3);
}

}  // namespace
