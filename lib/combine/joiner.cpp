#include <rondo/combine/joiner.hpp>

namespace rondo {

task_state ended_child::state() const noexcept {
    if (failed()) return task_state::failed;
    return succeeded() ? task_state::succeeded : task_state::cancelled;
}

}  // namespace rondo
