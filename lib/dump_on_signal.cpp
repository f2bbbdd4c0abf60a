#include <rondo/await_tree.hpp>

#include "signal_notice.hpp"

#include <cstdio>
#include <new>

namespace rondo {

namespace {

void print_tree(void* of) noexcept {
    try {
        std::fputs(await_tree(*static_cast<const loop*>(of)).text().c_str(), stderr);
    } catch (const std::bad_alloc&) {
        std::fputs("rondo: out of memory for the await tree\n", stderr);
    }
}

}  // namespace

struct dump_on_signal::notice : detail::signal_notice {
    using signal_notice::signal_notice;
};

dump_on_signal::dump_on_signal(int signal, loop& l)
    : notice_(new notice(l, {signal}, [](void* of) { print_tree(of); }, &l)) {}

dump_on_signal::~dump_on_signal() { delete notice_; }

}  // namespace rondo
