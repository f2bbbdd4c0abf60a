// A byte stream under load, and the kinds of memory that it reads into and writes from.
#include "support/tcp.hpp"

#include <array>
#include <vector>

using namespace test::streams;

namespace {

task<> writes_any_bytes(tcp_stream& to) {
    const std::string text = "1 string, ";
    const std::vector<unsigned char> numbers = {'2', ' ', 'v', 'e', 'c', 't', 'o', 'r', ',', ' '};
    const std::array<std::byte, 2> raw = {std::byte{'3'}, std::byte{' '}};
    std::array<char, 4> fixed = {'4', ' ', '\0', ' '};
    const char* c_string = "5 ";
    char array[3] = {'6', '\0', ' '};  // no text but a buffer: all of it
    co_await to.write_all(text);
    co_await to.write_all(numbers);
    co_await to.write_all(raw);
    co_await to.write_all(fixed);
    co_await to.write_all(c_string);
    co_await to.write_all(array);
    co_await to.write_all("7 \0 ");
    co_await to.write_all(std::span(numbers).first(2));
    co_await to.write_all(text + "a temporary, ");
    co_await to.write_some(std::string_view("8"));
    co_await to.write_some({c_string, 1});
    const auto tried = to.try_write_some("!");
    CHECK(tried.value() == 1);
    co_await to.write_all(std::span<const char>());
    to.shutdown();
}

TEST_CASE("tcp: whatever holds bytes in a row can be written, a text without its zero") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        auto writer = spawn(writes_any_bytes, std::ref(c.client));
        const test::bytes all = co_await test::read_to_end(c.server);
        co_await writer;
        CHECK(test::as_text(all) == "1 string, 2 vector, 3 4 \0 5 6\0 7 \0 2 1 string, a temporary, 85!"s);
    });
}

// An array of zeros was taken for an empty text, and nothing was written.
TEST_CASE("tcp: what counts of a char array: all of one that can be written, of a constant all but a zero at its end") {
    static const char text[] = "a\0b";
    static const char no_text[] = {'a', '\0', 'b'};
    char buffer[64] = {};
    char* pointer = buffer;
    CHECK(bytes_view(buffer).size() == 64);
    CHECK(bytes_view(text).size() == 3);
    CHECK(bytes_view(no_text).size() == 3);
    CHECK(bytes_view("").size() == 0);
    CHECK(bytes_view("\0").size() == 1);
    CHECK(bytes_view(pointer).size() == 0);
    CHECK(bytes_view(static_cast<const char*>(text)).size() == 1);
    CHECK(bytes_view(buffer).data() == buffer);
    test::run([]() -> task<> {
        connection c = co_await connected();
        char zeros[64] = {};
        co_await c.client.write_all(zeros);
        c.client.shutdown();
        const test::bytes all = co_await test::read_to_end(c.server);
        CHECK(all == test::bytes(64));
    });
}

TEST_CASE("tcp: whatever holds writable bytes in a row can be read into") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        co_await c.client.write_all("abcdefghi");
        co_await test::settle();
        char array[2];
        std::string text(2, ' ');
        std::vector<unsigned char> numbers(1);
        std::array<std::byte, 1> raw;
        co_await c.server.read_exactly(array);
        CHECK(std::string_view(array, 2) == "ab");
        co_await c.server.read_exactly(text);
        CHECK(text == "cd");
        co_await c.server.read_some(numbers);
        CHECK(numbers[0] == 'e');
        co_await c.server.read_some(raw);
        CHECK(raw[0] == std::byte{'f'});
        co_await c.server.read_some(std::span(array).first(1));
        CHECK(std::string_view(array, 2) == "gb");
        co_await c.server.read_some({text.data(), 1});
        CHECK(text == "hd");
        const auto tried = c.server.try_read_some(numbers);
        CHECK(tried.value() == 1);
        CHECK(numbers[0] == 'i');
    });
}

task<> echo(tcp_stream& peer) {
    for (;;) {
        const buffer data = co_await peer.receive();
        if (data.empty()) break;
        co_await peer.write_all(data);
    }
    peer.shutdown();
}

task<> pump(tcp_stream& to, const bytes& data) {
    co_await to.write_all(data);
    to.shutdown();
}

task<> both_ways(std::size_t size) {
    connection c = co_await connected();
    const bytes there = make_pattern(1, 0, size);
    const bytes back = make_pattern(2, 0, size);
    auto client = spawn(pump, std::ref(c.client), std::cref(there));
    auto server = spawn(pump, std::ref(c.server), std::cref(back));
    auto at_client = spawn(test::read_to_end, std::ref(c.client));
    auto at_server = spawn(test::read_to_end, std::ref(c.server));
    const bytes got_back = co_await at_client;
    const bytes got_there = co_await at_server;
    co_await client;
    co_await server;
    CHECK(got_there == there);
    CHECK(got_back == back);
}

TEST_CASE("tcp: a mebibyte, and sixteen, in both directions at once") {
    test::run(both_ways, 1 << 20);
    test::run(both_ways, 16 << 20);
}

TEST_CASE("tcp: an echo gives a mebibyte back, byte for byte") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        const bytes data = make_pattern(4, 0, 1 << 20);
        auto echoing = spawn(echo, std::ref(c.server));
        auto sending = spawn(pump, std::ref(c.client), std::cref(data));
        const bytes back = co_await test::read_to_end(c.client);
        CHECK(back == data);
        co_await echoing;
        co_await sending;
    });
}

TEST_CASE("tcp: a thousand spans arrive in order, empty ones among them") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        std::vector<bytes> owned;
        std::vector<std::span<const std::byte>> parts;
        std::size_t total = 0;
        for (std::size_t i = 0; i < 1000; ++i) {
            owned.push_back(make_pattern(6, total, i % 7 == 0 ? 0 : (i * 37) % 900));
            total += owned.back().size();
        }
        for (const bytes& b : owned) parts.emplace_back(b);
        auto reader = spawn(test::read_to_end, std::ref(c.server));
        std::size_t written = 0;
        const std::size_t sent = co_await c.client.write_all(parts, &written);
        CHECK(sent == total);
        CHECK(written == total);
        c.client.shutdown();
        const bytes got = co_await reader;
        CHECK(got.size() == total);
        CHECK(is_pattern(got, 6));
    });
}

TEST_CASE("tcp: reading or writing nothing is nothing, at once") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        const std::size_t some = co_await c.client.read_some({});
        CHECK(some == 0);
        const std::size_t exact = co_await c.client.read_exactly({});
        CHECK(exact == 0);
        const std::size_t wrote = co_await c.client.write_some({});
        CHECK(wrote == 0);
        std::size_t written = 9;
        const std::size_t all = co_await c.client.write_all("", &written);
        CHECK(all == 0);
        CHECK(written == 0);
        const std::size_t none = co_await c.client.write_all(std::span<const std::span<const std::byte>>{});
        CHECK(none == 0);
        const std::span<const std::byte> empties[] = {{}, {}, {}};
        const std::size_t empty_parts = co_await c.client.write_all(empties);
        CHECK(empty_parts == 0);
        // An empty read is nothing on a stream with a stash, too, and takes nothing from it.
        co_await c.client.write_all("stash");
        co_await interrupted_read(c.server, 100);
        const std::size_t before = co_await c.server.read_some({});
        CHECK(before == 0);
        const auto tried = c.server.try_read_some({});
        CHECK((tried && *tried == 0));
        const std::string data = co_await test::receive_text(c.server, 5);
        CHECK(data == "stash");
    });
}

TEST_CASE("tcp: try_read_some and try_write_some never wait") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        std::byte into[16];
        CHECK(c.server.try_read_some(into).error() == std::errc::resource_unavailable_try_again);
        const auto sent = c.client.try_write_some(as_bytes("now"));
        REQUIRE(sent);
        CHECK((*sent == 3 || (*sent > 0 && test::seeded())));
        std::string all_read;
        while (all_read.size() < *sent) {
            const auto got = c.server.try_read_some(into);
            if (!got) co_await sleep_for(1ms);
            if (got) all_read += as_text(std::span(into).first(*got));
        }
        CHECK(all_read == std::string_view("now").substr(0, *sent));

        const bytes big = make_pattern(8, 0, 1 << 20);
        std::size_t in = 0;
        for (;;) {
            const auto part = c.client.try_write_some(std::span(big).subspan(in % 4096));
            if (!part) {
                CHECK(part.error() == std::errc::resource_unavailable_try_again);
                break;
            }
            in += *part;
        }
        CHECK(in > 0);
        c.client.shutdown();
        const bytes all = co_await test::read_to_end(c.server);
        CHECK(all.size() == in);
    });
}

TEST_CASE("tcp: write_some takes what fits, and says how much") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        const bytes data = make_pattern(2, 0, 3 << 20);
        auto reader = spawn(test::read_to_end, std::ref(c.server));
        std::size_t sent = 0;
        while (sent < data.size()) {
            const std::size_t n = co_await c.client.write_some(std::span(data).subspan(sent));
            REQUIRE(n > 0);
            sent += n;
        }
        c.client.shutdown();
        const bytes got = co_await reader;
        CHECK(got == data);
    });
}

task<> one_client(endpoint to, std::size_t which, std::size_t& served) {
    tcp_stream stream = co_await tcp_stream::connect(to);
    const bytes out = make_pattern(which, 0, 1000 + which);
    co_await stream.write_all(out);
    bytes in(out.size());
    const std::size_t n = co_await stream.read_exactly(in);
    CHECK(n == out.size());
    CHECK(in == out);
    stream.shutdown();
    const std::size_t end = co_await stream.read_some(in);
    CHECK(end == 0);
    ++served;
}

task<> echo_server(tcp_listener& listener, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        tcp_stream peer = co_await listener.accept();
        spawn([](tcp_stream s) -> task<> { co_await echo(s); }, std::move(peer)).discard();
    }
}

TEST_CASE("tcp: five hundred connections at once") {
    const std::size_t before = test::open_descriptors();
    test::run([]() -> task<> {
        constexpr std::size_t count = 500;
        tcp_listener listener = test::listen();
        std::size_t served = 0;
        auto server = spawn(echo_server, std::ref(listener), count);
        std::vector<task_handle<>> clients;
        for (std::size_t i = 0; i < count; ++i)
            clients.push_back(spawn(one_client, listener.local(), i, std::ref(served)));
        for (auto& client : clients) co_await client;
        co_await server;
        CHECK(served == count);
    });
    CHECK(test::open_descriptors() == before);
}

TEST_CASE("tcp: a stream that is always ready does not hold off the others") {
    test::run([]() -> task<> {
        connection busy = co_await connected();
        connection quiet = co_await connected();
        const bytes block = make_pattern(1, 0, 65536);
        auto flood = spawn([&]() -> task<> {
            for (;;) co_await busy.client.write_all(block);
        });
        std::size_t drained = 0;
        auto drain = spawn([&]() -> task<> {
            for (;;) {
                const buffer b = co_await busy.server.receive();
                drained += b.size();
            }
        });
        auto answering = spawn(echo, std::ref(quiet.server));
        for (int i = 0; i < 100; ++i) {
            const std::uint64_t turns = this_loop().stats().turns;
            co_await quiet.client.write_all("?");
            const std::string answer = co_await test::receive_text(quiet.client, 1);
            CHECK(answer == "?");
            CHECK(this_loop().stats().turns - turns < 5000);
        }
        CHECK(drained > 0);
        for (task_handle<>* each : {&flood, &drain, &answering}) {  // they borrow from this frame
            each->cancel();
            const auto ended = co_await attempt(*each);
            CHECK(ended.error() == std::errc::operation_canceled);
        }
    });
}

}  // namespace
