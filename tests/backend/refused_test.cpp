// What the kernel refuses, at once or later: the loop does without, or says what it was. Each in a process of its own,
// behind a seccomp filter or under a limit, so on the real backends only.
#include <rondo/net/udp.hpp>

#include "support/child_process.hpp"
#include "support/net.hpp"

#include <csignal>
#include <cstddef>
#include <deque>
#include <thread>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

/// From now on `call` is answered with `error`, where its second argument is from `least` to `most`.
bool refuse(long call, int error, std::uint32_t least = 0, std::uint32_t most = ~std::uint32_t{0}) {
    const auto answer = SECCOMP_RET_ERRNO | (static_cast<unsigned>(error) & SECCOMP_RET_DATA);
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])),  // its lower half
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, least, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, most, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, answer),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{sizeof program / sizeof program[0], program};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

constexpr int no_filter = 77;

/// Ends the process if no filter can be installed here.
void must_refuse(long call, int error, std::uint32_t least = 0, std::uint32_t most = ~std::uint32_t{0}) {
    if (!refuse(call, error, least, most)) ::_exit(no_filter);
}

struct outcome {
    std::string said;
    int status = 0;
    bool well() const { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }
    bool skipped() const { return WIFEXITED(status) && WEXITSTATUS(status) == no_filter; }
};

/// Runs `what` in a process of its own.
template <class F>
outcome apart(F what) {
    const test::child_process child(
        [&](int) {
            try {
                what();
            } catch (const std::exception& e) {
                std::fprintf(stderr, "%s\n", e.what());
                return 1;
            }
            return 0;
        },
        STDERR_FILENO);
    outcome all;
    all.said = child.rest();
    all.status = child.ended();
    return all;
}

bool has(const outcome& o, const char* part) { return o.said.find(part) != o.said.npos; }

task<> sleeps() {
    for (int i = 0; i < 5; ++i) co_await sleep_for(1ms);
}

/// A loop that has begun, and to which `call` is then refused.
outcome refused_later(std::initializer_list<long> calls, int error) {
    return apart([&] {
        rondo::run([&]() -> task<> {
            co_await sleep_for(1ms);
            for (const long call : calls) must_refuse(call, error);
            co_await sleeps();
        });
    });
}

TEST_CASE("refused: a filter that is put on later ends the loop with the call's name, the error, and why perhaps") {
    if (test::on_sim()) return;
    const bool uring = test::backend_under_test() == backend_kind::uring;
    for (const int error : {EPERM, EACCES, ENOSYS}) {
        const outcome o = uring ? refused_later({SYS_io_uring_enter}, error)
                                : refused_later({SYS_epoll_pwait2, SYS_epoll_wait, SYS_epoll_pwait}, error);
        if (o.skipped()) return;
        CAPTURE(o.said);
        CHECK(!o.well());
        CHECK(has(o, uring ? "the kernel refused io_uring_enter" : "the kernel refused epoll_wait"));
        CHECK(has(o, std::strerror(error)));
        CHECK(has(o, "seccomp filter"));
        CHECK(!has(o, "thread"));
    }
}

TEST_CASE("refused: a kernel that has lost completions is told as that, and not as a wrong thread") {
    if (test::backend_under_test() != backend_kind::uring) return;
    const outcome o = refused_later({SYS_io_uring_enter}, EBADR);
    if (o.skipped()) return;
    CAPTURE(o.said);
    CHECK(has(o, "lost completions"));
    CHECK(!has(o, "thread"));
}

TEST_CASE("refused: without epoll_pwait2, whatever the filter answers, the loop uses epoll_wait") {
    if (test::backend_under_test() != backend_kind::epoll) return;
    for (const int error : {EPERM, ENOSYS, EACCES, EINVAL}) {
        const outcome o = refused_later({SYS_epoll_pwait2}, error);
        if (o.skipped()) return;
        CAPTURE(o.said);
        CHECK(o.well());
    }
}

// It claimed 128 buffers that the kernel had not taken.
TEST_CASE("refused: without its ring of buffers io_uring says so, and receives all the same") {
    if (test::backend_under_test() != backend_kind::uring) return;
    constexpr std::uint32_t register_buffer_ring = 22;
    const outcome o = apart([] {
        must_refuse(SYS_io_uring_register, EINVAL, register_buffer_ring, register_buffer_ring);
        rondo::run([]() -> task<> {
            const std::string info = this_loop().backend_info();
            if (info.find("no buffer ring") == info.npos) throw std::runtime_error(info);
            test::connection c = co_await test::connected();
            co_await c.client.write_all("hello");
            const std::string heard = co_await test::receive_text(c.server, 5);
            if (heard != "hello") throw std::runtime_error(heard);
        });
    });
    if (o.skipped()) return;
    CAPTURE(o.said);
    CHECK(o.well());
}

// It said that the kernel cannot be probed, and not why.
TEST_CASE("refused: a ring that may not be probed is none, with the call and the error (hazard D12)") {
    if (test::backend_under_test() != backend_kind::uring) return;
    constexpr std::uint32_t register_probe = 8;
    for (const int error : {EPERM, ENOSYS, EINVAL, ENOMEM}) {
        const outcome o = apart([&] {
            must_refuse(SYS_io_uring_register, error, register_probe, register_probe);
            std::string why;
            if (make_backend(backend_kind::uring, {}, why) != nullptr) throw std::runtime_error("it was made");
            if (!why.starts_with(std::string("io_uring_register: ") + std::strerror(error)))
                throw std::runtime_error(why);
        });
        if (o.skipped()) return;
        CAPTURE(o.said);
        CHECK(o.well());
    }
}

struct lender : io_op {
    static constexpr op_vtable nothing = {[](op&) noexcept {}, [](op&) noexcept {},
                                          [](const op&, char* text, std::size_t size) noexcept {
                                              if (size > 0) *text = '\0';
                                          }};
    explicit lender(int descriptor) : io_op(nothing, io_kind::poll_in, descriptor) { flags = io_op::foreign; }
};

// The wake was asked for from the ring only, and there was no entry to ask with.
TEST_CASE("refused: while the kernel takes no entries, a wake from another thread is heard all the same (hazard D2)") {
    if (test::backend_under_test() != backend_kind::uring) return;
    const outcome o = apart([] {
        std::string why;
        backend_options tiny;
        tiny.ring_entries = 8;
        auto io = make_backend(backend_kind::uring, tiny, why);
        if (io == nullptr) throw std::runtime_error(why);
        must_refuse(SYS_io_uring_enter, EBUSY, 1);  // only what submits
        std::deque<lender> ops;
        for (int i = 0; i < 20; ++i) {
            int ends[2];
            if (::pipe(ends) != 0) ::_exit(2);
            static_cast<void>(io->submit(ops.emplace_back(ends[0])));
        }
        std::thread other([&] {
            ::usleep(20'000);
            io->wake();
        });
        completions done;
        const bool returned = io->wait(never, done);
        other.join();
        ::_exit(returned && done.size() == 0 ? 0 : 3);
    });
    if (o.skipped()) return;
    CAPTURE(o.said);
    CHECK(o.well());
}

/// Echoes of segments, which arrive as what they are.
void moves_segments() {
    rondo::run([]() -> task<> {
        udp_socket server = udp_socket::bind("127.0.0.1", 0, {.receive_segments = true});
        udp_socket client = udp_socket::unbound_v4();
        const std::string text = "one two thrfourfive six sev";
        co_await client.send_segments(text, 4, server.local());
        std::string all;
        std::size_t count = 0;
        std::string into(65536, ' ');
        while (all.size() < text.size()) {
            const received_datagram got = co_await server.receive_from(into);
            const std::size_t each = got.segment_size != 0 ? got.segment_size : got.size;
            if (each > 4) throw std::runtime_error("segments of " + std::to_string(each));
            count += (got.size + each - 1) / each;
            all.append(into, 0, got.size);
        }
        if (all != text || count != 7) throw std::runtime_error(all + " in " + std::to_string(count));
    });
}

TEST_CASE("refused: where the kernel neither cuts nor joins datagrams, they arrive as they do elsewhere") {
    if (test::on_sim()) return;
    constexpr std::uint32_t sol_udp = 17;
    for (const auto& calls :
         {std::vector<long>{}, {SYS_getsockopt}, {SYS_setsockopt}, {SYS_getsockopt, SYS_setsockopt}})
        for (const int error : {ENOPROTOOPT, EPERM}) {
            const outcome o = apart([&] {
                for (const long call : calls) must_refuse(call, error, sol_udp, sol_udp);
                moves_segments();
            });
            if (o.skipped()) return;
            CAPTURE(o.said);
            CHECK(o.well());
        }
}

// No socket of the loopback's is ever short of room to send, so the kernel only says so.
TEST_CASE("refused: a datagram that there is no room for waits, and when it is cancelled it has not been sent") {
    if (test::on_sim()) return;  // sim_udp_test.cpp
    const outcome o = apart([] {
        rondo::run([]() -> task<> {
            udp_socket server = udp_socket::bind("127.0.0.1", 0);
            udp_socket client = udp_socket::bind("127.0.0.1", 0);
            must_refuse(SYS_sendmsg, EAGAIN);
            for (int i = 0; i < 2; ++i) {
                const auto sends = [&]() -> task<> { co_await client.send_to("not sent", server.local()); };
                const bool went = co_await move_on_after(20ms, sends);
                if (went) throw std::runtime_error("it was sent");
            }
            if (client.try_send_to("x", server.local()).error() != std::errc::resource_unavailable_try_again)
                throw std::runtime_error("it was sent at once");
            std::vector<datagram> two(2, datagram("sent", server.local()));  // by another call
            co_await client.send_many(two);
            for (int i = 0; i < 2; ++i) {
                char into[16];
                const received_datagram got = co_await server.receive_from(into);
                if (std::string_view(into, got.size) != "sent") throw std::runtime_error("it was sent later");
            }
        });
    });
    if (o.skipped()) return;
    CAPTURE(o.said);
    CHECK(o.well());
}

// The kernel takes a closed ring off the limit a while after it was closed; the next loop became a ring of 8, or epoll.
TEST_CASE("refused: near the memlock limit, loops that follow others get whole rings, too (hazard D11)") {
    if (test::backend_under_test() != backend_kind::uring || ::geteuid() != 0) return;  // must become somebody else
    const outcome o = apart([] {
        const rlimit little{512 * 1024, 512 * 1024};
        if (::setrlimit(RLIMIT_MEMLOCK, &little) != 0 || ::setresuid(54'321, 54'321, 54'321) != 0) ::_exit(no_filter);
        std::string first;
        for (int i = 0; i < 60; ++i) {
            const loop l;
            if (i == 0) first = l.backend_info();
            if (l.backend_info() != first) throw std::runtime_error(l.backend_info() + ", at first " + first);
        }
    });
    if (o.skipped()) return;
    CAPTURE(o.said);
    CHECK(o.well());
}

TEST_CASE("refused: a ring smaller than asked for, and the lack of one, is told at level info") {
    if (test::backend_under_test() != backend_kind::uring || ::geteuid() != 0) return;
    const outcome o = apart([] {
        set_log_level(log_level::info);
        if (::setresuid(54'322, 54'322, 54'322) != 0) ::_exit(no_filter);
        std::string why;
        for (const rlim_t limit : {96u * 1024, 1u}) {
            const rlimit little{limit, limit};
            ::setrlimit(RLIMIT_MEMLOCK, &little);
            const auto io = make_backend(backend_kind::uring, {}, why);
            const bool whole = io != nullptr && io->describe().find("256 entries") != std::string::npos;
            if (whole) ::_exit(no_filter);  // this kernel does not count rings
        }
    });
    if (o.skipped()) return;
    CAPTURE(o.said);
    CHECK(has(o, "instead of 256"));
    CHECK(has(o, "no ring: "));
}

}  // namespace
