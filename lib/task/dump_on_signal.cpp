#include <rondo/task/dump_on_signal.hpp>

#include <rondo/task/await_tree.hpp>

#include "base/report.hpp"
#include "loop/signal_notice.hpp"

#include <chrono>
#include <new>

namespace rondo {

namespace {

// Who asked is there to read it, but may need a moment for what the pipe does not hold at once.
constexpr std::chrono::milliseconds patience{100};

void print_tree(void* of) noexcept {
    detail::report text(patience);
    try {
        text.add(await_tree(*static_cast<const loop*>(of)).text());
    } catch (const std::bad_alloc&) {
        text.add("rondo: out of memory for the await tree\n");
    }
}

}  // namespace

struct dump_on_signal::notice : detail::signal_notice {
    using signal_notice::signal_notice;
};

dump_on_signal::dump_on_signal(int signal, loop& l)
    : notice_(new notice(l, {signal}, [](void* of, std::uint64_t) { print_tree(of); }, &l)) {}

dump_on_signal::~dump_on_signal() { delete notice_; }

}  // namespace rondo
