#include <rondo/actor/detail/actor.hpp>

#include <cerrno>
#include <cstdio>

namespace rondo::detail {

const op_vtable exit_wait::table = {
    [](op& o) noexcept {
        static_cast<exit_wait&>(o).unlink();
        current->complete(o, -ECANCELED);
    },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept {
        std::snprintf(text, size, "the end of %s", static_cast<const exit_wait&>(o).of.shown_name());
    },
};

void exit_wait::told(watcher& w, const actor_exit& exit) noexcept {
    auto& self = static_cast<exit_wait&>(w);
    self.exit = exit;
    current->complete(self, 0);
}

actor_exit exit_of(outcome<void>& out) noexcept {
    const std::exception_ptr& error = out.error();
    if (!error) return {actor_exit::kind::normal, nullptr};
    if (is_cancellation(error)) return {actor_exit::kind::cancelled, nullptr};
    return {actor_exit::kind::failed, error};
}

}  // namespace rondo::detail
