// A replicated log: a node of it, and who appends to it. Raft's core: leaders elected by majorities, one for a
// term; entries that are committed when a majority has them. There are no snapshots and no changes of members, so
// the log grows for as long as it lives. Everything is over TCP; nothing here knows whether the world is real.
#pragma once

#include <rondo/rondo.hpp>

#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <vector>

namespace replicated {

using word = std::uint64_t;
using words = std::vector<word>;
using endpoints = std::vector<rondo::endpoint>;

struct entry {
    word term = 0;
    word client = 0;   // 0: what a leader begins its term with
    word request = 0;  // of that client: 1, 2, ...
    word value = 0;
    friend bool operator==(const entry&, const entry&) = default;
};

/// What a node must not forget. Entries count from 1.
struct memory {
    word term = 0;
    word vote = 0;  // in this term, for whom; 0: nobody yet
    std::vector<entry> log;
    word last_term() const { return log.empty() ? 0 : log.back().term; }
    word term_at(std::size_t index) const { return index == 0 ? 0 : log[index - 1].term; }
};

/// A disk, in place of the files that rondo does not have yet: it outlives the node that writes to it. What was
/// written is there after a crash if sync() has returned before.
class storage {
 public:
    explicit storage(rondo::duration slowest) : slowest_(slowest) {}
    memory written;
    rondo::task<> sync();
    /// The node starts anew.
    void recover() { written = kept_; }
    /// How many entries are safe.
    std::size_t kept() const { return kept_.log.size(); }

 private:
    const rondo::duration slowest_;
    memory kept_;
    word begun_ = 0, ended_ = 0;
};

/// Is told what happens, as it happens.
struct witness {
    virtual ~witness() = default;
    virtual void votes(word node, word term, word candidate) = 0;
    virtual void leads(word node, word term) = 0;
    virtual void wrote(word node, std::size_t index, const entry& e, word term_before) = 0;
    /// It is committed; `again`: it was before, under another index, and has no effect.
    virtual void applied(word node, std::size_t index, const entry& e, bool again) = 0;
};

/// What may be wrong with it: for showing that it is found.
enum class bug { none, vote_twice, commit_old_term, ack_before_majority, no_dedup };

struct settings {
    rondo::duration heartbeat;
    rondo::duration answer_within;  // then the connection is given up
    rondo::duration election;       // of silence, up to twice that, and a follower wants to lead
    std::size_t entries_at_once = 16;
    bug with = bug::none;
};

class node {
 public:
    /// `id` counts from 1: it is at nodes[id - 1]. All must outlive it.
    node(word id, const endpoints& nodes, const settings& how, storage& disk, witness& seen)
        : id_(id), nodes_(nodes), how_(how), disk_(disk), seen_(seen), match_(nodes.size() + 1) {}
    /// Until it is cancelled.
    rondo::task<> run(rondo::tcp_listener& listener);

 private:
    enum class role { follower, candidate, leader };

    rondo::task<> session(rondo::tcp_stream& peer);
    rondo::task<words> answer(const words& question);
    rondo::task<words> vote(const words& question);
    rondo::task<words> take_entries(const words& question);
    rondo::task<words> append(const words& question);

    rondo::task<> watch_the_leader();
    rondo::task<> run_for_office();
    rondo::task<> ask_for_vote(word peer, word term, std::size_t& votes);
    void lead();
    rondo::task<> replicate(word peer, word term);
    rondo::task<> keep();

    bool leads(word term) const { return role_ == role::leader && now_.term == term; }
    void follow(word term);
    void heard();
    void put(const entry& e);
    void commit_what_a_majority_has();
    void apply();
    void changed() {
        change_.set();
        change_.clear();
    }

    const word id_;
    const endpoints& nodes_;
    const settings& how_;
    storage& disk_;
    witness& seen_;

    memory& now_ = disk_.written;
    role role_ = role::follower;
    word leader_ = 0;
    rondo::time_point patience_{};            // until then the leader may be silent
    std::size_t committed_ = 0, applied_ = 0;
    std::vector<std::size_t> match_;          // a leader's: what each node has, by id
    std::map<word, word> done_;               // of each client, the latest request that was applied
    rondo::event change_{"change"};
    rondo::task_group* tasks_ = nullptr;
};

/// Appends, as request number `request` of `client`, which must be its only one at a time; tries again, with any
/// node, until it is acknowledged.
rondo::task<> append(const endpoints& nodes, word client, word request, word value, rondo::duration patience);

}  // namespace replicated
