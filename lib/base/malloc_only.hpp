// Whether blocks come from plain malloc: so under a sanitizer, with RONDO_FRAME_POOL=0, or built so.
#pragma once

namespace rondo::detail {

extern bool malloc_only;

}  // namespace rondo::detail
