// The simulated backend by itself: random programs, in which no byte is lost, and a seed is one run.
#include "support/sim_backend.hpp"

#include <doctest/doctest.h>
#include <rondo/loop/oracle.hpp>

#include <cerrno>
#include <set>
#include <span>
#include <string>
#include <vector>

using namespace test::sim;

namespace {

/// A program that drives four connections at random: what goes in at one end must come out at the
/// other, in order. The program draws from `seed`, the world from `world_seed` (0: benign).
struct random_program {
    static constexpr int count = 4;

    struct side {
        int fd = -1;
        std::string sent;      // went in here
        std::string received;  // came out here
        test_op* reader = nullptr;
        test_op* writer = nullptr;
        bool shut = false;
        bool ended = false;
    };

    random_program(std::uint64_t seed, std::uint64_t world_seed) : program(seed), decide(world_seed) {
        world place(world_seed != 0 ? &decide : nullptr, 700);
        w = &place;
        for (int i = 0; i < count; ++i) {
            const auto small = [&](int a, int b) {
                if (draw(2) == 0) return;
                place.set(a, sys_option::receive_buffer, static_cast<int>(1 + draw(3000)));
                place.set(b, sys_option::send_buffer, static_cast<int>(1 + draw(3000)));
            };
            const auto [a, b] = i == 0 ? place.pair() : place.connection(80 + i, small);
            sides[i * 2].fd = a;
            sides[i * 2 + 1].fd = b;
        }
        for (int step = 0; step < 300; ++step) act();
        for (int i = 0; i < count * 2; ++i) drain(sides[i]);
        for (int i = 0; i < count; ++i) {
            check(sides[i * 2], sides[i * 2 + 1]);
            check(sides[i * 2 + 1], sides[i * 2]);
        }
        hash = place.hash();
        end = place.sim->now();
    }

    std::uint32_t draw(std::uint32_t n) { return program.choose(rondo::choice::user, n); }

    void act() {
        side& s = sides[draw(count * 2)];
        switch (draw(10)) {
            case 0:
            case 1:
            case 2: return write(s);
            case 3:
            case 4:
            case 5: return read(s);
            case 6:
                if (s.reader) w->cancel(*s.reader);
                return;
            case 7:
                if (s.writer) w->cancel(*s.writer);
                return;
            case 8:
                if (draw(30) != 0 || s.shut) return;
                s.shut = true;
                w->control(sys_call::shutdown_write, s.fd);
                return;
            default: w->pass(rondo::duration(draw(300'000))); collect();
        }
    }

    void write(side& s) {
        if (s.writer != nullptr || s.shut) return;
        std::string text(1 + draw(5000), ' ');
        for (char& c : text) c = static_cast<char>(draw(256));
        const bool all = draw(2) == 0;
        if (draw(2) == 0) {
            s.writer = &w->send(s.fd, text, all);
        } else {
            test_op& o = w->make(io_kind::send_vector, s.fd);
            o.bytes = text;
            const std::size_t cut = draw(static_cast<std::uint32_t>(text.size()));
            const auto bytes = std::as_bytes(std::span(o.bytes));
            o.spans = {bytes.first(cut), bytes.subspan(cut)};
            o.data = o.spans.data();
            o.size = 2;
            if (all) o.flags |= io_op::all;
            s.writer = &w->start(o);
        }
        collect(s);
    }

    void read(side& s) {
        if (s.reader != nullptr || s.ended) return;
        switch (draw(3)) {
            case 0: s.reader = &w->borrow(s.fd); break;
            case 1: s.reader = &w->receive(s.fd, 1 + draw(3000), true); break;
            default: s.reader = &w->receive(s.fd, 1 + draw(3000));
        }
        collect(s);
    }

    void collect() {
        for (side& s : sides) collect(s);
    }

    void collect(side& s) {
        if (s.writer != nullptr && s.writer->got != still_armed) {
            const test_op& o = *s.writer;
            if (o.got < 0) REQUIRE((o.got == -ECANCELED || (o.got == -EPIPE && s.shut)));
            if (o.got >= 0) REQUIRE(static_cast<std::uint32_t>(o.got) == o.moved);
            s.sent += prefix(o);
            s.writer = nullptr;
        }
        if (s.reader != nullptr && s.reader->got != still_armed) {
            test_op& o = *s.reader;
            if (o.got < 0) REQUIRE(o.got == -ECANCELED);
            if (o.kind == io_kind::borrow && o.got > 0) {
                s.received.append(static_cast<const char*>(o.data), o.size);
                w->sim->give_back(o.data, o.size, o.buffer);
            } else {
                s.received += prefix(o);
            }
            if (o.got == 0) s.ended = true;
            s.reader = nullptr;
        }
    }

    /// Reads to the end, with the other side closed by then.
    void drain(side& s) {
        side& other = sides[(&s - sides) ^ 1];
        while (!s.ended) {
            if (s.reader == nullptr) s.reader = &w->receive(s.fd, 1000);
            if (s.reader->got == still_armed && !w->wait(rondo::never)) {
                // Nothing can happen: all has arrived, and the writer has not said that it is all.
                REQUIRE(other.writer == nullptr);
                REQUIRE_FALSE(other.shut);
                other.shut = true;
                w->control(sys_call::shutdown_write, other.fd);
            }
            collect();
        }
    }

    void check(const side& from, const side& to) {
        CHECK(from.sent.size() == to.received.size());
        CHECK(from.sent == to.received);
        moved += from.sent.size();
    }

    rondo::seeded_oracle program;
    rondo::seeded_oracle decide;
    world* w = nullptr;
    side sides[count * 2];
    std::size_t moved = 0;
    std::uint64_t hash = 0;
    time_point end{};
};

TEST_CASE("sim: a random program loses no byte, and a seed is a run") {
    std::set<std::uint64_t> hashes;
    std::size_t bytes = 0;
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        CAPTURE(seed);
        const random_program run(seed, seed);
        const random_program again(seed, seed);
        REQUIRE(run.hash == again.hash);
        REQUIRE(run.end == again.end);
        hashes.insert(run.hash);
        bytes += run.moved;
    }
    CHECK(hashes.size() == 200);
    CHECK(bytes > 1'000'000);
}

TEST_CASE("sim: the same program runs differently in another world") {
    std::set<std::uint64_t> hashes;
    for (std::uint64_t seed = 0; seed < 20; ++seed) hashes.insert(random_program(99, seed).hash);
    CHECK(hashes.size() == 20);
    CHECK(random_program(99, 0).hash == random_program(99, 0).hash);
}

TEST_CASE("sim: closing at any moment ends every op once and frees all") {
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        CAPTURE(seed);
        rondo::seeded_oracle decide(seed);
        rondo::seeded_oracle program(seed + 1000);
        const auto draw = [&](std::uint32_t n) { return program.choose(rondo::choice::user, n); };
        world w(&decide);
        const int server = w.listener(80, 2);
        std::vector<int> fds;
        std::vector<test_op*> accepts;
        for (int step = 0; step < 200; ++step) {
            const int fd = fds.empty() ? -1 : fds[draw(static_cast<std::uint32_t>(fds.size()))];
            const std::size_t size = 1 + draw(200'000);
            const bool all = draw(2) == 0;
            switch (draw(9)) {
                case 0:
                    fds.push_back(w.socket());
                    w.connect(fds.back(), local(80));
                    break;
                case 1: accepts.push_back(&w.accept(server)); break;
                case 2:
                case 3: w.send(fd, std::string(size, 'x'), all); break;
                case 4: w.receive(fd, size, all); break;
                case 5:
                    if (!w.ops.empty()) w.cancel(*w.ops[draw(static_cast<std::uint32_t>(w.ops.size()))]);
                    break;
                case 6:
                    if (draw(3) == 0) w.control(sys_call::reset_on_close, fd);
                    if (draw(3) == 0) w.control(sys_call::shutdown_write, fd);
                    break;
                case 7:
                    if (draw(3) != 0) break;
                    w.close(fd);
                    std::erase(fds, fd);
                    break;
                default: w.pass(rondo::duration(draw(1'000'000)));
            }
            for (test_op* o : accepts) {
                if (o->got < 0) continue;
                fds.push_back(o->got);
                w.open.push_back(o->got);
                o->got = -1;
            }
        }
        for (const int fd : std::vector(w.open)) w.close(fd);
        while (w.wait(rondo::never)) {
            for (test_op* o : w.last) {  // an accept may still have won
                if (o->kind == io_kind::accept && o->got >= 0) w.close(o->got);
            }
        }
        CHECK(w.sim->armed() == 0);
        CHECK(w.sim->describe().find(" 0 descriptors") != std::string::npos);
        for (const auto& o : w.ops) CHECK(o->got != still_armed);
    }
}

}  // namespace
