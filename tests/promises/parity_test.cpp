// The same script on simulated sockets and on those of the kernel: what a program can see must be the same.
#include "support/net.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

using namespace std::literals;
using namespace test;
using rondo::task;
using rondo::tcp_stream;

namespace {

template <class T>
std::string outcome(const rondo::result<T>& r) {
    if (!r) return r.error().message();
    if constexpr (std::is_same_v<T, std::size_t>) return std::to_string(*r);
    return "done";
}

/// What is under way arrives, whichever of the two backends this is.
task<> arrive() {
    const bool simulated = rondo::this_loop().kind() == rondo::backend_kind::sim;
    const rondo::duration a_while = simulated ? 150ms : 1ms;
    for (int i = 0; i < 2; ++i) co_await rondo::sleep_for(a_while);
}

/// Steps at the two ends of one connection, drawn from `seed`. Between steps what is under way arrives, so that
/// what one sees does not depend on how fast a network is.
task<> play(std::uint64_t seed, std::string& log) {
    dice draw(seed);
    connection made = co_await connected();
    std::optional<tcp_stream> ends[2] = {std::move(made.client), std::move(made.server)};
    std::size_t sent[2] = {};
    const std::size_t steps = 4 + draw.below(12);
    for (std::size_t i = 0; i < steps; ++i) {
        const std::size_t which = draw.below(2);
        std::optional<tcp_stream>& end = ends[which];
        const std::size_t size = 1 + draw.below(2000);
        const std::size_t action = draw.below(10);
        if (!end) continue;
        log += "\n" + std::string(which == 0 ? "client " : "server ");
        if (action < 3) {
            const bytes some = make_pattern(which, sent[which], size);
            const rondo::result<std::size_t> r = end->try_write_some(some);
            if (r) sent[which] += *r;
            log += "write " + std::to_string(size) + ": " + outcome(r);
        } else if (action < 6) {
            bytes into(size);
            const rondo::result<std::size_t> r = end->try_read_some(into);
            log += "read " + std::to_string(size) + ": " + outcome(r);
        } else if (action == 6) {
            const rondo::result<void> r = end->try_shutdown();
            log += "shutdown: " + outcome(r);
        } else if (action == 7) {
            log += "close";
            co_await end->close();
            end.reset();
        } else if (action == 8) {
            log += "reset";
            end->reset_on_close();
            co_await end->close();
            end.reset();
        } else {
            const rondo::result<void> r = end->try_no_delay(true);
            log += "option: " + outcome(r);
        }
        co_await arrive();
    }
    for (std::optional<tcp_stream>& end : ends) {  // what is left to read, to the end or the error
        if (!end) continue;
        log += "\nrest:";
        for (int i = 0; i < 50; ++i) {
            bytes into(700);
            const rondo::result<std::size_t> r = end->try_read_some(into);
            log += " " + outcome(r);
            if (!r || *r == 0) break;
        }
    }
}

/// What a script's tasks see. Each has a line of its own, so that it does not matter which of two tasks, woken
/// by the same event, is first; a line says in which step its task ended.
class story {
 public:
    std::size_t begin(std::string what) {
        lines_.push_back(std::to_string(step) + " " + std::move(what));
        return lines_.size() - 1;
    }
    void end(std::size_t line, const std::string& how) { lines_[line] += ": " + how + " in " + std::to_string(step); }
    void tell(std::string all_of_it) { begin(std::move(all_of_it)); }
    std::string text() const {
        std::string all;
        for (const std::string& line : lines_) all += line + "\n";
        return all;
    }
    std::size_t step = 0;

 private:
    std::vector<std::string> lines_;
};

/// A task of its own that does `operation`; its end, cancellation included, is in the story.
template <class F>
task<> watched(story& told, std::size_t line, F operation) {
    struct ending {
        story& told;
        std::size_t line;
        std::string how = "cancelled";
        ~ending() { told.end(line, how); }
    } end{told, line};
    end.how = co_await operation();
}

/// One end of a connection, and the tasks at work there.
struct side {
    tcp_stream stream;
    rondo::task_handle<> reader{};
    rondo::task_handle<> writer{};
    std::size_t sent = 0;
    std::size_t received = 0;
    bool reads() const { return reader && !reader.done(); }
    bool writes() const { return writer && !writer.done(); }
};

/// Tasks wait at both ends of a connection and are cancelled, while it is shut down, closed and reset.
task<> play_waits(std::uint64_t seed, std::string& log) {
    dice draw(seed);
    story told;
    connection made = co_await connected();
    side sides[2] = {{.stream = std::move(made.client)}, {.stream = std::move(made.server)}};
    const std::size_t steps = 6 + draw.below(14);
    for (told.step = 0; told.step < steps; ++told.step) {
        const std::size_t which = draw.below(2);
        side& s = sides[which];
        const std::size_t size = 1 + draw.below(900);
        const std::size_t action = draw.below(12);
        const std::string name = which == 0 ? "client " : "server ";
        if (!s.stream) continue;
        if (action < 4) {
            if (s.reads()) continue;
            const char* const how = action < 2 ? "reads some of " : action == 2 ? "reads exactly " : "receives ";
            const std::size_t line = told.begin(name + how + std::to_string(size));
            const auto read = [&s, which, action, size]() -> task<std::string> {
                bytes into(size);
                rondo::result<std::size_t> n = 0;
                if (action < 2) {
                    n = co_await rondo::attempt(s.stream.read_some(into));
                } else if (action == 2) {
                    n = co_await rondo::attempt(s.stream.read_exactly(into));
                } else {
                    const rondo::result<rondo::buffer> got = co_await rondo::attempt(s.stream.receive());
                    if (!got) co_return got.error().message();
                    into.assign(got->data(), got->data() + got->size());
                    n = got->size();
                }
                if (n) {
                    CHECK(is_pattern({into.data(), *n}, 1 - which, s.received));
                    s.received += *n;
                }
                co_return outcome(n);
            };
            s.reader = rondo::spawn(watched<decltype(read)>, std::ref(told), line, read);
        } else if (action < 7) {
            if (s.writes()) continue;
            const std::size_t line = told.begin(name + "writes " + std::to_string(size));
            const auto write = [&s, which, size]() -> task<std::string> {
                const bytes some = make_pattern(which, s.sent, size);
                std::size_t written = 0;
                const auto n = co_await rondo::attempt(s.stream.write_all(some, &written));
                s.sent += written;
                co_return outcome(n);
            };
            s.writer = rondo::spawn(watched<decltype(write)>, std::ref(told), line, write);
        } else if (action < 9) {
            if (!s.reads()) continue;
            told.tell(name + "cancels its reader");
            s.reader.cancel();
        } else if (action == 9) {
            told.tell(name + "shuts down: " + outcome(s.stream.try_shutdown()));
        } else {
            if (action == 11) told.tell(name + "will reset: " + outcome(s.stream.try_reset_on_close()));
            told.tell(name + "closes");
            co_await s.stream.close();
        }
        co_await arrive();
    }
    for (side& s : sides) {  // the rest, if any, ends what still waits
        if (s.stream) co_await s.stream.close();
        co_await arrive();
    }
    log = told.text();
}

struct place {
    rondo::tcp_listener listener;
    rondo::endpoint address;
    rondo::task_handle<> acceptor;
};

/// Listeners come and go, and clients come before, while and after they listen.
task<> play_listeners(std::uint64_t seed, std::string& log) {
    dice draw(seed);
    story told;
    std::vector<std::unique_ptr<tcp_stream>> connected_ones;
    std::vector<std::unique_ptr<tcp_stream>> accepted;
    std::vector<rondo::task_handle<>> clients;
    place places[2];
    const std::size_t steps = 6 + draw.below(14);
    for (told.step = 0; told.step < steps; ++told.step) {
        const std::size_t which = draw.below(2);
        place& at = places[which];
        const std::string name = "listener " + std::to_string(which) + " ";
        const std::size_t action = draw.below(12);
        if (action < 2) {
            if (at.listener.is_open()) {
                told.tell(name + "once more: " + outcome(rondo::tcp_listener::try_bind(at.address)));
            } else {
                at.listener = listen();
                at.address = at.listener.local();
                told.tell(name + "listens");
            }
        } else if (action < 6) {
            if (at.address == rondo::endpoint()) continue;
            const std::size_t line = told.begin("a client connects to " + name);
            const auto connect = [&, to = at.address]() -> task<std::string> {
                auto r = co_await rondo::attempt(tcp_stream::connect(to));
                if (!r) co_return r.error().message();
                const bool right = r->peer() == to;
                connected_ones.push_back(std::make_unique<tcp_stream>(std::move(*r)));
                co_return right ? "done" : "done, with another peer";
            };
            clients.push_back(rondo::spawn(watched<decltype(connect)>, std::ref(told), line, connect));
        } else if (action < 8) {
            if (!at.listener.is_open() || (at.acceptor && !at.acceptor.done())) continue;
            const std::size_t line = told.begin(name + "accepts");
            const auto accept = [&]() -> task<std::string> {
                auto r = co_await rondo::attempt(at.listener.accept());
                if (!r) co_return r.error().message();
                accepted.push_back(std::make_unique<tcp_stream>(std::move(*r)));
                co_return "done";
            };
            at.acceptor = rondo::spawn(watched<decltype(accept)>, std::ref(told), line, accept);
        } else if (action == 8) {
            if (!at.acceptor || at.acceptor.done()) continue;
            told.tell(name + "is cancelled");
            at.acceptor.cancel();
        } else if (action == 9) {
            if (!at.listener.is_open()) continue;
            told.tell(name + "closes");
            co_await at.listener.close();
        } else {
            auto& ends = action == 10 ? connected_ones : accepted;
            if (ends.empty()) continue;
            const std::size_t i = draw.below(ends.size());
            told.tell((action == 10 ? "client " : "accepted ") + std::to_string(i) +
                      " says a byte: " + outcome(ends[i]->try_write_some(as_bytes("x"))));
        }
        co_await arrive();
    }
    for (place& at : places)
        if (at.listener.is_open()) co_await at.listener.close();
    co_await arrive();
    for (auto* ends : {&connected_ones, &accepted}) {
        for (auto& end : *ends) {
            std::string seen_there = ends == &accepted ? "accepted:" : "client:";
            for (int i = 0; i < 20; ++i) {
                bytes into(8);
                const auto r = end->try_read_some(into);
                seen_there += " " + outcome(r);
                if (!r || *r == 0) break;
            }
            told.tell(seen_there);
        }
    }
    log = told.text();
}

using script = task<> (*)(std::uint64_t seed, std::string& log);

std::string played(script play_it, rondo::backend_kind kind, std::uint64_t seed) {
    rondo::loop_options options;
    options.kind = kind;
    std::string log;
    rondo::run(options, play_it, seed, std::ref(log));
    return log;
}

/// Compares the simulated sockets with the backend under test, or with epoll; gives how many of the scripts
/// came to see `rare`.
std::size_t compare(script play_it, std::uint64_t seeds, std::string_view rare) {
    const rondo::backend_kind real = on_sim() ? rondo::backend_kind::epoll : backend_under_test();
    std::size_t seen_rare = 0;
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
        CAPTURE(seed);
        const std::string there = played(play_it, real, seed);
        CHECK(played(play_it, rondo::backend_kind::sim, seed) == there);
        seen_rare += there.find(rare) != std::string::npos;
    }
    return seen_rare;
}

}  // namespace

TEST_CASE("parity: calls at both ends of a connection see the same on sim and on the kernel") {
    CHECK(compare(play, 150, "reset by peer") > 5);  // the scripts get that far
}

TEST_CASE("parity: tasks that wait at both ends, and are cancelled, see the same on sim and on the kernel") {
    CHECK(compare(play_waits, 75, "cancelled") > 10);
}

TEST_CASE("parity: listeners and those who connect see the same on sim and on the kernel") {
    CHECK(compare(play_listeners, 75, "reset by peer") > 10);
}
