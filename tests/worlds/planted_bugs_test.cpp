// Small programs, each with a bug of a kind that programs really have. The simulator must find each of them
// within the number of seeds that the table at the end states, shrink it to a few decisions, and have it again
// from its file. Without faults each works, and mended it survives the same seeds.
#define RONDO_SIM 1
#include <rondo/actor/actor.hpp>
#include <rondo/sim/buggify.hpp>
#include <rondo/sim/simulate.hpp>
#include <rondo/io/relay.hpp>

#include "support/net.hpp"
#include "support/trace_folder.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <variant>

using namespace std::literals;
using rondo::percent;
using rondo::task;
using rondo::tcp_listener;
using rondo::tcp_stream;
using rondo::world;

namespace {

struct wrong : std::runtime_error {
    using runtime_error::runtime_error;
};

/// A program and its surroundings. It outlives the world, so what unwinds last may still look at it.
class planted {
 public:
    explicit planted(bool repaired) : mended(repaired) {}
    virtual ~planted() = default;
    virtual task<> run(world& w) = 0;

 protected:
    const bool mended;
};

struct message {
    std::uint32_t what = 0, id = 0, value = 0;
};

task<> send(tcp_stream& to, message m) { co_await to.write_all(std::as_bytes(std::span(&m, 1))); }

/// Empty at the end of the stream.
task<std::optional<message>> next(tcp_stream& from) {
    message m;
    const std::size_t n = co_await from.read_exactly(std::as_writable_bytes(std::span(&m, 1)));
    if (n < sizeof m) co_return std::nullopt;
    co_return m;
}

task<std::optional<message>> ask(tcp_stream& peer, message m) {
    co_await send(peer, m);
    std::optional<message> answer = co_await next(peer);
    co_return answer;
}

/// Asks ten times, a millisecond apart.
task<> ten_questions(rondo::endpoint to) {
    auto peer = co_await tcp_stream::connect(to);
    for (int i = 0; i < 10; ++i) {
        co_await ask(peer, {});
        co_await rondo::sleep_for(1ms);
    }
}

/// Runs a server whose sessions are `session(stream)`.
template <class F>
task<> server(F session, std::uint32_t most = 0) {
    auto listener = tcp_listener::bind("0.0.0.0", 80);
    rondo::serve_options options;
    options.max_connections = most;
    co_await rondo::serve(listener, session, options);
}
template <class F>
rondo::host& serve_on(world& w, const char* name, F session, std::uint32_t most = 0) {
    return w.host(name).run([session, most] { return server(session, most); });
}

task<tcp_stream> connect(world& w, const char* name) {
    return [](rondo::endpoint to) -> task<tcp_stream> {
        tcp_stream made = co_await tcp_stream::connect(to);
        co_return made;
    }(w.address_of(name, 80));
}

/// Milliseconds that the oracle picks; benign: none.
rondo::duration some_ms(world& w, std::uint32_t most) { return std::chrono::milliseconds(w.choose(most + 1)); }

// --- streams --------------------------------------------------------------------------------------

/// One read gives one message: not when it comes in two pieces.
class short_read final : public planted {
    using planted::planted;
    task<> session(tcp_stream& peer) {
        for (;;) {
            message m;
            const auto into = std::as_writable_bytes(std::span(&m, 1));
            std::size_t n = 0;
            if (mended)
                n = co_await peer.read_exactly(into);
            else
                n = co_await peer.read_some(into);
            if (n == 0) co_return;
            RONDO_ALWAYS(n == sizeof m, "a message is whole");
        }
    }
    task<> run(world& w) override {
        serve_on(w, "srv", [this](tcp_stream& peer) { return session(peer); });
        auto peer = co_await connect(w, "srv");
        for (std::uint32_t i = 0; i < 5; ++i) co_await send(peer, {i, i, i});
        co_await rondo::sleep_for(1s);
    }
};

/// One read gives one line: not when two have come meanwhile.
class joined_lines final : public planted {
    using planted::planted;
    int lines_ = 0;
    task<> session(tcp_stream& peer) {
        for (;;) {
            const auto data = co_await peer.receive();
            if (data.empty()) co_return;
            const std::string text = test::as_text(data);
            lines_ += mended ? static_cast<int>(std::count(text.begin(), text.end(), '\n')) : 1;
        }
    }
    task<> run(world& w) override {
        serve_on(w, "srv", [this](tcp_stream& peer) { return session(peer); });
        auto peer = co_await connect(w, "srv");
        for (int i = 0; i < 5; ++i) {
            co_await peer.write_all("+\n");
            co_await rondo::sleep_for(1ms);
        }
        co_await rondo::sleep_for(1s);
        if (lines_ != 5) throw wrong("lines were counted as one");
    }
};

/// A read that is cut short by its time limit has lost the head of the message it was in.
class cut_short_in_a_message final : public planted {
    using planted::planted;
    task<> session(tcp_stream& peer) {
        std::uint32_t head = 0;
        bool has_head = false;
        const auto read = [&]() -> task<bool> {
            if (!mended) has_head = false;
            std::size_t n = sizeof head;
            if (!has_head) n = co_await peer.read_exactly(std::as_writable_bytes(std::span(&head, 1)));
            has_head = n == sizeof head;
            std::uint32_t body[2] = {};
            if (has_head) n = co_await peer.read_exactly(std::as_writable_bytes(std::span(body)));
            has_head = false;
            if (n != 0) RONDO_ALWAYS(head == 7 && body[0] == 8 && body[1] == 9, "a message begins with its head");
            co_return n != 0;
        };
        for (;;) {
            const std::optional<bool> more = co_await rondo::move_on_after(2ms, read);  // then it sends a heartbeat
            if (more && !*more) co_return;
        }
    }
    task<> run(world& w) override {
        serve_on(w, "srv", [this](tcp_stream& peer) { return session(peer); });
        auto peer = co_await connect(w, "srv");
        const std::uint32_t head[] = {7}, body[] = {8, 9};
        for (int i = 0; i < 5; ++i) {
            co_await peer.write_all(std::as_bytes(std::span(head)));
            co_await peer.write_all(std::as_bytes(std::span(body)));
            co_await rondo::sleep_for(3ms);
        }
        co_await rondo::sleep_for(1s);
    }
};

/// A cancelled write is taken for one that did not happen, and done again from the beginning.
class cancelled_write_again final : public planted {
    using planted::planted;
    static constexpr std::size_t size = 150'000;
    test::bytes got_;
    task<> session(tcp_stream& peer) {
        for (;;) {
            const auto data = co_await peer.receive();
            if (data.empty()) co_return;
            got_.insert(got_.end(), data.begin(), data.end());
        }
    }
    task<> run(world& w) override {
        serve_on(w, "srv", [this](tcp_stream& peer) { return session(peer); });
        auto peer = co_await connect(w, "srv");
        const test::bytes all = test::make_pattern(1, 0, size);
        std::size_t done = 0;
        const auto write = [&]() -> task<> {
            const std::size_t from = mended ? done : 0;
            std::size_t written = 0;
            struct note {
                std::size_t &sum, &part;
                ~note() { sum += part; }
            } at_the_end{done, written};
            co_await peer.write_all(std::span(all).subspan(from), &written);
        };
        const bool whole = co_await rondo::move_on_after(5ms, write);
        if (!whole) co_await write();
        co_await peer.close();
        co_await rondo::sleep_for(1s);
        if (got_ != all) throw wrong("bytes came twice");
    }
};

/// Over two connections nothing says what comes first.
class order_of_two_connections final : public planted {
    using planted::planted;
    std::set<std::uint32_t> made_;
    task<> session(tcp_stream& peer) {
        for (;;) {
            const std::optional<message> m = co_await next(peer);
            if (!m) co_return;
            if (m->what == 0)
                made_.insert(m->id);
            else
                RONDO_ALWAYS(made_.contains(m->id), "what is used was made before");
            co_await send(peer, *m);
        }
    }
    task<> run(world& w) override {
        serve_on(w, "srv", [this](tcp_stream& peer) { return session(peer); });
        auto makes = co_await connect(w, "srv");
        auto uses = co_await connect(w, "srv");
        co_await rondo::sleep_for(100ms);
        for (std::uint32_t id = 0; id < 5; ++id) {
            co_await send(makes, {0, id, 0});
            if (mended) co_await next(makes);
            co_await send(uses, {1, id, 0});
            co_await next(uses);
        }
    }
};

/// A relay ends both directions when one has ended: who closed its half first misses the answer.
class missed_half_close final : public planted {
    using planted::planted;
    static task<> pump(tcp_stream& from, tcp_stream& to) {
        for (;;) {
            const auto data = co_await from.receive();
            if (data.empty()) break;
            co_await to.write_all(data);
        }
        to.shutdown();
    }
    task<> relay(tcp_stream& client, rondo::endpoint to) {
        auto target = co_await tcp_stream::connect(to);
        auto there = rondo::spawn(pump, std::ref(client), std::ref(target));
        auto back = rondo::spawn(pump, std::ref(target), std::ref(client));
        co_await there;
        if (!mended) back.cancel();
        static_cast<void>(co_await rondo::attempt(back));
    }
    task<> run(world& w) override {
        serve_on(w, "srv", test::echo_session);
        const rondo::endpoint target = w.address_of("srv", 80);
        serve_on(w, "relay", [this, target](tcp_stream& peer) { return relay(peer, target); });
        auto peer = co_await connect(w, "relay");
        co_await send(peer, {1, 2, 3});
        co_await rondo::sleep_for(5ms);
        peer.shutdown();
        const std::optional<message> answer = co_await next(peer);
        if (!answer) throw wrong("the answer is lost");
    }
};

// --- requests -------------------------------------------------------------------------------------

/// A request that was not answered is sent again, and the server does it twice.
class retry_twice_done final : public planted {
    using planted::planted;
    std::uint32_t total_ = 0;
    std::set<std::uint32_t> seen_;
    task<> session(tcp_stream& peer) {
        for (;;) {
            const std::optional<message> m = co_await next(peer);
            if (!m) co_return;
            const bool is_new = seen_.insert(m->id).second;
            if (is_new || !mended) total_ += m->value;
            co_await send(peer, *m);
        }
    }
    task<> run(world& w) override {
        serve_on(w, "srv", [this](tcp_stream& peer) { return session(peer); });
        w.link("test", "srv").loss(percent(5));
        for (std::uint32_t id = 0; id < 5; ++id) {
            const auto add_one = [&]() -> task<> {
                auto peer = co_await connect(w, "srv");
                co_await ask(peer, {0, id, 1});
            };
            for (;;) {
                const bool done = co_await rondo::move_on_after(100ms, add_one);
                if (done) break;
            }
        }
        if (total_ != 5) throw wrong("five times one is " + std::to_string(total_));
    }
};

/// No answer in time is taken for: not done.
class timeout_is_no_answer final : public planted {
    using planted::planted;
    std::set<std::uint32_t> paid_;
    task<> session(tcp_stream& peer) {
        for (;;) {
            std::optional<message> m = co_await next(peer);
            if (!m) co_return;
            if (m->what == 0) paid_.insert(m->id);  // else it is only a question
            m->value = paid_.contains(m->id);
            co_await send(peer, *m);
        }
    }
    task<> run(world& w) override {
        serve_on(w, "srv", [this](tcp_stream& peer) { return session(peer); });
        w.link("test", "srv").loss(percent(5));
        for (std::uint32_t id = 0; id < 5; ++id) {
            std::uint32_t what = 0;
            bool said_paid = false;
            const auto pay = [&]() -> task<> {
                auto peer = co_await connect(w, "srv");
                const std::optional<message> answer = co_await ask(peer, {what, id, 0});
                said_paid = answer && answer->value != 0;
            };
            bool answered = co_await rondo::move_on_after(100ms, pay);
            co_await rondo::sleep_for(1min);  // what is still under way comes or is given up
            what = 1;
            while (mended && !answered) answered = co_await rondo::move_on_after(1min, pay);
            if (!said_paid && paid_.contains(id)) throw wrong("told 'not paid', but it is");
        }
    }
};

/// The answer to a question that was given up is taken for that to the next one.
class late_answer final : public planted {
    using planted::planted;
    task<> run(world& w) override {
        serve_on(w, "srv", test::echo_session);
        auto peer = co_await connect(w, "srv");
        for (std::uint32_t id = 0; id < 10; ++id) {
            std::optional<message> answer;
            const auto question = [&]() -> task<> {
                co_await send(peer, {0, id, 0});
                do answer = co_await next(peer);
                while (mended && answer && answer->id != id);
            };
            const bool answered = co_await rondo::move_on_after(3ms, question);
            if (answered && answer->id != id) throw wrong("the answer to another question");
        }
    }
};

/// It looks whether a seat is free, waits for something else, and then takes it.
class check_then_act final : public planted {
    using planted::planted;
    int free_ = 1;
    task<> session(tcp_stream& peer) {
        const std::optional<message> m = co_await next(peer);
        if (!m || free_ == 0) co_return;
        if (mended) --free_;
        co_await rondo::sleep_for(1ms);  // the card is charged
        if (!mended) --free_;
        RONDO_ALWAYS(free_ >= 0, "a seat is sold once");
    }
    task<> buy(world& w, rondo::duration when) {
        co_await rondo::sleep_for(when);
        auto peer = co_await connect(w, "srv");
        co_await ask(peer, {});
    }
    task<> run(world& w) override {
        serve_on(w, "srv", [this](tcp_stream& peer) { return session(peer); });
        auto one = rondo::spawn([&w, this] { return buy(w, 0ms); });
        co_await buy(w, 5ms);
        co_await one;
    }
};

/// Urgent work always first: with enough of it, the rest is never done.
class starvation final : public planted {
    using planted::planted;
    std::deque<std::uint32_t> urgent_, other_;
    std::optional<rondo::semaphore> work_;
    std::uint32_t others_done_ = 0;
    int turn_ = 0;
    task<> worker() {
        for (;;) {
            auto one = co_await work_->acquire();
            one.detach();
            const bool fair = mended && ++turn_ % 4 == 0;
            std::deque<std::uint32_t>& from = urgent_.empty() || (fair && !other_.empty()) ? other_ : urgent_;
            others_done_ += &from == &other_;
            from.pop_front();
            co_await rondo::sleep_for(1ms);
        }
    }
    task<> produce(std::uint32_t every_us) {
        for (;;) {
            urgent_.push_back(0);
            if (urgent_.size() > 20)
                urgent_.pop_front();
            else
                work_->release();
            co_await rondo::sleep_for(std::chrono::microseconds(every_us));
        }
    }
    task<> run(world& w) override {
        work_.emplace(0);
        const std::uint32_t clients = 1 + w.choose(4);
        const auto body = [&](rondo::task_group& group) -> task<> {
            group.spawn([this] { return worker(); });
            for (std::uint32_t i = 0; i < clients; ++i) group.spawn([this] { return produce(3100); });
            co_await rondo::sleep_for(10ms);
            other_.push_back(0);
            work_->release();
            co_await rondo::sleep_for(1s);
            group.cancel();
        };
        co_await rondo::with_task_group(body);
        if (others_done_ == 0) throw wrong("the work of others is never done");
    }
};

// --- tasks ----------------------------------------------------------------------------------------

/// It sees that there is nothing to do, writes that down, and goes to sleep: what came meanwhile did wake
/// nobody.
class lost_wake_up final : public planted {
    using planted::planted;
    std::optional<rondo::mutex> lock_;
    std::optional<rondo::condition> changed_;
    int items_ = 0;
    task<> session(tcp_stream& peer) {
        for (;;) {
            const std::optional<message> m = co_await next(peer);
            if (!m) co_return;
            ++items_;
            changed_->notify_one();
        }
    }
    task<> worker() {
        for (int done = 0; done < 5; ++done) {
            if (mended) {
                auto guard = co_await lock_->lock();
                co_await changed_->wait(guard, [this] { return items_ > 0; });
            } else if (items_ == 0) {
                co_await rondo::sleep_for(100us);  // a line of its log
                auto guard = co_await lock_->lock();
                co_await changed_->wait(guard);
            }
            --items_;
        }
    }
    static task<> client(rondo::endpoint to) {
        auto peer = co_await tcp_stream::connect(to);
        for (int i = 0; i < 5; ++i) {
            co_await send(peer, {});
            co_await rondo::sleep_for(1ms);
        }
    }
    task<> run(world& w) override {
        lock_.emplace();
        changed_.emplace();
        auto listener = tcp_listener::bind("0.0.0.0", 80);
        const auto serving = [&, this]() -> task<> {
            co_await rondo::serve(listener, [this](tcp_stream& peer) { return session(peer); });
        };
        auto serves = rondo::spawn(serving);
        w.host("client").run(client, w.address_of("test", 80));
        co_await worker();
        serves.cancel();
        static_cast<void>(co_await rondo::attempt(serves));
    }
};

/// Two transfers lock the same accounts in opposite orders.
class opposite_locks final : public planted {
    using planted::planted;
    std::optional<rondo::mutex> a_, b_;
    static task<> transfer(rondo::mutex& first, rondo::mutex& second, rondo::duration when) {
        co_await rondo::sleep_for(when);
        auto one = co_await first.lock();
        co_await rondo::sleep_for(1ms);
        auto other = co_await second.lock();
        co_await rondo::sleep_for(1ms);
    }
    task<> run(world& w) override {
        a_.emplace("a");
        b_.emplace("b");
        auto one = rondo::spawn(transfer, std::ref(*a_), std::ref(*b_), some_ms(w, 10));
        if (mended)
            co_await transfer(*a_, *b_, 5ms);
        else
            co_await transfer(*b_, *a_, 5ms);
        co_await one;
    }
};

/// Two actors ask each other; each takes one message at a time.
class actors_ask_each_other final : public planted {
    using planted::planted;
    struct get : rondo::request<int> {};
    struct sum : rondo::request<int> {
        int of_other;  // -1: ask it
    };
    struct account {
        using message = std::variant<get, sum>;
        explicit account(rondo::actor_ref<message>* o) : other(o) {}
        int on(get&) { return 1; }
        task<int> on(sum& s) {
            co_await rondo::sleep_for(1ms);
            int of_other = s.of_other;
            if (of_other < 0) of_other = co_await other->ask<get>();
            co_return 1 + of_other;
        }
        rondo::actor_ref<message>* other;
    };
    using ref = rondo::actor_ref<account::message>;
    ref a_, b_;
    task<> question(ref& to, ref& other, rondo::duration when) {
        co_await rondo::sleep_for(when);
        int known = -1;
        if (mended) known = co_await other.ask<get>();
        const int both = co_await to.ask<sum>(known);
        if (both != 2) throw wrong("one and one is two");
    }
    task<> run(world& w) override {
        a_ = rondo::spawn_actor<account>(&b_);
        b_ = rondo::spawn_actor<account>(&a_);
        const rondo::duration first = some_ms(w, 10);
        auto one = rondo::spawn([this, first] { return question(a_, b_, first); });
        co_await question(b_, a_, 5ms);
        co_await one;
        a_.kill();
        b_.kill();
        co_await a_.ended();
        co_await b_.ended();
        a_ = b_ = {};
    }
};

/// Of two things that are ready, select_one() takes any: it is no priority.
class select_is_no_priority final : public planted {
    using planted::planted;
    std::optional<rondo::event> stop_;
    std::optional<rondo::channel<int>> jobs_;
    task<> worker() {
        for (;;) {
            std::size_t which = 0;
            if (mended)
                which = (co_await rondo::select_in_order(stop_->wait(), jobs_->receive())).index();
            else
                which = (co_await rondo::select_one(stop_->wait(), jobs_->receive())).index();
            if (which == 0) co_return;
            RONDO_ALWAYS(!stop_->is_set(), "who was stopped takes no job");
            co_await rondo::sleep_for(1ms);
        }
    }
    task<> run(world&) override {
        stop_.emplace();
        jobs_.emplace(10u);
        auto works = rondo::spawn([this] { return worker(); });
        for (int i = 0; i < 10; ++i) co_await jobs_->send(i);
        co_await rondo::sleep_for(5500us);
        stop_->set();
        co_await works;
    }
};

/// A task relies on having run before another one that was spawned later: chaos wants to know.
class relies_on_first_step final : public planted {
    using planted::planted;
    std::optional<rondo::event> ready_;
    std::optional<int> setting_;
    task<> prepare() {
        setting_ = 1;
        ready_->set();
        co_return;
    }
    task<> use() {
        if (mended) co_await ready_->wait();
        if (!setting_) throw wrong("used before it was prepared");
    }
    task<> run(world&) override {
        ready_.emplace();
        auto first = rondo::spawn([this] { return prepare(); });
        auto second = rondo::spawn([this] { return use(); });
        co_await first;
        co_await second;
    }
};

// --- resources ------------------------------------------------------------------------------------

/// Without descriptors it tries again at once, for ever, and nobody else gets to close one.
class descriptors_spin final : public planted {
    using planted::planted;
    task<> relay(tcp_stream& client, rondo::endpoint to) {
        for (;;) {
            auto target = co_await rondo::attempt(tcp_stream::connect(to));
            if (target) {
                const std::optional<message> m = co_await next(client);
                if (!m) co_return;
                const std::optional<message> answer = co_await ask(*target, *m);
                if (answer) co_await send(client, *answer);
                co_return;
            }
            if (mended)
                co_await rondo::sleep_for(1ms);
            else
                co_await rondo::immediate();
        }
    }
    task<> client(world& w, rondo::duration when) {
        co_await rondo::sleep_for(when);
        auto peer = co_await connect(w, "relay");
        const std::optional<message> answer = co_await ask(peer, {});
        if (!answer) throw wrong("no answer");
    }
    task<> run(world& w) override {
        serve_on(w, "srv", test::echo_session);
        const rondo::endpoint target = w.address_of("srv", 80);
        const auto session = [this, target](tcp_stream& peer) { return relay(peer, target); };
        serve_on(w, "relay", session, 100).descriptor_limit(4);  // more sessions than it has descriptors for
        auto one = rondo::spawn([&w, this] { return client(w, 0ms); });
        auto two = rondo::spawn([&w, this] { return client(w, 5ms); });
        co_await one;
        co_await two;
    }
};

/// A session's heartbeat goes on when the session ends by an error.
class leaked_task final : public planted {
    using planted::planted;
    std::set<std::uint32_t> alive_;
    task<> heartbeat(std::uint32_t id) {
        while (alive_.contains(id)) co_await rondo::sleep_for(10ms);
    }
    task<> session(tcp_stream& peer) {
        const std::uint32_t id = peer.peer().port();
        alive_.insert(id);
        rondo::spawn([this, id] { return heartbeat(id); }).discard();
        struct ends {
            std::set<std::uint32_t>* of;
            std::uint32_t id;
            ~ends() {
                if (of != nullptr) of->erase(id);
            }
        } at_any_end{mended ? &alive_ : nullptr, id};
        for (;;) {
            const std::optional<message> m = co_await next(peer);
            if (!m) break;
            co_await send(peer, *m);
        }
        alive_.erase(id);
    }
    task<> run(world& w) override {
        auto& srv = serve_on(w, "srv", [this](tcp_stream& peer) { return session(peer); });
        co_await rondo::sleep_for(1ms);
        const std::size_t before = srv.tasks();
        auto& one = w.host("one").run(ten_questions, w.address_of("srv", 80));
        const rondo::duration when = some_ms(w, 30);
        co_await rondo::sleep_for(when);
        if (when != 0ms) one.crash();
        co_await rondo::sleep_for(1s);
        if (srv.tasks() != before) throw wrong("a task is left of a session that is over");
    }
};

/// A peer whose power is cut says nothing: who only reads holds its connection for ever.
class forgotten_connection final : public planted {
    using planted::planted;
    task<> session(tcp_stream& peer) {
        const auto serve_one = [&]() -> task<bool> {
            const std::optional<message> m = co_await next(peer);
            if (m) co_await send(peer, *m);
            co_return m.has_value();
        };
        for (;;) {
            bool more = false;
            if (mended)
                more = (co_await rondo::move_on_after(1min, serve_one)).value_or(false);
            else
                more = co_await serve_one();
            if (!more) co_return;
        }
    }
    task<> run(world& w) override {
        auto& srv = serve_on(w, "srv", [this](tcp_stream& peer) { return session(peer); });
        auto& one = w.host("one").run(ten_questions, w.address_of("srv", 80));
        const rondo::duration when = some_ms(w, 30);
        co_await rondo::sleep_for(when);
        if (when != 0ms) one.crash(rondo::crash_mode::silent);
        co_await rondo::sleep_for(1h);
        if (srv.descriptors() != 1) throw wrong("a connection is kept though nobody is there");
    }
};

/// After an error the permit is given back twice, and there is one too many from then on.
class permit_given_back_twice final : public planted {
    using planted::planted;
    std::optional<rondo::semaphore> slots_;
    int active_ = 0;
    task<> work(tcp_stream& peer) {
        const std::optional<message> m = co_await next(peer);
        co_await rondo::sleep_for(10ms);
        if (m) co_await send(peer, *m);
    }
    task<> session(tcp_stream& peer) {
        auto slot = co_await slots_->acquire();
        ++active_;
        RONDO_ALWAYS(active_ <= 2, "two at a time");
        if (!mended) slot.detach();
        try {
            co_await work(peer);
        } catch (const std::system_error&) {
            if (!mended) slots_->release();
        }
        if (!mended) slots_->release();
        --active_;
    }
    static task<> client(rondo::endpoint to, rondo::duration patience) {
        auto peer = co_await tcp_stream::connect(to);
        const auto question = [&]() -> task<> { co_await ask(peer, {}); };
        const bool answered = co_await rondo::move_on_after(patience, question);
        if (!answered) peer.reset_on_close();
    }
    task<> run(world& w) override {
        slots_.emplace(2u);
        serve_on(w, "srv", [this](tcp_stream& peer) { return session(peer); });
        std::vector<rondo::task_handle<>> clients;
        for (int i = 0; i < 8; ++i)
            clients.push_back(rondo::spawn(client, w.address_of("srv", 80), w.choose(4) == 3 ? 5ms : 1min));
        for (auto& c : clients) co_await c;
        co_await rondo::sleep_for(1s);
    }
};

// --- hosts ----------------------------------------------------------------------------------------

/// Saves what counts before it says so: `written` is lost when the host crashes, `kept` is not.
struct disk {
    std::set<std::uint32_t> written, kept;
    task<> sync() {
        const std::set<std::uint32_t> now = written;
        co_await rondo::sleep_for(10ms);
        kept = now;
    }
};

/// It promises its vote, and after a crash it has forgotten: a sync is missing before the answer.
class forgotten_vote final : public planted {
    using planted::planted;
    disk disk_;
    task<> session(tcp_stream& peer) {
        std::optional<message> m = co_await next(peer);
        if (!m) co_return;
        if (disk_.written.empty()) disk_.written.insert(m->id);
        if (mended) co_await disk_.sync();
        m->value = disk_.written.contains(m->id);
        co_await send(peer, *m);
        co_await disk_.sync();
    }
    task<> boot() {
        disk_.written = disk_.kept;
        co_await server([this](tcp_stream& peer) { return session(peer); });
    }
    task<bool> elected(world& w, std::uint32_t candidate) {
        const auto election = [&]() -> task<bool> {
            auto peer = co_await connect(w, "srv");
            const std::optional<message> vote = co_await ask(peer, {0, candidate, 0});
            co_return vote && vote->value != 0;
        };
        bool won = false;
        try {
            won = (co_await rondo::move_on_after(1s, election)).value_or(false);
        } catch (const std::system_error&) {
        }
        co_return won;
    }
    task<> run(world& w) override {
        auto& srv = w.host("srv").run([this] { return boot(); });
        auto first = rondo::spawn([&w, this] { return elected(w, 1); });
        const auto when = some_ms(w, 60);
        co_await rondo::sleep_for(when);
        if (when != 0ms) {
            srv.crash();
            srv.restart();
        }
        const bool one = co_await first;
        const bool two = co_await elected(w, 2);
        if (one && two) throw wrong("two leaders were elected");
    }
};

/// It says "done" before its backup has it, and crashes in between.
class answered_before_replicated final : public planted {
    using planted::planted;
    std::set<std::uint32_t> backup_;
    task<> backup_session(tcp_stream& peer) {
        for (;;) {
            const std::optional<message> m = co_await next(peer);
            if (!m) co_return;
            backup_.insert(m->id);
            co_await send(peer, *m);
        }
    }
    task<> primary_session(tcp_stream& client, rondo::endpoint to) {
        auto backup = co_await tcp_stream::connect(to);
        for (;;) {
            const std::optional<message> m = co_await next(client);
            if (!m) co_return;
            if (!mended) co_await send(client, *m);
            const std::optional<message> kept = co_await ask(backup, *m);
            if (mended && kept) co_await send(client, *m);
        }
    }
    task<> run(world& w) override {
        serve_on(w, "backup", [this](tcp_stream& peer) { return backup_session(peer); });
        const rondo::endpoint backup = w.address_of("backup", 80);
        auto& primary = serve_on(w, "primary", [this, backup](tcp_stream& p) { return primary_session(p, backup); });
        std::uint32_t answered = 0;
        const auto write = [&]() -> task<> {
            try {
                auto peer = co_await connect(w, "primary");
                for (std::uint32_t id = 1; id <= 10; ++id) {
                    const std::optional<message> done = co_await ask(peer, {0, id, 0});
                    if (!done) co_return;
                    answered = id;
                }
            } catch (const std::system_error&) {
            }
        };
        auto writes = rondo::spawn(write);
        const rondo::duration when = some_ms(w, 50);
        co_await rondo::sleep_for(when);
        if (when != 0ms) primary.crash();
        co_await writes;
        co_await rondo::sleep_for(1s);
        for (std::uint32_t id = 1; id <= answered; ++id)
            if (!backup_.contains(id)) throw wrong("what was answered is lost");
    }
};

/// The later time stamp wins, but each host has a clock of its own.
class clocks_of_two_hosts final : public planted {
    using planted::planted;
    std::int64_t stamp_ = 0;
    std::uint32_t value_ = 0;
    task<> session(tcp_stream& peer) {
        const std::optional<message> m = co_await next(peer);
        if (!m) co_return;
        std::int64_t stamp = stamp_ + 1;  // an order of its own
        if (!mended) co_await peer.read_exactly(std::as_writable_bytes(std::span(&stamp, 1)));
        if (stamp > stamp_) {
            stamp_ = stamp;
            value_ = m->value;
        }
        co_await send(peer, *m);
    }
    task<> write(rondo::endpoint to, std::uint32_t value) {
        auto peer = co_await tcp_stream::connect(to);
        const std::int64_t stamp = rondo::detail::running().io().wall_now();
        co_await send(peer, {0, 0, value});
        if (!mended) co_await peer.write_all(std::as_bytes(std::span(&stamp, 1)));
        co_await next(peer);
    }
    task<> run(world& w) override {
        serve_on(w, "srv", [this](tcp_stream& peer) { return session(peer); });
        w.host("one").clock_offset(some_ms(w, 100));
        const rondo::endpoint srv = w.address_of("srv", 80);
        const auto writes = [this](rondo::endpoint to, std::uint32_t value) { return write(to, value); };
        co_await w.on(w.host("one"), writes, srv, 1u);
        co_await rondo::sleep_for(50ms);
        co_await w.on(w.host("two"), writes, srv, 2u);
        if (value_ != 2) throw wrong("the later write is lost");
    }
};

/// A lease counts from when it was given, not from when the answer came; and clocks drift.
class two_hold_the_lease final : public planted {
    using planted::planted;
    static constexpr auto lease = 1s;
    rondo::time_point given_until_{};
    int holders_ = 0;
    task<> session(tcp_stream& peer) {
        for (;;) {
            std::optional<message> m = co_await next(peer);
            if (!m) co_return;
            m->value = rondo::now() >= given_until_;
            if (m->value != 0) given_until_ = rondo::now() + lease + 1ms;
            co_await send(peer, *m);
        }
    }
    task<> hold(rondo::endpoint to) {
        auto peer = co_await tcp_stream::connect(to);
        for (int turns = 0; turns < 3;) {
            const rondo::time_point asked = rondo::now();
            const std::optional<message> answer = co_await ask(peer, {});
            const rondo::time_point until = mended ? asked + lease * 9 / 10 : rondo::now() + lease;
            if (answer && answer->value != 0) {
                ++turns;
                ++holders_;
                RONDO_ALWAYS(holders_ == 1, "one at a time");
                co_await rondo::sleep_until(until);
                --holders_;
            }
            co_await rondo::sleep_for(10ms);
        }
    }
    task<> run(world& w) override {
        serve_on(w, "srv", [this](tcp_stream& peer) { return session(peer); });
        const rondo::endpoint srv = w.address_of("srv", 80);
        const auto holds = [this](rondo::endpoint to) { return hold(to); };
        const auto on_host = [&, srv](const char* name) -> task<> { co_await w.on(w.host(name), holds, srv); };
        for (const char* name : {"one", "two"})
            w.host(name).clock_drift(-1000 * static_cast<std::int32_t>(w.choose(50)));
        auto one = rondo::spawn(on_host, "one");
        auto two = rondo::spawn(on_host, "two");
        co_await one;
        co_await two;
    }
};

// --- the table ------------------------------------------------------------------------------------

struct entry {
    const char* name;
    std::unique_ptr<planted> (*make)(bool mended);
    std::uint64_t within;  // so many seeds
    const char* says;      // in the message of the failure
    rondo::order mode = rondo::order::spec;
};

template <class Program>
std::unique_ptr<planted> make(bool mended) {
    return std::make_unique<Program>(mended);
}

constexpr entry table[] = {
    {"short read", make<short_read>, 10, "a message is whole"},
    {"joined lines", make<joined_lines>, 10, "lines were counted as one"},
    {"cut short in a message", make<cut_short_in_a_message>, 10, "begins with its head"},
    {"cancelled write again", make<cancelled_write_again>, 10, "bytes came twice"},
    {"order of two connections", make<order_of_two_connections>, 10, "was made before"},
    {"missed half-close", make<missed_half_close>, 10, "the answer is lost"},
    {"retry, twice done", make<retry_twice_done>, 10, "five times one"},
    {"a time-out is no answer", make<timeout_is_no_answer>, 10, "told 'not paid'"},
    {"late answer", make<late_answer>, 10, "another question"},
    {"check, then act", make<check_then_act>, 10, "sold once"},
    {"starvation", make<starvation>, 30, "never done"},
    {"lost wake-up", make<lost_wake_up>, 100, "deadlock"},
    {"opposite locks", make<opposite_locks>, 10, "deadlock"},
    {"actors ask each other", make<actors_ask_each_other>, 10, "deadlock"},
    {"select is no priority", make<select_is_no_priority>, 10, "takes no job"},
    {"relies on a first step", make<relies_on_first_step>, 10, "before it was prepared", rondo::order::chaos},
    {"descriptors spin", make<descriptors_spin>, 10, "live-lock"},
    {"leaked task", make<leaked_task>, 10, "a task is left"},
    {"forgotten connection", make<forgotten_connection>, 60, "nobody is there"},
    {"permit given back twice", make<permit_given_back_twice>, 10, "two at a time"},
    {"forgotten vote", make<forgotten_vote>, 10, "two leaders"},
    {"answered before replicated", make<answered_before_replicated>, 10, "what was answered is lost"},
    {"clocks of two hosts", make<clocks_of_two_hosts>, 10, "the later write is lost"},
    {"two hold the lease", make<two_hold_the_lease>, 10, "one at a time"},
};

/// Runs programs of one entry; each stays until the next begins.
struct scenario {
    const entry& of;
    bool mended;
    std::unique_ptr<planted> program = nullptr;
    task<> operator()(world& w) {
        program = of.make(mended);
        return program->run(w);
    }
};

rondo::simulation hunt(const entry& of) {
    rondo::simulation how = rondo::seeds(of.within);
    how.name = of.name;
    how.mode = of.mode;
    how.step_limit = 20'000;
    return how;
}

}  // namespace

TEST_CASE("planted bugs: each is found in few seeds, shrunk to few decisions, and had again from its file") {
    if (!test::on_sim()) return;  // the same on every backend
    for (const entry& of : table) {
        INFO(of.name);
        test::trace_folder folder;
        rondo::simulation how = hunt(of);
        how.shrink = true;
        how.trace_folder = folder.path.c_str();
        const rondo::simulation_report found = rondo::explore(how, scenario{of, false});
        CHECK(found.failed);
        CHECK_MESSAGE(found.message.find(of.says) != std::string::npos, found.message);
        CHECK(found.decisions.deviations() <= 10);
        CHECK(found.decisions.deviations() >= 1);
        // For the table in docs/sim.md.
        if (std::getenv("RONDO_PLANTED_BUGS") != nullptr)
            std::printf("%-28s seed %3lu of %3lu, shrunk to %2lu decisions\n", of.name,
                        static_cast<unsigned long>(found.runs), static_cast<unsigned long>(of.within),
                        static_cast<unsigned long>(found.decisions.deviations()));

        how.shrink = false;
        how.replay = found.trace_file.c_str();
        const rondo::simulation_report again = rondo::explore(how, scenario{of, false});
        CHECK(again.failed);
        CHECK_MESSAGE(again.message.find(of.says) != std::string::npos, again.message);
        CHECK(again.event_hash == found.decisions.event_hash);
    }
}

TEST_CASE("planted bugs: without faults none of the programs fails") {
    if (!test::on_sim()) return;
    for (const entry& of : table) {
        INFO(of.name);
        rondo::simulation benign = rondo::every_choice({}, 1);  // the first way to decide is the benign one
        benign.name = of.name;
        benign.mode = of.mode;
        const rondo::simulation_report report = rondo::explore(benign, scenario{of, false});
        CHECK_MESSAGE(!report.failed, report.message);
    }
}

TEST_CASE("planted bugs: mended, each program survives these seeds and more") {
    if (!test::on_sim()) return;
    for (const entry& of : table) {
        INFO(of.name);
        rondo::simulation how = hunt(of);
        how.runs = 100;
        const rondo::simulation_report report = rondo::explore(how, scenario{of, true});
        CHECK_MESSAGE(!report.failed, report.message);
    }
}
