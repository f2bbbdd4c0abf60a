// Buffers that are borrowed from a loop.
#include "support/net.hpp"
#include "support/net.hpp"

#include <deque>
#include <vector>

using namespace rondo;
using namespace std::literals;
using test::bytes;
using test::connected;
using test::connection;
using test::is_pattern;
using test::make_pattern;

namespace {

TEST_CASE("tcp: more borrowed buffers than the ring has may be held, and given back late") {
    loop_options few;
    few.backend.receive_buffer_count = 2;
    few.backend.receive_buffer_size = 512;
    loop l(few);
    run_on(l, []() -> task<> {
        constexpr std::size_t connections = 20;
        tcp_listener listener = test::listen();
        std::deque<connection> all;
        for (std::size_t i = 0; i < connections; ++i) {
            connection c = co_await test::connect_to(listener);
            all.push_back(std::move(c));
        }
        for (int round = 0; round < 3; ++round) {
            for (std::size_t i = 0; i < connections; ++i) co_await all[i].client.write_all(make_pattern(i, 0, 300));
            std::vector<buffer> held;
            for (std::size_t i = 0; i < connections; ++i) {
                std::size_t got = 0;
                while (got < 300) {
                    buffer b = co_await all[i].server.receive();
                    REQUIRE_FALSE(b.empty());
                    CHECK(is_pattern(b, i, got));
                    got += b.size();
                    held.push_back(std::move(b));
                }
                CHECK(got == 300);
            }
            // Nobody else's bytes got into them meanwhile.
            std::size_t i = 0, at = 0;
            for (const buffer& b : held) {
                CHECK(is_pattern(b, i, at));
                at += b.size();
                if (at == 300) ++i, at = 0;
            }
            if (round == 1) held.clear();
            std::vector<buffer> moved = std::move(held);
            if (round == 2)
                for (connection& c : all) {
                    co_await c.client.close();
                    co_await c.server.close();
                }
            while (!moved.empty()) moved.erase(moved.begin());  // oldest first
        }
    });
}

TEST_CASE("tcp: a buffer outlives its stream, and moves") {
    test::run([]() -> task<> {
        buffer kept;
        CHECK(kept.empty());
        std::string read;  // a part of it, at least
        {
            connection c = co_await connected();
            co_await c.client.write_all("kept");
            buffer data = co_await c.server.receive();
            read = data.text();
            CHECK((!read.empty() && std::string_view("kept").starts_with(read)));
            kept = std::move(data);
            CHECK(data.empty());
            CHECK(data.data() == nullptr);
            co_await c.server.close();
            co_await c.client.close();
        }
        connection other = co_await connected();
        co_await other.client.write_all("other");
        buffer data = co_await other.server.receive();
        CHECK((!data.empty() && std::string_view("other").starts_with(data.text())));
        CHECK(kept.text() == read);
        std::swap(kept, data);
        CHECK(data.text() == read);
        kept = buffer();
        CHECK(data.text() == read);
        data.data()[0] = std::byte{'K'};  // it is the borrower's to write
        read[0] = 'K';
        CHECK(data.text() == read);
    });
}

}  // namespace
