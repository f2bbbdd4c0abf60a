// A kind of stream as one adds it: a thin type on descriptor_stream. What all verbs promise is in net/tcp_test.cpp.
#include "support/net.hpp"

#include <rondo/io/stream.hpp>

using namespace rondo;

namespace {

std::string called_pair(const descriptor_stream&) { return "the other half"; }

/// One end of a connected pair of Unix sockets: it has all the verbs.
class pair_end : public descriptor_stream {
 public:
    explicit pair_end(int fd) noexcept : descriptor_stream(fd, called_pair) {}
};

/// An end from which one can only read: it names the verbs that it has.
class read_end : private descriptor_stream {
 public:
    explicit read_end(int fd) noexcept : descriptor_stream(fd, called_pair) {}
    using descriptor_stream::close;
    using descriptor_stream::is_open;
    using descriptor_stream::read_exactly;
    using descriptor_stream::read_some;
};

/// A stream that is no descriptor, as one that encrypts would be.
struct upper_case {
    task<std::size_t> read_some(writable_bytes into);
    task<std::size_t> read_exactly(writable_bytes into);
    task<std::size_t> write_some(bytes_view from);
    task<std::size_t> write_all(bytes_view from, std::size_t* written = nullptr);
    task<> close();
    void shutdown();
};

static_assert(byte_stream<tcp_stream> && byte_stream<pair_end> && byte_stream<upper_case>);
static_assert(byte_reader<read_end> && !byte_writer<read_end> && !byte_stream<read_end>);
static_assert(!byte_reader<int> && !byte_writer<tcp_listener>);
static_assert(wait_operation<detail::read_awaiter> && wait_operation<detail::write_awaiter> &&
              wait_operation<detail::close_awaiter> && !reversible_wait<detail::read_awaiter>);
static_assert(reversible_wait<detail::borrow_awaiter> && reversible_wait<detail::accept_awaiter<tcp_stream>>);
static_assert(!std::is_move_constructible_v<descriptor_stream> && std::is_nothrow_move_constructible_v<pair_end>);

struct two_descriptors {
    int first, second;
};

two_descriptors make_pair() {
    sys_op call{.what = sys_op::call::stream_pair};
    RONDO_ASSERT(detail::running().control(call) == 0, "no pair of sockets");
    return {call.fds[0], call.fds[1]};
}

/// Takes any socket, pipe or terminal, and is no template.
task<std::string> all_of(descriptor_stream& from) {
    std::string all;
    for (;;) {
        const buffer part = co_await from.receive();
        if (part.empty()) co_return all;
        all += part.text();
    }
}

/// Takes what is a stream in any way.
template <byte_writer Stream>
task<> greet(Stream& to) {
    co_await to.write_all("good ");
    co_await to.write_all("morning");
}

TEST_CASE("stream: a kind of stream is a thin type that has all the verbs") {
    run([]() -> task<> {
        const two_descriptors pair = make_pair();
        pair_end one(pair.first);
        pair_end other(pair.second);
        co_await greet(one);
        one.shutdown();
        const std::string heard = co_await all_of(other);
        CHECK(heard == "good morning");
        co_await other.write_all("and good night");
        char first[4];
        const std::size_t n = co_await one.read_exactly(first);
        CHECK(std::string_view(first, n) == "and ");
        const auto more = one.try_read_some(first);
        CHECK(*more >= 1);
        CHECK(*more <= 4);
        co_await one.close();
        CHECK(!one.is_open());
        co_await other.close();
    });
}

TEST_CASE("stream: an error says what was done, and to whom") {
    run([]() -> task<> {
        const two_descriptors pair = make_pair();
        pair_end one(pair.first);
        pair_end other(pair.second);
        co_await other.close();
        std::string told;
        try {
            co_await one.write_all("is anybody there?");
        } catch (const io_error& e) {
            told = e.what();
        }
        CHECK(told.find("write") != std::string::npos);
        CHECK(told.find("the other half") != std::string::npos);
    });
}

TEST_CASE("stream: one end of a pipe names the verbs that it has") {
    run([]() -> task<> {
        const two_descriptors pair = make_pair();
        read_end reader(pair.first);
        pair_end writer(pair.second);
        co_await writer.write_all("abcdef");
        co_await writer.close();
        char all[8];
        const std::size_t n = co_await reader.read_exactly(all);
        CHECK(std::string_view(all, n) == "abcdef");
        co_await reader.close();
        CHECK(!reader.is_open());
    });
}

TEST_CASE("stream: what a cancelled read had gathered is the first of the next read, also after a move") {
    run([]() -> task<> {
        const two_descriptors pair = make_pair();
        pair_end one(pair.first);
        pair_end other(pair.second);
        co_await other.write_all("abc");
        char all[6];
        auto reader = spawn([](pair_end& from, std::span<char> into) -> task<> { co_await from.read_exactly(into); },
                            std::ref(one), std::span<char>(all));
        co_await test::settle();
        reader.cancel();
        co_await test::settle();
        pair_end moved = std::move(one);
        co_await other.write_all("def");
        const std::size_t n = co_await moved.read_exactly(all);
        CHECK(std::string_view(all, n) == "abcdef");
    });
}

}  // namespace
