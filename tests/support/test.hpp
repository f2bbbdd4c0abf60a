// What tests share: run a task on the backend under test, and know which one that is.
#pragma once

#include "check.hpp"

#include <rondo/rondo.hpp>

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace test {

using namespace std::chrono_literals;

/// The backend that RONDO_BACKEND asks for; what "auto" gives is asked of a loop.
inline rondo::backend_kind backend_under_test() {
    static const rondo::backend_kind kind = rondo::loop().kind();
    return kind;
}

/// RONDO_BACKEND=sim:SEED: what reality leaves open is not as benign as it can be.
inline bool seeded() {
    const char* name = std::getenv("RONDO_BACKEND");
    return name != nullptr && std::string_view(name).starts_with("sim:");
}

/// RONDO_BACKEND=sim:SEED:chaos: ready tasks run in any order.
inline bool in_chaos() {
    const char* name = std::getenv("RONDO_BACKEND");
    return name != nullptr && std::string_view(name).ends_with(":chaos");
}

/// Lets those who are ready have their step first: yield(), but in chaos, where that promises nothing, the
/// rest of the drain.
inline rondo::task<> others_first() {
    if (in_chaos()) {
        co_await rondo::immediate();
    } else {
        co_await rondo::yield();
    }
}

inline bool on_sim() { return backend_under_test() == rondo::backend_kind::sim; }

/// Runs `fn(args...)` as a main task and checks that nothing is left of it afterwards.
template <class F, class... Args>
decltype(auto) run(F&& fn, Args&&... args) {
    struct nothing_left {
        std::size_t before = rondo::detail::frames_live();
        ~nothing_left() { CHECK(rondo::detail::frames_live() == before); }
    } check;
    return rondo::run(std::forward<F>(fn), std::forward<Args>(args)...);
}

/// Labels in order of arrival: most ordering tests compare one of these.
class journal {
 public:
    void add(std::string_view label) {
        if (!text_.empty()) text_ += ' ';
        text_ += label;
    }
    /// A callback that adds `label`.
    auto note(std::string label) {
        return [this, label = std::move(label)] { add(label); };
    }
    const std::string& text() const { return text_; }

 private:
    std::string text_;
};

}  // namespace test
