// splice_in and splice_out: bytes that go through a pipe of the backend's, driven by hand.
#include "support/backend_rig.hpp"

#include <signal.h>
#include <sys/wait.h>

using namespace test::raw;

namespace {

test_op splice_in(int fd, std::uint32_t most = 1 << 20) {
    test_op o(io_kind::splice_in, fd);
    o.size = most;
    return o;
}
/// Of what the other has brought, of which `gone` bytes are through.
test_op splice_out(int fd, const test_op& in, int gone = 0) {
    test_op o(io_kind::splice_out, fd);
    o.data = in.data;
    o.size = static_cast<std::uint32_t>(in.result - gone);
    return o;
}
int give_back(rig& r, const test_op& in, std::size_t left = 0, void* saved = nullptr) {
    sys_op call{sys_call::give_back_pipe};
    call.pipe = in.data;
    call.size = left;
    call.data = saved;
    return r.io->control(call);
}

/// Spliced from one to the other until nothing comes; how many bytes.
std::size_t pass_on(rig& r, int from, int to, std::size_t wanted) {
    std::size_t all = 0;
    while (all < wanted) {
        test_op in = splice_in(from);
        const int n = r.run(in);
        if (n <= 0) break;
        for (int gone = 0; gone < n;) {
            test_op out = splice_out(to, in, gone);
            REQUIRE(r.run(out) > 0);
            CHECK(out.moved == static_cast<std::uint32_t>(out.result));
            gone += out.result;
        }
        CHECK(give_back(r, in) == 0);
        all += static_cast<std::size_t>(n);
    }
    return all;
}

TEST_CASE("splice: bytes go through a pipe unchanged, and the end is left to a receive") {
    on_each([](rig& r) {
        for (const bool tcp : {true, false}) {
            CAPTURE(tcp);
            const auto left = tcp ? r.tcp() : r.pair();
            const auto right = tcp ? r.pair() : r.tcp();
            bytes sent = make_pattern(1, 0, 12'345);
            test_op writes = send(left.first, sent, io_op::all);
            CHECK(r.run(writes) == 12'345);
            CHECK(pass_on(r, left.second, right.first, sent.size()) == sent.size());
            bytes got(sent.size());
            test_op reads = receive(right.second, got, io_op::all);
            CHECK(r.run(reads) == 12'345);
            CHECK(is_pattern(got, 1));
            CHECK(r.call(sys_call::shutdown_write, left.first) == 0);
            test_op none = splice_in(left.second);
            CHECK(r.run(none) == 0);
            CHECK(none.data == nullptr);
            test_op end = receive(left.second, got);
            CHECK(r.run(end) == 0);
            r.close(left);
            r.close(right);
        }
    });
}

TEST_CASE("splice: one that waits holds no pipe, can be cancelled, and ends when its descriptor is closed") {
    on_each([](rig& r) {
        const auto ends = r.tcp();
        const std::size_t before = r.real() ? test::open_descriptors() : 0;
        test_op waits = splice_in(ends.second);
        CHECK_FALSE(r.start(waits));
        r.settle();
        CHECK(waits.data == nullptr);
        test_op second = splice_in(ends.second);
        CHECK(r.run(second) == -EBUSY);
        r.io->cancel(waits);
        CHECK(r.finish(waits) == -ECANCELED);
        CHECK(waits.data == nullptr);
        // A pipe that was made to look into is kept for the next one.
        if (r.real()) CHECK(test::open_descriptors() <= before + 2);
        test_op stranded = splice_in(ends.second);
        CHECK_FALSE(r.start(stranded));
        r.close(ends.second);
        CHECK(stranded.finished);
        CHECK(stranded.result == -EBADF);
        r.close(ends.first);
    });
}

TEST_CASE("splice: what a full target has not taken waits in the pipe, and can be saved") {
    on_each([](rig& r) {
        const auto left = r.tcp();
        const auto right = r.tcp();
        for (const int fd : {right.first, right.second})
            for (const sys_option which : {sys_option::send_buffer, sys_option::receive_buffer})
                CHECK(r.call(sys_call::set_option, fd, which, 4096) == 0);
        std::size_t sent = 0, passed = 0;
        test_op in = splice_in(left.second), out(io_kind::splice_out, right.first);
        bool full = false;
        while (!full) {
            bytes more = make_pattern(1, sent, 8'000);
            test_op writes = send(left.first, more, io_op::all);
            CHECK(r.run(writes) == 8'000);
            sent += more.size();
            in = splice_in(left.second);
            REQUIRE(r.run(in) > 0);
            for (int gone = 0; gone < in.result && !full;) {
                out = splice_out(right.first, in, gone);
                if (!r.start(out)) r.settle();
                full = !out.finished;
                if (full) break;
                REQUIRE(out.result > 0);
                gone += out.result;
                passed += static_cast<std::size_t>(out.result);
            }
            if (!full) give_back(r, in);
            REQUIRE(sent < 50'000'000);
        }
        r.io->cancel(out);
        CHECK(r.finish(out) == -ECANCELED);
        bytes saved(out.size);
        CHECK(give_back(r, in, saved.size(), saved.data()) == static_cast<int>(saved.size()));
        CHECK(is_pattern(saved, 1, passed));
        bytes got(passed);
        test_op reads = receive(right.second, got, io_op::all);
        CHECK(r.run(reads) == static_cast<int>(passed));
        CHECK(is_pattern(got, 1));
        r.close(left);
        r.close(right);
    });
}

TEST_CASE("splice: what has been received for nobody comes first, and no receive of the backend's takes more") {
    on_each([](rig& r) {
        const auto left = r.tcp();
        const auto right = r.tcp();
        test_op lent(io_kind::borrow, left.second);  // on io_uring, its request goes on
        CHECK_FALSE(r.start(lent));
        bytes sent = make_pattern(1, 0, 300'000);
        std::size_t out = 0, in = 0, spliced = 0;
        while (in < sent.size()) {
            const std::size_t piece = std::min<std::size_t>(20'000, sent.size() - out);
            if (piece > 0) {
                test_op writes = send(left.first, std::span(sent).subspan(out, piece), io_op::all);
                CHECK(r.run(writes) == static_cast<int>(piece));
                out += piece;
                r.settle();
            }
            if (lent.kind == io_kind::borrow && lent.state != rondo::op::idle) {
                REQUIRE(r.finish(lent) > 0);
                CHECK(is_pattern({static_cast<std::byte*>(lent.data), lent.size}, 1, in));
                in += lent.size;
                r.give_back(lent);
                lent.state = rondo::op::idle;
                continue;
            }
            test_op splices = splice_in(left.second);
            const int n = r.run(splices);
            REQUIRE(n >= 0);
            if (n == 0) {
                bytes part(16'384);
                test_op reads = receive(left.second, part);
                const int got = r.run(reads);
                REQUIRE(got > 0);
                CHECK(is_pattern(std::span(part).first(static_cast<std::size_t>(got)), 1, in));
                in += static_cast<std::size_t>(got);
                continue;
            }
            bytes saved(static_cast<std::size_t>(n));
            CHECK(give_back(r, splices, saved.size(), saved.data()) == n);
            CHECK(is_pattern(saved, 1, in));
            in += saved.size();
            spliced += saved.size();
        }
        CHECK(spliced > 0);
        r.close(left);
        r.close(right);
    });
}

TEST_CASE("splice: nobody is there to write to: an error, and no SIGPIPE") {
    on_real([](rig& r) {
        for (const bool blocked : {false, true}) {
            CAPTURE(blocked);
            sigset_t pipe, before;
            sigemptyset(&pipe);
            sigaddset(&pipe, SIGPIPE);
            if (blocked) pthread_sigmask(SIG_BLOCK, &pipe, &before);
            const auto left = r.tcp();
            const auto right = r.tcp();
            bytes sent = make_pattern(1, 0, 10'000);
            test_op writes = send(left.first, sent, io_op::all);
            CHECK(r.run(writes) == 10'000);
            test_op in = splice_in(left.second);
            REQUIRE(r.run(in) > 0);
            CHECK(r.call(sys_call::shutdown_write, right.first) == 0);
            test_op out = splice_out(right.first, in);
            CHECK(r.run(out) == -EPIPE);
            give_back(r, in, static_cast<std::size_t>(in.result));
            sigset_t pending;
            sigpending(&pending);
            CHECK_FALSE(sigismember(&pending, SIGPIPE));
            sigset_t now;
            pthread_sigmask(SIG_BLOCK, nullptr, &now);
            CHECK(sigismember(&now, SIGPIPE) == blocked);
            if (blocked) pthread_sigmask(SIG_SETMASK, &before, nullptr);
            r.close(left);
            r.close(right);
        }
    });
}

TEST_CASE("splice: what is in a pipe when the process forks is the parent's") {
    on_real([](rig& r) {
        const auto ends = r.tcp();
        bytes sent = make_pattern(1, 0, 5'000);
        test_op writes = send(ends.first, sent, io_op::all);
        CHECK(r.run(writes) == 5'000);
        test_op in = splice_in(ends.second);
        REQUIRE(r.run(in) == 5'000);
        bytes saved(5'000);
        const pid_t child = ::fork();
        if (child == 0) ::_exit(give_back(r, in, saved.size(), saved.data()) == 0 ? 0 : 1);
        int status = -1;
        CHECK(::waitpid(child, &status, 0) == child);
        CHECK(status == 0);
        CHECK(give_back(r, in, saved.size(), saved.data()) == 5'000);
        CHECK(is_pattern(saved, 1));
        r.close(ends);
    });
}

TEST_CASE("splice: pipes take an eighth of the descriptors at most, and only some are kept") {
    on_real([](rig& r) {
        const descriptor_limit few(256);
        const auto ends = r.tcp();
        bytes sent = make_pattern(1, 0, 100);
        std::vector<test_op> all;
        const std::size_t before = test::open_descriptors();
        for (;;) {
            test_op writes = send(ends.first, sent, io_op::all);
            CHECK(r.run(writes) == 100);
            r.settle();
            all.push_back(splice_in(ends.second));
            if (r.run(all.back()) < 0) break;
            REQUIRE(all.size() <= 16);
        }
        CHECK(all.back().result == -EMFILE);
        all.pop_back();
        CHECK(all.size() == 16);
        CHECK(test::open_descriptors() == before + 32);
        for (const test_op& each : all) give_back(r, each, static_cast<std::size_t>(each.result));
        CHECK(test::open_descriptors() == before);  // none was empty
        r.close(ends);
    });
}

TEST_CASE("splice: an urgent byte stops the splice, and what comes behind it is received") {
    on_real([](rig& r) {
        const auto ends = r.tcp();
        bytes first = make_pattern(1, 0, 1'000), second = make_pattern(1, 1'000, 2'000);
        test_op writes = send(ends.first, first, io_op::all);
        CHECK(r.run(writes) == 1'000);
        CHECK(::send(ends.first, "!", 1, MSG_OOB) == 1);
        writes = send(ends.first, second, io_op::all);
        CHECK(r.run(writes) == 2'000);
        bytes got;
        bool stopped = false;
        while (got.size() < 3'000) {
            test_op in = splice_in(ends.second);
            const int n = r.run(in);
            REQUIRE(n >= 0);
            bytes part(n > 0 ? static_cast<std::size_t>(n) : 4'000);
            if (n > 0) {
                CHECK(give_back(r, in, part.size(), part.data()) == n);
            } else {
                stopped = true;
                test_op reads = receive(ends.second, part);
                const int read = r.run(reads);
                REQUIRE(read > 0);
                part.resize(static_cast<std::size_t>(read));
            }
            got.insert(got.end(), part.begin(), part.end());
        }
        CHECK(got.size() == 3'000);
        CHECK(is_pattern(got, 1));
        CHECK(stopped);
        r.close(ends);
    });
}

}  // namespace
