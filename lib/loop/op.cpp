#include <rondo/loop/op.hpp>

#include <cstdio>

namespace rondo::detail {

namespace {

constexpr op_vtable ready_vtable = {
    [](op&) noexcept {},
    [](op&) noexcept {},
    [](const op&, char* text, std::size_t size) noexcept { std::snprintf(text, size, "ready to run"); },
};

}  // namespace

op in_queue(ready_vtable);
op in_line(ready_vtable);

}  // namespace rondo::detail
