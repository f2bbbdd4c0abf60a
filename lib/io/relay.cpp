#include <rondo/io/relay.hpp>

#include "loop/places.hpp"

namespace rondo::detail {

void relay_state::moved() {
    const time_point limit = idle_.after(now());
    if (limit != never) scope_.set_deadline(limit);
}

void relay_state::failed(std::error_code why, bool on_first) noexcept {
    if (result_.error) return;
    result_.how = relay_end::failed;
    result_.error = why;
    result_.failed_on_first = on_first;
    scope_.cancel("a stream has failed");
}

std::source_location relay_state::called_at() noexcept { return calling_place(); }

}  // namespace rondo::detail
