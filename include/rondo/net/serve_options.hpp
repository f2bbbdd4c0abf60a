// How serve() serves, and what it counts.
#pragma once

#include <rondo/base/time.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace rondo {

class server_control;

/// How to serve. It is trivially copyable on purpose. Of the limits in time, 0 means that there is none.
struct serve_options {
    /// Sessions at the same time. 0: four fifths of the descriptors this process, or simulated host, may have, and 64
    /// fewer at least where there are twice as many.
    std::uint32_t max_connections = 0;
    /// When there are as many: further connections are reset at once. False: they wait in the kernel's backlog.
    bool refuse_when_full = false;
    /// So many connections are taken in one turn of the loop, and one more for each further listener; then sessions
    /// have theirs. At least 1.
    std::uint32_t accepts_per_turn = 64;

    /// Sessions at the same time of one IPv4 address, or of one IPv6 network of 64 bits; further connections of it are
    /// reset at once. 0: as many as it likes.
    std::uint32_t max_connections_per_peer = 0;
    /// New connections a second of such an address; what is more is reset at once. 0: as many as it likes.
    std::uint32_t connection_rate_per_peer = 0;
    /// How many of these may come at once. 0: those of a second.
    std::uint32_t connection_burst_per_peer = 0;

    /// How long no byte may be moved on a connection, in either direction, before its session is cancelled. What counts
    /// is what the peer's host has sent and acknowledged, not what the session has read or written.
    delay idle_limit = duration::zero();
    /// How long a peer may take none of the bytes that wait for it; then the session is cancelled, and its connection
    /// reset when the session closes it.
    delay write_stall_limit = duration::zero();
    /// How long a session may last before it is cancelled.
    delay session_limit = duration::zero();

    /// How long sessions may go on after the server was asked to stop; then they are cancelled.
    delay grace = std::chrono::seconds(10);
    /// SIGINT and SIGTERM ask it to stop; a second one cancels the sessions at once. One that is ignored when
    /// the server begins (nohup, a shell's `&`) stays ignored. In a world they are those of the host.
    bool stop_on_signals = true;
    /// The listeners stay open when it is asked to stop: clients that come then wait for who serves them next. False:
    /// they are closed at once, and clients refused.
    bool keep_listening = false;
    /// With which the program stops it and looks at its counters. Null: only signals and a cancel do.
    server_control* control = nullptr;
};

static_assert(std::is_trivially_copyable_v<serve_options>);

/// What a server has done, and does.
struct serve_stats {
    std::uint64_t accepted = 0;  // connections for which a session was started
    std::uint64_t ended = 0;  // sessions that have ended, in whatever way
    std::uint64_t failed = 0;  // of these, with an error: also of a peer that went away, and of a limit in time
    std::uint64_t no_memory = 0;  // connections that were closed, since there was no memory for a session

    // Connections that were refused, and the option that says so:
    std::uint64_t refused = 0;  // refuse_when_full
    std::uint64_t refused_peers = 0;  // max_connections_per_peer
    std::uint64_t refused_bursts = 0;  // connection_rate_per_peer

    // Sessions that were ended, likewise:
    std::uint64_t timed_out_idle = 0;  // idle_limit
    std::uint64_t timed_out_writing = 0;  // write_stall_limit
    std::uint64_t timed_out_session = 0;  // session_limit

    // Of the listeners, while they were served:
    std::uint64_t dead = 0;  // connections that were reset before they were accepted
    std::uint64_t exhausted = 0;  // how often accepting had to pause because descriptors or memory ran out

    std::size_t running = 0;  // sessions, now
};

}  // namespace rondo
