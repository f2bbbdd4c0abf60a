// The simulated kernel: descriptors, and TCP in memory on virtual time.
//
// Each call answers at once, like a non-blocking system call: a value, or -errno, with -EAGAIN for
// "you would have to wait". What takes time travels as a `packet`, which acts when the clock
// reaches its arrival. Whoever can go on because of it enters one queue, in the order in which
// things became ready, and the backend (sim.cpp) works that queue off.
//
// Errors, their order and what poll sees were compared with Linux 6. Where the model is simpler:
//   - Acknowledgements are no packets: a byte leaves the sender's buffer when it arrives, and the
//     window opens when the receiver reads.
//   - No packet is lost. One takes `one_way` plus what the oracle adds, and never overtakes another
//     of its direction. So connect takes two ways, and accept sees the connection after three.
//   - A full listen queue holds a SYN back until there is room, instead of dropping it.
//   - No TIME_WAIT: a port is free when both ends are closed and nothing is under way.
//   - Every address can be bound. One that is not loopback can be reached while somebody has it.
//   - A buffer size is what was asked for; Linux doubles it.
#pragma once

#include <rondo/backend.hpp>
#include <rondo/detail/list.hpp>
#include <rondo/oracle.hpp>
#include <rondo/time.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace rondo::simulated {

struct half;
struct packet;
struct socket;

/// Sim's descriptors: a system call that gets one by mistake answers EBADF and hurts nobody.
inline constexpr int first_descriptor = 1'000'000;

inline constexpr duration one_way = std::chrono::microseconds(50);

/// The end of time: `never` itself means "no limit".
inline constexpr time_point last_moment = never - duration(1);

class network {
 public:
    explicit network(oracle& decisions) noexcept;
    ~network();
    network(const network&) = delete;
    network& operator=(const network&) = delete;

    // Time.
    time_point now() const noexcept { return now_; }
    void move_to(time_point later) noexcept { now_ = moment_ = later; }
    /// When the next packet arrives; `never` when none is under way.
    time_point next_arrival() const noexcept;
    /// Lets all packets act that have arrived by now, in order of arrival.
    void deliver() noexcept;

    // Calls. The descriptor they return is the lowest free one, as POSIX wants it: a program that
    // keeps using a stale number should meet the wrong socket here as it would in real life.
    socket* find(int fd) const noexcept;
    std::size_t descriptors() const noexcept { return open_; }
    int open(raw_address::family family) noexcept;
    int pair(int (&fds)[2]) noexcept;
    int bind(socket& s, const raw_address& address) noexcept;
    int listen(socket& s, int backlog) noexcept;
    /// -EINPROGRESS; then -EALREADY until `s.writer` is ready; then 0 or the error, once.
    int connect(socket& s, const raw_address& to) noexcept;
    int accept(socket& s) noexcept;
    int receive(socket& s, void* into, std::size_t size) noexcept;
    int send(socket& s, const void* from, std::size_t size) noexcept;
    int shutdown_write(socket& s) noexcept;
    int local_address(const socket& s, raw_address& out) const noexcept;
    int peer_address(const socket& s, raw_address& out) const noexcept;
    int set_option(socket& s, sys_op::option which, int value) noexcept;
    int get_option(socket& s, sys_op::option which, int& value) noexcept;
    /// Nobody may wait at `s`, which is gone afterwards.
    void close(socket& s) noexcept;

    // The queue of those who can go on.
    std::size_t due() const noexcept { return due_count_; }
    /// Takes the n-th out.
    half& take_due(std::size_t n) noexcept;
    /// Lets `h`, where an op waits, be looked at: in its turn if it is ready, else behind all
    /// others.
    void make_due(half& h) noexcept;

    /// Adds an event to the hash of this world.
    void record(std::uint32_t what, int fd, std::int64_t result) noexcept;
    std::uint64_t hash() const noexcept { return hash_; }
    std::uint64_t events() const noexcept { return events_; }

 private:
    static constexpr std::uint16_t first_ephemeral = 49152;

    // Sockets.
    socket* create(raw_address::family family) noexcept;
    int enter(socket& s) noexcept;
    void release(socket& s) noexcept;
    void discard(socket& s) noexcept;
    void take_port(socket& s, std::uint16_t port) noexcept;
    std::uint16_t free_port() noexcept;
    bool port_taken(const socket& s, const raw_address& address, bool to_listen) const noexcept;
    bool reachable(const raw_address& host) const noexcept;
    socket* listener_for(const raw_address& to) const noexcept;

    // Readiness.
    void update(socket& s) noexcept;
    void update(half& h, bool ready) noexcept;

    // Packets.
    bool make_room() noexcept;
    void post(packet p) noexcept;
    void act(const packet& p) noexcept;
    void transmit(socket& to) noexcept;
    void abort(socket& s) noexcept;
    void syn_arrived(socket& client) noexcept;
    void syn_ack_arrived(socket& client) noexcept;
    void ack_arrived(socket& child) noexcept;
    void data_arrived(socket& to, std::uint32_t size, bool last) noexcept;
    void reset_arrived(socket& to) noexcept;
    void admit_held_back(socket& listener) noexcept;

    oracle& oracle_;
    time_point now_{};
    // When the network acts: now; while packets are delivered, possibly late, their arrival.
    time_point moment_{};

    std::vector<socket*> table_;   // by descriptor
    std::size_t lowest_free_ = 0;  // no free entry of table_ is before it
    std::size_t open_ = 0;
    detail::ring<socket> all_;  // also those that are closed or not accepted yet
    std::size_t all_count_ = 0;
    std::vector<socket*> listeners_;  // oldest first
    std::array<std::uint32_t, 65536 - first_ephemeral> port_users_{};
    std::uint16_t next_port_ = 0;  // where the search goes on

    std::vector<packet> packets_;  // under way: a heap, the earliest on top
    std::uint64_t packet_count_ = 0;

    detail::ring<half> due_;
    std::size_t due_count_ = 0;
    std::uint64_t order_ = 0;

    std::uint64_t hash_ = 0xcbf29ce484222325;
    std::uint64_t events_ = 0;
};

/// A place of a socket where one op can wait.
struct half : detail::links {
    explicit half(socket& s) noexcept : of(s) {}

    socket& of;
    io_op* op = nullptr;      // the backend's: who waits
    std::uint64_t since = 0;  // its number in the order of becoming ready; 0: it is not
    std::uint64_t place = 0;  // in the queue of those who can go on
};

/// FIFO of bytes that grows as needed; who writes keeps the bound.
class byte_queue {
 public:
    std::uint32_t size() const noexcept { return size_; }
    /// False, and nothing has changed, when there is no memory.
    [[nodiscard]] bool append(const void* from, std::uint32_t count) noexcept;
    void take(void* into, std::uint32_t count) noexcept;
    void truncate(std::uint32_t size) noexcept { size_ = size; }
    void clear() noexcept;

 private:
    bool grow(std::uint32_t wanted) noexcept;

    std::unique_ptr<std::byte[]> data_;
    std::uint32_t capacity_ = 0;  // a power of two
    std::uint32_t head_ = 0;
    std::uint32_t size_ = 0;
};

struct socket : detail::links {
    enum class phase : std::uint8_t { fresh, listening, connecting, failed, connected };

    explicit socket(raw_address::family f) noexcept : family(f) { local.kind = remote.kind = f; }

    /// Closed by the program, which it had been given to. (The network may still be busy with it.)
    bool closed() const noexcept { return fd < 0 && listener == nullptr; }

    half reader{*this};  // accept, receive, borrow, poll_in
    half writer{*this};  // connect, send, poll_out
    half closer{*this};  // close, until the other two are free
    int fd = -1;
    phase state = phase::fresh;
    const raw_address::family family;  // none: of a stream_pair
    bool reuse_address = false;
    bool reuse_port = false;
    bool v6_only = false;
    bool no_delay = false;    // kept for whoever asks
    bool keep_alive = false;  // likewise
    bool reset_on_close = false;
    bool unreported = false;  // connected, and connect has not said so yet
    int error = 0;            // SO_ERROR
    raw_address local;        // v4-mapped addresses are kept as v4; bound if port != 0
    raw_address remote;
    std::uint32_t send_buffer = 65536;
    std::uint32_t receive_buffer = 65536;

    // A connection is a pair of sockets, freed together. Each keeps the bytes on their way to it:
    //
    //     | arrived | under way | in the peer's send buffer |
    //     0         arrived     sent                        bytes.size()
    socket* peer = nullptr;
    byte_queue bytes;
    std::uint32_t arrived = 0;
    std::uint32_t sent = 0;
    bool ending = false;       // the peer will write no more ...
    bool end_sent = false;     // ... and has told the network ...
    bool end_arrived = false;  // ... which has told us
    bool dead = false;         // a reset was sent or has come: nothing moves any more

    std::uint32_t packets = 0;   // under way to it, or its SYN held back
    duration latency = one_way;  // 0: of a stream_pair
    time_point last_arrival{};   // no later packet to it arrives before

    // A listener, and its connections until they are accepted.
    std::uint32_t backlog = 0;
    std::uint32_t acceptable = 0;     // how many of `pending` are established
    std::vector<socket*> pending;     // in order of their SYN
    detail::queue<socket> held_back;  // clients whose SYN found the queue full
    socket* next = nullptr;           // in held_back
    socket* listener = nullptr;
    bool established = false;
};

struct packet {
    enum class kind : std::uint8_t { syn, syn_ack, ack, refusal, data, reset };

    kind what;
    socket* to;  // a SYN: from
    std::uint32_t size = 0;
    bool last = false;  // no data after it
    time_point at{};
    std::uint64_t number = 0;
};

}  // namespace rondo::simulated
