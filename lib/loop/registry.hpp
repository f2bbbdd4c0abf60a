// Which loops there are: those of this thread, and those of the process.
#pragma once

#include <rondo/base/detail/config.hpp>

#include <cstdint>
#include <mutex>

namespace rondo::detail {

class engine;

/// The first loop of the process. Exported, and in no namespace without a name: lib/gdb/rondo-gdb.py begins here.
extern RONDO_API constinit engine* every_loop;

/// Its address names the thread.
extern constinit thread_local char thread_mark;

/// The loops enter themselves, and a forked child tells those that are copies.
struct registry {
    static void enlist(engine& l) noexcept;
    static void unlist(engine& l) noexcept;
    static bool is_last_here() noexcept { return loops_here == nullptr; }
    /// The loop with that serial number: of this thread, and under RONDO_DEBUG of any, whose check will say so.
    static engine* find(std::uint32_t serial) noexcept;
    /// A serial number that no other loop of the process has had lately.
    static std::uint32_t next_serial() noexcept;
    /// Gives back memory that the loops of this thread do not need now.
    static void trim_here() noexcept;

 private:
    static void watch_forks() noexcept;
    static void forked() noexcept;

    static constinit thread_local engine* loops_here;
    static constinit std::mutex every_loop_guard;
};

}  // namespace rondo::detail
