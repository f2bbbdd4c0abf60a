// What a thread puts away when it ends.
//
// This is not left to destructors of thread_local objects: the compiler registers those when they are first used, with
// memory from malloc, and glibc ends the process if there is none. It was an exception's first throw that died so.
#pragma once

namespace rondo::detail {

/// constinit and thread_local.
struct thread_end {
    void (*put_away)() noexcept;
    thread_end* next = nullptr;
    bool promised = false;
};

/// Sees to it that `what.put_away` is called when this thread ends, after the destructors of its thread_local objects;
/// on the thread that ends the program, among its static ones. Once is enough. False: there is no memory for that.
[[nodiscard]] bool at_thread_end(thread_end& what) noexcept;

}  // namespace rondo::detail
