// The comments in quotes are the names of the specification (ECMA-262, section 27.2).
#include "promise.hpp"

namespace replay {
namespace {

/// The job that asks a promise, with which `into` was resolved, for its outcome, and the reaction
/// that passes it on: the two extra turns. ("NewPromiseResolveThenableJob")
class adoption final : public reaction {
 public:
    adoption(promise& into, value from) noexcept : into_(into), from_(from) {}

    void run(realm& r, bool fulfilled) override {
        if (!std::exchange(asked_, true)) {
            if (from_.what == value::sort::promise) return r.then(*from_.p, *this);
            fulfilled = true;  // the thenable calls back at once
        }
        r.settle(into_, fulfilled);
    }

    caption describe(bool fulfilled) const override {
        if (asked_) return {fulfilled ? "adopt: fulfil" : "adopt: reject", {}};
        return {from_.what == value::sort::promise ? "adopt a promise" : "adopt a thenable", {}};
    }

 private:
    promise& into_;
    value from_;
    bool asked_ = false;
};

/// What `all`, `any` and `settled` count on.
struct tally {
    promise& into;
    form how;
    std::size_t left;
};

class element final : public reaction {
 public:
    element(std::shared_ptr<tally> of, std::size_t index) noexcept : of_(std::move(of)), index_(index) {}

    void run(realm& r, bool fulfilled) override {
        const bool decides =
            of_->how == form::race || (of_->how == form::all && !fulfilled) || (of_->how == form::any && fulfilled);
        const bool last = !decides && --of_->left == 0;
        if (!decides && !last) return;
        const bool outcome = decides ? fulfilled : of_->how != form::any;
        if (outcome) {
            r.resolve(of_->into);
        } else {
            r.reject(of_->into);
        }
    }

    caption describe(bool) const override {
        const char* name = of_->how == form::all    ? "all"
                           : of_->how == form::race ? "race"
                           : of_->how == form::any  ? "any"
                                                    : "allSettled";
        return {name + ("[" + std::to_string(index_) + "]"), {}};
    }

 private:
    std::shared_ptr<tally> of_;
    std::size_t index_;
};

}  // namespace

promise& realm::resolved(value v) {
    promise& p = pending();
    resolve(p, v);
    return p;
}

promise& realm::rejected() {
    promise& p = pending();
    reject(p);
    return p;
}

void realm::resolve(promise& p, value v) {
    if (!std::exchange(p.claimed, true)) resolve_once(p, v);
}

void realm::reject(promise& p) {
    if (!std::exchange(p.claimed, true)) settle(p, false);
}

// "Promise Resolve Functions", from step 7 on.
void realm::resolve_once(promise& p, value v) {
    if (v.what == value::sort::plain) return settle(p, true);
    if (v.p == &p) return settle(p, false);  // a promise for itself: a TypeError
    queue(make<adoption>(p, v), true);
}

void realm::settle(promise& p, bool fulfilled) {
    p.now = fulfilled ? promise::state::fulfilled : promise::state::rejected;
    reaction* next = std::exchange(p.first, nullptr);
    p.last = nullptr;
    while (next != nullptr) {
        reaction& r = *next;
        next = std::exchange(r.next_, nullptr);
        queue(r, fulfilled);
    }
}

void realm::then(promise& p, reaction& r) {
    if (p.now != promise::state::pending) return queue(r, p.now == promise::state::fulfilled);
    (p.last == nullptr ? p.first : p.last->next_) = &r;
    p.last = &r;
}

promise& realm::promise_of(value v) { return v.what == value::sort::promise ? *v.p : resolved(v); }

promise& realm::combine(form how, std::span<const value> inputs) {
    promise& into = pending();
    // One more than there are inputs, while they are being asked.
    auto all = std::make_shared<tally>(into, how, inputs.size() + 1);
    for (std::size_t i = 0; i < inputs.size(); ++i) then(promise_of(inputs[i]), make<element>(all, i));
    if (--all->left == 0 && how != form::race) {
        if (how == form::any) {
            reject(into);
        } else {
            resolve(into);
        }
    }
    return into;
}

void realm::queue(reaction& r, bool fulfilled) {
    std::uint32_t item = 0;
    if (stage_.record != nullptr) {
        caption c = r.describe(fulfilled);
        item = stage_.record->queued(queue_name::microtasks, std::move(c.text), c.at);
    }
    stage_.loop.queue_microtask(
        [this, &r, item, fulfilled] { stage_.perform(item, [&] { r.run(*this, fulfilled); }); });
}

}  // namespace replay
