// A backend that answers some operations and calls itself, as a kernel might, whatever the one below would do.
#pragma once

#include "test.hpp"

#include <rondo/loop/forwarding_backend.hpp>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace test {

/// What the next operations, or calls, are answered instead of being done.
struct answers {
    std::map<rondo::io_kind, std::deque<int>> to_ops;
    std::map<rondo::sys_op::call, std::deque<int>> to_calls;
    std::map<rondo::sys_op::option, std::deque<int>> to_options;
    std::size_t reported_late = 0;  // so many of `to_ops` in the next wait, and not at once

    bool empty() const {
        const auto all_empty = [](const auto& each) {
            for (const auto& [what, left] : each)
                if (!left.empty()) return false;
            return true;
        };
        return all_empty(to_ops) && all_empty(to_calls) && all_empty(to_options);
    }
};

class answering_backend final : public rondo::forwarding_backend {
 public:
    answering_backend(std::unique_ptr<rondo::backend> inside, answers& what) noexcept
        : rondo::forwarding_backend(std::move(inside)), answers_(what) {}

    bool submit(rondo::io_op& what) noexcept override {
        auto& left = answers_.to_ops[what.kind];
        if (left.empty()) return rondo::forwarding_backend::submit(what);
        const int answer = left.front();
        left.pop_front();
        what.moved = 0;
        if (answers_.reported_late > 0) {
            --answers_.reported_late;
            what.state = rondo::op::armed;
            late_.push_back({&what, answer});
            wake();
            return false;
        }
        what.result = answer;
        return true;
    }
    void cancel(rondo::io_op& what) noexcept override {
        for (rondo::completion& each : late_)
            if (each.what == &what) return;  // its answer comes all the same
        rondo::forwarding_backend::cancel(what);
    }
    int control(rondo::sys_op& what) noexcept override {
        const bool of_option = what.what == rondo::sys_op::call::set_option;
        auto& left = of_option ? answers_.to_options[what.which] : answers_.to_calls[what.what];
        if (left.empty()) return rondo::forwarding_backend::control(what);
        const int answer = left.front();
        left.pop_front();
        return answer;
    }
    bool wait(rondo::time_point until, rondo::completions& done) noexcept override {
        for (; !late_.empty() && !done.full(); late_.pop_front())
            done.report(*late_.front().what, late_.front().result);
        return rondo::forwarding_backend::wait(done.size() > 0 ? rondo::time_point::min() : until, done);
    }
    std::size_t armed() const noexcept override { return rondo::forwarding_backend::armed() + late_.size(); }

 private:
    answers& answers_;
    std::deque<rondo::completion> late_;
};

struct answering : rondo::backend_factory {
    std::unique_ptr<rondo::backend> make(const rondo::backend_options& options, std::string& why) override {
        return std::make_unique<answering_backend>(rondo::choose_backend(rondo::backend_kind::automatic, options, why),
                                                   what);
    }
    answers what;
};

/// Runs `body(answers)`, with the answers that it gives; none is left at the end.
template <class Body>
void with_answers(Body body) {
    answering factory;
    rondo::loop_options options;
    options.factory = &factory;
    rondo::loop l(options);
    rondo::run_on(l, body, std::ref(factory.what));
    CHECK(factory.what.empty());
}

}  // namespace test
