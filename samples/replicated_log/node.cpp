#include "node.hpp"

#include <algorithm>
#include <stdexcept>

using rondo::task;
using rondo::tcp_stream;

namespace replicated {
namespace {

// --- the wire: words, their number in front -------------------------------------------------------------

constexpr word words_max = 4096;
constexpr rondo::duration idle_limit = std::chrono::seconds(30);

enum : word { asks_for_vote = 1, brings_entries, wants_to_append };

task<> send(tcp_stream& to, const words& text) {
    words framed{text.size()};
    framed.insert(framed.end(), text.begin(), text.end());
    co_await to.write_all(std::as_bytes(std::span(framed)));
}

/// Empty at the end of the stream.
task<words> receive(tcp_stream& from) {
    word size = 0;
    std::size_t got = co_await from.read_exactly(std::as_writable_bytes(std::span(&size, 1)));
    if (got < sizeof size) co_return words();
    if (size == 0 || size > words_max) throw std::length_error("a message of " + std::to_string(size) + " words");
    words text(size);
    got = co_await from.read_exactly(std::as_writable_bytes(std::span(text)));
    if (got < size * sizeof(word)) text.clear();
    co_return text;
}

/// Questions to a node, one at a time. A question that is not answered in time takes its connection with it: else
/// its answer would be taken for that of the next.
class line {
 public:
    explicit line(rondo::endpoint to) : to_(to) {}
    /// Empty if there was no answer.
    task<words> ask(const words& question, rondo::duration within) {
        words got;
        const auto try_it = [&]() -> task<> {
            if (!stream_.is_open()) stream_ = co_await tcp_stream::connect(to_);
            co_await send(stream_, question);
            got = co_await receive(stream_);
        };
        try {
            co_await rondo::move_on_after(within, try_it);
        } catch (const std::system_error&) {
        }
        if (got.empty()) stream_ = tcp_stream();
        co_return got;
    }

 private:
    const rondo::endpoint to_;
    tcp_stream stream_;
};

}  // namespace

task<> storage::sync() {
    const memory written_now = written;
    const word turn = ++begun_;
    co_await rondo::sleep_for(rondo::duration(1 + rondo::random_u64() % static_cast<word>(slowest_.count())));
    if (turn < ended_) co_return;  // a later one was faster, and wrote all of it
    ended_ = turn;
    kept_ = written_now;
}

// --- a node: what it is asked --------------------------------------------------------------------------

task<> node::run(rondo::tcp_listener& listener) {
    const auto both = [&](rondo::task_group& group) -> task<> {
        tasks_ = &group;
        group.spawn([this] { return watch_the_leader(); }).discard();
        const auto serves = [this](tcp_stream& peer) { return session(peer); };
        co_await rondo::serve(listener, serves, {.max_connections = 100, .stop_on_signals = false});
    };
    co_await rondo::with_task_group(both);
}

task<> node::session(tcp_stream& peer) {
    for (;;) {
        words question;
        const auto next = [&]() -> task<> { question = co_await receive(peer); };
        co_await rondo::move_on_after(idle_limit, next);
        if (question.empty()) co_return;
        const words said = co_await answer(question);
        co_await send(peer, said);
    }
}

task<words> node::answer(const words& question) {
    const std::size_t n = question.size();
    if (question[0] == asks_for_vote && n == 5) return vote(question);
    if (question[0] == brings_entries && n >= 6 && (n - 6) % 4 == 0) return take_entries(question);
    if (question[0] == wants_to_append && n == 4 && question[1] != 0) return append(question);
    throw std::invalid_argument("no question of this protocol");
}

/// {term, granted}
task<words> node::vote(const words& question) {
    const word term = question[1], candidate = question[2], last = question[3], last_term = question[4];
    if (term > now_.term) follow(term);
    const bool as_new = std::pair(last_term, last) >= std::pair(now_.last_term(), word(now_.log.size()));
    const bool granted = term == now_.term && (now_.vote == 0 || now_.vote == candidate) && as_new;
    if (granted) {
        now_.vote = candidate;
        heard();
        seen_.votes(id_, term, candidate);
    }
    if (how_.with != bug::vote_twice) co_await disk_.sync();  // a promise: it must not be forgotten
    co_return words{now_.term, granted};
}

/// {term, whether they fit, how many entries are the same now; or may be}
task<words> node::take_entries(const words& question) {
    const word term = question[1], leader = question[2], before = question[3], term_before = question[4];
    if (term < now_.term) co_return words{now_.term, false, 0};
    if (term > now_.term || role_ != role::follower) follow(term);
    leader_ = leader;
    heard();
    if (before > now_.log.size() || now_.term_at(before) != term_before)
        co_return words{now_.term, false, std::min<word>(now_.log.size(), before - 1)};

    std::size_t index = before;
    for (std::size_t i = 6; i < question.size(); i += 4) {
        const entry e{question[i], question[i + 1], question[i + 2], question[i + 3]};
        if (++index <= now_.log.size() && now_.term_at(index) == e.term) continue;
        now_.log.resize(index - 1);  // what another leader wrote, and was never committed
        put(e);
    }
    co_await disk_.sync();
    if (now_.term != term) co_return words{now_.term, false, 0};
    committed_ = std::max<std::size_t>(committed_, std::min<std::size_t>(question[5], index));
    apply();
    co_return words{now_.term, true, index};
}

/// {whether it is in, who leads}
task<words> node::append(const words& question) {
    const entry e{now_.term, question[1], question[2], question[3]};
    if (leads(e.term)) {
        put(e);
        changed();
        co_await keep();
        // An earlier try may be in the log as well: who applies it will see.
        const auto is_applied = [&]() -> task<> {
            while (leads(e.term) && done_[e.client] < e.request) co_await change_.wait();
        };
        if (how_.with != bug::ack_before_majority) co_await rondo::move_on_after(how_.answer_within, is_applied);
    }
    const bool in = done_[e.client] >= e.request || (how_.with == bug::ack_before_majority && leads(e.term));
    co_return words{in, leader_};
}

// --- a node: what it does by itself ----------------------------------------------------------------------

task<> node::watch_the_leader() {
    heard();
    for (;;) {
        co_await rondo::sleep_until(patience_);
        if (role_ == role::leader) heard();
        if (rondo::now() < patience_) continue;
        co_await rondo::move_on_after(how_.election, [this] { return run_for_office(); });
    }
}

task<> node::run_for_office() {
    follow(now_.term + 1);
    role_ = role::candidate;
    now_.vote = id_;
    heard();
    const word term = now_.term;
    seen_.votes(id_, term, id_);
    co_await disk_.sync();
    std::size_t votes = 1;
    const auto asks = [&](rondo::task_group& group) -> task<> {
        for (word peer = 1; peer <= nodes_.size(); ++peer)
            if (peer != id_)
                group.spawn([this, peer, term, &votes] { return ask_for_vote(peer, term, votes); }).discard();
        co_return;
    };
    co_await rondo::with_task_group(asks);
}

task<> node::ask_for_vote(word peer, word term, std::size_t& votes) {
    line to(nodes_[peer - 1]);
    const words question{asks_for_vote, term, id_, now_.log.size(), now_.last_term()};
    const words got = co_await to.ask(question, how_.answer_within);
    if (got.size() != 2) co_return;
    if (got[0] > now_.term) follow(got[0]);
    if (now_.term != term || role_ != role::candidate || got[1] == 0) co_return;
    if (++votes > nodes_.size() / 2) lead();
}

void node::lead() {
    role_ = role::leader;
    leader_ = id_;
    seen_.leads(id_, now_.term);
    std::fill(match_.begin(), match_.end(), 0);
    put({now_.term, 0, 0, 0});  // when this is committed, so is all before it
    for (word peer = 1; peer <= nodes_.size(); ++peer)
        if (peer != id_) tasks_->spawn([this, peer, term = now_.term] { return replicate(peer, term); }).discard();
    tasks_->spawn([this] { return keep(); }).discard();
}

/// Brings a follower what it lacks, and a heartbeat if it lacks nothing.
task<> node::replicate(word peer, word term) {
    line to(nodes_[peer - 1]);
    std::size_t next = now_.log.size();
    while (leads(term)) {
        words question{brings_entries, term, id_, next - 1, now_.term_at(next - 1), committed_};
        const std::size_t end = std::min(now_.log.size(), next - 1 + how_.entries_at_once);
        for (std::size_t i = next; i <= end; ++i) {
            const entry& e = now_.log[i - 1];
            question.insert(question.end(), {e.term, e.client, e.request, e.value});
        }
        const words got = co_await to.ask(question, how_.answer_within);
        if (got.size() == 3 && got[0] > now_.term) follow(got[0]);
        if (!leads(term)) co_return;
        if (got.size() == 3 && got[1] != 0) {
            match_[peer] = std::max<std::size_t>(match_[peer], got[2]);
            next = match_[peer] + 1;
            commit_what_a_majority_has();
        } else if (got.size() == 3) {
            next = std::max<std::size_t>(got[2], match_[peer]) + 1;
            continue;
        }
        const auto news = [this]() -> task<> { co_await change_.wait(); };
        if (next > now_.log.size() || got.empty()) co_await rondo::move_on_after(how_.heartbeat, news);
    }
}

/// The leader's own copy counts when it is safe.
task<> node::keep() {
    const word term = now_.term;
    co_await disk_.sync();
    if (leads(term)) commit_what_a_majority_has();
}

// --- a node: its state ----------------------------------------------------------------------------------

void node::follow(word term) {
    if (term > now_.term) {
        now_.term = term;
        now_.vote = 0;
        leader_ = 0;
    }
    role_ = role::follower;
    changed();
}

void node::heard() {
    const auto extra = rondo::random_u64() % static_cast<word>(how_.election.count());
    patience_ = rondo::now() + how_.election + rondo::duration(extra);
}

void node::put(const entry& e) {
    seen_.wrote(id_, now_.log.size() + 1, e, now_.last_term());
    now_.log.push_back(e);
}

void node::commit_what_a_majority_has() {
    match_[id_] = disk_.kept();
    std::vector<std::size_t> have(match_.begin() + 1, match_.end());
    std::sort(have.begin(), have.end(), std::greater());
    const std::size_t by_most = have[have.size() / 2];
    // What an earlier leader wrote may still be overwritten, although a majority has it, until something of this
    // term is behind it (figure 8 of the Raft paper).
    if (by_most <= committed_ || (now_.term_at(by_most) != now_.term && how_.with != bug::commit_old_term)) return;
    committed_ = by_most;
    apply();
}

void node::apply() {
    for (; applied_ < committed_; ++applied_) {
        const entry& e = now_.log[applied_];
        word& latest = done_[e.client];
        const bool again = e.client != 0 && e.request <= latest && how_.with != bug::no_dedup;
        latest = std::max(latest, e.request);
        seen_.applied(id_, applied_ + 1, e, again);
    }
    changed();
}

// --- who appends -----------------------------------------------------------------------------------------

task<> append(const endpoints& nodes, word client, word request, word value, rondo::duration patience) {
    const words question{wants_to_append, client, request, value};
    word guess = client;
    for (;;) {
        line to(nodes[guess % nodes.size()]);
        const words got = co_await to.ask(question, patience);
        if (got.size() == 2 && got[0] != 0) co_return;
        guess = got.size() == 2 && got[1] != 0 ? got[1] - 1 : guess + 1;
        co_await rondo::sleep_for(patience / 20);
    }
}

}  // namespace replicated
