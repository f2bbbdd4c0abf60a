// JavaScript's promises, as ECMAScript specifies them, on the loop's microtask queue.
//
// They differ from rondo::task in what they cost: every reaction is a microtask of its own, and a
// promise that is resolved with another promise waits two microtasks longer, since one job asks the
// other for its outcome and a second one hears it. Ordering samples measure just that.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "scenario.hpp"
#include "stage.hpp"

namespace replay {

struct promise;
class realm;

/// A JavaScript value, as far as scenarios can tell values apart.
struct value {
    enum class sort : std::uint8_t {
        plain,     // also what promises settle with
        thenable,  // an object whose then(r) calls r() at once
        promise,
    };

    sort what = sort::plain;
    replay::promise* p = nullptr;
};

/// How the timeline names a job.
struct caption {
    std::string text;
    span at;
};

/// What runs when a promise settles: a microtask.
class reaction {
 public:
    virtual ~reaction() = default;
    virtual void run(realm& r, bool fulfilled) = 0;
    virtual caption describe(bool fulfilled) const = 0;

 private:
    friend class realm;
    reaction* next_ = nullptr;
};

struct promise {
    enum class state : std::uint8_t { pending, fulfilled, rejected };

    state now = state::pending;
    bool claimed = false;  // its resolve or reject function was called; later calls do nothing
    reaction* first = nullptr;
    reaction* last = nullptr;
};

/// Makes promises and keeps them until the scenario is over: they may well form cycles.
class realm {
 public:
    explicit realm(stage& on) noexcept : stage_(on) {}

    promise& pending() { return promises_.emplace_back(); }
    promise& resolved(value v);
    promise& rejected();

    /// The resolve and reject functions that a promise is made with.
    void resolve(promise& p, value v = {});
    void reject(promise& p);
    /// Resolves or rejects for whoever does so once by construction.
    void resolve_once(promise& p, value v);
    void settle(promise& p, bool fulfilled);

    /// PerformPromiseThen.
    void then(promise& p, reaction& r);
    /// PromiseResolve: promises stay what they are, anything else becomes the value of a new one.
    promise& promise_of(value v);
    promise& combine(form how, std::span<const value> inputs);

    /// Keeps something until the scenario is over.
    template <class R, class... Args>
    R& make(Args&&... args) {
        auto made = std::make_unique<R>(std::forward<Args>(args)...);
        R& kept = *made;
        kept_.push_back(std::move(made));
        return kept;
    }

 private:
    void queue(reaction& r, bool fulfilled);

    stage& stage_;
    std::deque<promise> promises_;
    std::vector<std::unique_ptr<reaction>> kept_;
};

}  // namespace replay
