// Watching descriptors of other libraries.
#include <rondo/io/fd_watch.hpp>

#include "support/child_process.hpp"
#include "support/every_step.hpp"
#include "support/net.hpp"
#include "support/refusing_backend.hpp"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cstddef>

using namespace rondo;
using namespace std::literals;
using test::error_of;

namespace {

bool skipped_in_sim() {
    if (test::on_sim()) MESSAGE("skipped: a simulated world has no descriptors of others");
    return test::on_sim();
}

/// Two blocking ends, of which `mine` is watched.
struct ends {
    ends() {
        int both[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both) == 0);
        mine = both[0];
        other = both[1];
    }
    ~ends() {
        for (const int fd : {mine, other})
            if (fd >= 0) ::close(fd);
    }
    ends(const ends&) = delete;
    ends& operator=(const ends&) = delete;

    void say(std::string_view what) const {
        REQUIRE(::write(other, what.data(), what.size()) == static_cast<ssize_t>(what.size()));
    }
    std::string hear() const {
        char text[64];
        const ssize_t size = ::recv(mine, text, sizeof text, MSG_DONTWAIT);
        return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : std::string();
    }
    void fill() const {
        const char area[4096] = {};
        while (::send(mine, area, sizeof area, MSG_DONTWAIT) > 0) {
        }
    }
    void drain() const {
        char area[4096];
        while (::recv(other, area, sizeof area, MSG_DONTWAIT) > 0) {
        }
    }

    int mine = -1;
    int other = -1;
};

constexpr auto readable = fd_events::readable;
constexpr auto writable = fd_events::writable;

TEST_CASE("fd_watch: it says for what the descriptor is ready, of what is wanted") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        const ends e;
        fd_watch watch(e.mine);
        const fd_events room = co_await watch.wait(readable | writable);
        CHECK(room == writable);
        e.say("x");
        const fd_events both = co_await watch.wait(readable | writable);
        CHECK(both == (readable | writable));
        const fd_events one = co_await watch.wait(readable);
        CHECK(one == readable);
        CHECK(watch.wanted() == readable);
        CHECK((::fcntl(e.mine, F_GETFL) & O_NONBLOCK) == 0);
    });
}

TEST_CASE("fd_watch: it tells the level, until somebody has read") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        const ends e;
        fd_watch watch(e.mine, readable);
        for (int round = 0; round < 3; ++round) {
            e.say("x");
            for (int i = 0; i < 3; ++i) {
                const fd_events there = co_await watch.wait();
                CHECK(there == readable);
            }
            CHECK(e.hear() == "x");
            auto waits = spawn([&]() -> task<fd_events> { co_return co_await watch.wait(); });
            co_await test::settle();
            CHECK_FALSE(waits.done());
            e.say("y");
            const fd_events there = co_await waits;
            CHECK(there == readable);
            CHECK(e.hear() == "y");
        }
    });
}

TEST_CASE("fd_watch: what is wanted may change under a wait, to more, less and nothing") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        const ends e;
        fd_watch watch(e.mine);
        auto waits = spawn([&]() -> task<fd_events> { co_return co_await watch.wait(readable); });
        co_await test::settle();
        CHECK_FALSE(waits.done());
        watch.want(fd_events::none);
        e.say("x");
        co_await test::settle();
        CHECK_FALSE(waits.done());
        watch.want(fd_events::urgent);
        watch.want(readable | writable);
        watch.want(fd_events::none);
        co_await test::settle();
        CHECK_FALSE(waits.done());
        watch.want(writable);
        const fd_events there = co_await waits;
        CHECK(there == writable);
    });
}

TEST_CASE("fd_watch: what is ready, and in the same moment not wanted any more, does not end the wait") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        const ends e;
        e.fill();
        fd_watch watch(e.mine);
        auto waits = spawn([&]() -> task<fd_events> { co_return co_await watch.wait(readable | writable); });
        co_await test::settle();
        e.drain();
        watch.want(readable);
        co_await test::settle();
        CHECK_FALSE(waits.done());
        e.say("x");
        const fd_events there = co_await waits;
        CHECK(there == readable);
    });
}

TEST_CASE("fd_watch: a hang-up is told whatever is wanted, also if that is nothing") {
    if (skipped_in_sim()) return;
    for (const fd_events wanted : {fd_events::none, readable, writable, readable | writable}) {
        CAPTURE(static_cast<int>(wanted));
        test::run(
            [](fd_events what) -> task<> {
                ends e;
                e.fill();
                fd_watch watch(e.mine, what);
                auto waits = spawn([&]() -> task<fd_events> { co_return co_await watch.wait(); });
                co_await test::settle();
                CHECK_FALSE(waits.done());
                ::close(std::exchange(e.other, -1));
                const fd_events there = co_await waits;
                CHECK(there == (what | fd_events::error));
            },
            wanted);
    }
}

TEST_CASE("fd_watch: that the peer has ended its side is readable, and no reason to go round and round") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        const ends e;
        ::shutdown(e.other, SHUT_WR);
        fd_watch watch(e.mine, readable);
        const fd_events there = co_await watch.wait();
        CHECK(there == readable);
    });
}

TEST_CASE("fd_watch: close() ends the wait, and the number may have a new owner at once") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        ends old;
        fd_watch watch(old.mine, readable);
        auto waits = spawn([&]() -> task<std::error_code> {
            const auto ended = co_await attempt(watch.wait());
            co_return ended.error();
        });
        co_await test::settle();
        const int number = old.mine;
        const int twin = ::dup(old.mine);  // the file lives on
        watch.close();
        CHECK(watch.fd() == -1);
        ::close(std::exchange(old.mine, -1));
        ends fresh;
        REQUIRE(::dup2(fresh.mine, number) == number);
        fd_watch next(number, readable);
        auto waits_too = spawn([&]() -> task<fd_events> { co_return co_await next.wait(); });
        const std::error_code ended = co_await waits;
        CHECK(ended == std::errc::bad_file_descriptor);
        old.say("for nobody");
        co_await test::settle();
        CHECK_FALSE(waits_too.done());
        fresh.say("x");
        const fd_events there = co_await waits_too;
        CHECK(there == readable);
        const std::error_code after = co_await error_of(watch.wait());
        CHECK(after == std::errc::bad_file_descriptor);
        next.close();
        ::close(number);
        ::close(twin);
    });
}

TEST_CASE("fd_watch: one that goes away under a wait ends it") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        const ends e;
        auto watch = std::make_unique<fd_watch>(e.mine, readable);
        auto waits = spawn([&]() -> task<std::error_code> {
            const auto ended = co_await attempt(watch->wait());
            co_return ended.error();
        });
        co_await test::settle();
        watch.reset();
        const std::error_code ended = co_await waits;
        CHECK(ended == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("fd_watch: one task waits at a time") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        const ends e;
        fd_watch watch(e.mine, readable), other(e.mine, writable);
        auto waits = spawn([&]() -> task<> { static_cast<void>(co_await watch.wait()); });
        co_await test::settle();
        const std::error_code second = co_await error_of(watch.wait());
        CHECK(second == std::errc::device_or_resource_busy);
        const std::error_code third = co_await error_of(other.wait());
        CHECK(third == std::errc::device_or_resource_busy);
        e.say("x");
        co_await waits;
    });
}

TEST_CASE("fd_watch: as an arm of select_one it loses nothing, and a change of mind does not keep it") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        const ends e;
        fd_watch watch(e.mine, readable);
        event enough;
        auto selects = spawn([&]() -> task<std::size_t> {
            const auto chosen = co_await select_one(watch.wait(), enough.wait());
            co_return chosen.index();
        });
        co_await test::settle();
        watch.want(readable | fd_events::urgent);
        enough.set();
        const std::size_t first = co_await selects;
        CHECK(first == 1);
        e.say("x");
        event never_set;
        auto chosen = co_await select_one(watch.wait(), never_set.wait());
        CHECK(chosen.index() == 0);
        CHECK(chosen.get<0>() == readable);
        CHECK(e.hear() == "x");
    });
}

TEST_CASE("fd_watch: a task that changes what is wanted and then cancels the wait ends it") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        const ends e;
        fd_watch watch(e.mine, readable);
        auto waits = spawn([&]() -> task<> { static_cast<void>(co_await watch.wait()); });
        co_await test::settle();
        watch.want(fd_events::urgent);
        waits.cancel();
        const auto ended = co_await attempt(waits);
        CHECK(ended.error() == std::errc::operation_canceled);
        e.say("x");
        const fd_events there = co_await watch.wait(readable);
        CHECK(there == readable);
    });
}

TEST_CASE("fd_watch: a regular file is always ready") {
    if (skipped_in_sim()) return;
    test::run([]() -> task<> {
        const int fd = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        REQUIRE(fd >= 0);
        {
            fd_watch watch(fd, readable);
            for (int i = 0; i < 3; ++i) {
                const fd_events there = co_await watch.wait();
                CHECK(there == readable);
            }
            const fd_events room = co_await watch.wait(writable);
            CHECK(room == writable);
        }
        ::close(fd);
        fd_watch none(fd, readable);
        const std::error_code bad = co_await error_of(none.wait());
        CHECK(bad == std::errc::bad_file_descriptor);
        fd_watch negative(-1, readable);
        const std::error_code worse = co_await error_of(negative.wait());
        CHECK(worse == std::errc::bad_file_descriptor);
    });
}

/// From now on epoll_ctl is answered with EPERM.
bool forbid_epoll_ctl() {
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_ctl, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{sizeof program / sizeof program[0], program};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// EPERM was taken for "a regular file": a pipe behind such a filter was ready for ever, and its reader blocked.
TEST_CASE("fd_watch: EPERM that comes from a filter is an error, unless the descriptor happens to be ready") {
    if (test::backend_under_test() != backend_kind::epoll) return;  // only there it is asked
    constexpr int no_filter = 77;
    const test::child_process child([&](int) {
        int wrong = 0;
        rondo::run([&]() -> task<> {
            co_await sleep_for(1ms);
            int pipe_ends[2];
            if (::pipe(pipe_ends) != 0 || !forbid_epoll_ctl()) ::_exit(no_filter);
            const auto forbidden = std::errc::operation_not_permitted;
            fd_watch watch(pipe_ends[0], readable);
            const auto first = co_await attempt(watch.wait());
            if (first.error() != forbidden) wrong |= 1;
            const auto plain = co_await attempt(wait_readable(pipe_ends[0]));
            if (plain.error() != forbidden) wrong |= 2;
            if (::write(pipe_ends[1], "x", 1) != 1) wrong |= 4;
            const auto second = co_await attempt(watch.wait());
            if (!second || *second != readable) wrong |= 8;
            const int file = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
            const auto third = co_await attempt(wait_readable(file));
            if (!third) wrong |= 16;
        });
        return wrong;
    });
    const int status = child.ended();
    REQUIRE(WIFEXITED(status));
    if (WEXITSTATUS(status) == no_filter) return;
    CHECK(WEXITSTATUS(status) == 0);
}

/// Answers each wait of a watch with an errno.
struct no_watch {
    int error = 0;
    int error_for(const io_op& what) const noexcept { return what.kind == io_kind::poll ? error : 0; }
};

TEST_CASE("fd_watch: whatever the kernel says is told, and the next wait is as good as the first") {
    if (skipped_in_sim()) return;
    test::refusing<no_watch> factory;
    loop_options options;
    options.factory = &factory;
    loop l(options);
    run_on(l, [&]() -> task<> {
        const ends e;
        e.say("x");
        fd_watch watch(e.mine, readable);
        for (const int error : {ENOSPC, ENOMEM, EPERM, EBADF, EINVAL, ELOOP}) {
            CAPTURE(error);
            factory.what.error = error;
            const std::error_code said = co_await error_of(watch.wait());
            CHECK(said == errno_code(error));
            factory.what.error = 0;
            const fd_events there = co_await watch.wait();
            CHECK(there == readable);
        }
    });
}

task<> watches() {
    const ends e;
    fd_watch watch(e.mine);
    const fd_events room = co_await watch.wait(readable | writable);
    if (room != writable) throw std::logic_error("no room");
    const auto changes = [&]() -> task<> {
        co_await sleep_for(100us);
        watch.want(readable);
        co_await sleep_for(100us);
        if (::write(e.other, "x", 1) != 1) throw std::runtime_error("write");
    };
    const auto both = [&](task_group& group) -> task<> {
        group.spawn(changes).discard();
        const auto there = co_await attempt(watch.wait(fd_events::urgent));
        if (!there || *there != readable) throw std::logic_error("not readable");
    };
    co_await with_task_group(both);
}

TEST_CASE("cancel at every step: fd_watch, whose task changes its mind") {
    if (skipped_in_sim()) return;
    CHECK(test::cancel_at_every_step(watches) > 1);
}

TEST_CASE("fd_watch: a simulated world says that it has no such thing") {
    if (!test::on_sim()) return;
    test::run([]() -> task<> {
        fd_watch watch(0, readable);
        std::string said;
        try {
            static_cast<void>(co_await watch.wait());
        } catch (const not_simulated& e) {
            said = e.operation();
        }
        CHECK(said == "watch");
        const std::error_code code = co_await error_of(watch.wait());
        CHECK(code == std::errc::function_not_supported);
    });
}

}  // namespace
