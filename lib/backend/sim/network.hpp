// The simulated kernels and the network between them: descriptors, and TCP and UDP in memory on virtual time.
//
// Each call answers at once, like a non-blocking system call: a value, or -errno, with -EAGAIN for
// "you would have to wait". What takes time travels as a `packet`, which acts when the clock
// reaches its arrival (wire.cpp). Whoever can go on because of it enters one queue of its machine, in
// the order in which things became ready, and the backend (sim.cpp) works that queue off.
//
// There is one machine, where every address can be bound, or there are several with addresses of
// their own and a link for each direction between any two of them.
//
// Errors, their order and what poll sees were compared with Linux 6. Where the model is simpler:
//   - Acknowledgements are no packets: a byte leaves the sender's buffer when it arrives, and the
//     window opens when the receiver reads. Only a direction that is cut holds them back.
//   - Within a machine a packet takes `one_way` plus what the oracle adds, and never overtakes another
//     of its direction. So connect takes two ways, and accept sees the connection after three.
//   - A lost packet is sent again after Linux's timeouts (a SYN after 1 s, data after 200 ms, doubling),
//     alone: there is no fast retransmit and no congestion window.
//   - A full listen queue holds a SYN back until there is room, instead of dropping it.
//   - A peer that reads nothing is no reason for a user timeout, which counts from the first sending.
//   - Keep-alive's probes, and their answers, are no packets, and no link loses them unless it is cut.
//   - No TIME_WAIT: a port is free when both ends are closed and nothing is under way.
//   - On a single machine, an address that is not loopback can be reached while somebody has it.
//   - A buffer size is what was asked for; Linux doubles it.
//   - A datagram that is larger than the packets of a link travels in pieces, each of which may be lost; but they
//     leave and arrive together.
//   - Multicast needs no router: every host whose sockets have joined a group hears it, if the TTL is not 0.
//   - A pipe is a connection within a machine, of which one end only reads and the other only writes. It holds so many
//     bytes, while Linux counts pages.
//   - A Unix socket's path is a name of its machine and no file: it has no directory and no mode, and is gone when the
//     socket is. Connecting takes no time. Its messages fill the buffer of their receiver, not that of their sender.
//   - Several numbers of one socket, by passing it on, have one reader and one writer together; and nobody frees what
//     only sockets hold that are themselves under way, which is what a kernel's garbage collector is for.
#pragma once

#include <rondo/loop/backend.hpp>
#include <rondo/base/detail/list.hpp>
#include <rondo/loop/oracle.hpp>
#include <rondo/base/time.hpp>

#include "byte_queue.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace rondo::simulated {

struct half;
struct letter;
struct message;
struct packet;
struct socket;
struct machine;

/// Sim's descriptors: a system call that gets one by mistake answers EBADF and hurts nobody. Each machine
/// has a range of its own, so that a number of another one's is EBADF, too.
inline constexpr int first_descriptor = 1'000'000;
inline constexpr int descriptors_per_machine = 1'000'000;
inline constexpr int most_machines = 2000;  // whose numbers are ints

inline constexpr duration one_way = std::chrono::microseconds(50);
/// What the oracle may add to it: mostly little, and now and then much.
inline constexpr duration longest_extra = std::chrono::microseconds(9610);

/// The end of time: `never` itself means "no limit".
inline constexpr time_point last_moment = never - duration(1);

/// One direction between two machines.
struct link {
    duration latency_min = one_way;
    duration latency_max = one_way + longest_extra;
    std::uint32_t loss = 0;     // per million
    std::uint32_t copies = 0;   // per million: arrive twice
    std::uint32_t held_up = 0;  // per million: overtaken by later ones
    std::uint64_t bytes_per_second = 0;  // 0: no limit
    std::uint32_t packet_size = 65536;   // the most bytes of data in one packet
    std::uint32_t cuts = 0;              // partitions in force: nothing gets through
    time_point free_at{};                // of the bytes sent so far, when the last one is on its way
};

/// Errors that calls of a machine may meet for lack of something; 0: never. Per million.
struct shortages {
    std::uint32_t descriptors = 0;  // EMFILE: socket, accept, a pipe to splice through
    std::uint32_t buffers = 0;      // ENOBUFS: socket, accept
    std::uint32_t memory = 0;       // ENOMEM: socket, accept, a borrowed receive
    std::uint32_t aborted = 0;      // a connection is reset before accept gets it (ECONNABORTED)
};

/// What the world above wants to know and to decide. All calls come in the middle of a step.
class wire_tap {
 public:
    struct fate {
        bool drop = false;
        duration extra{};
    };
    /// A packet is about to leave.
    virtual fate judge(const packet& p) noexcept = 0;
    /// The program of `m` takes time, until `wanted`: until when it may. Not later; now or before, and it must not.
    virtual time_point slow_until(const machine& m, time_point wanted) noexcept = 0;
    enum class event : std::uint8_t { sent, arrived, lost, copied, gave_up };
    virtual void on_packet(event what, const packet& p, time_point when) noexcept = 0;

 protected:
    ~wire_tap() = default;
};

class RONDO_API network {
 public:
    explicit network(oracle& decisions) noexcept;
    ~network();
    network(const network&) = delete;
    network& operator=(const network&) = delete;

    /// One more machine; the network keeps it. Without addresses it is the only one. Throws bad_alloc.
    machine& add_machine(const raw_address& v4 = {}, const raw_address& v6 = {});
    /// The link of that direction, which keeps its address as long as the network lives; made when it is first
    /// asked for. Throws bad_alloc.
    link& link_between(machine& from, const machine& to);
    /// Calls f(link&) for all that were made.
    template <class F>
    void for_each_link(F f);
    /// The machine that has this address; null if none does.
    machine* machine_at(const raw_address& host) const noexcept;
    void set_tap(wire_tap* tap) noexcept { tap_ = tap; }

    /// All sockets of `m` vanish; nobody may wait at them. The peers get a reset, or, silently, nothing
    /// until they send something and `m` is up again.
    void crash(machine& m, bool silently) noexcept;

    // Time.
    time_point now() const noexcept { return now_; }
    void move_to(time_point later) noexcept { now_ = moment_ = later; }
    /// When the next packet arrives; `never` when none is under way.
    time_point next_arrival() const noexcept;
    /// Lets all packets act that have arrived by now, in order of arrival.
    void deliver() noexcept;
    /// Sets the calendar of `m`.
    void set_wall_offset(machine& m, duration ahead) noexcept;
    /// Before a call of the program of `m`: if that is slow, time may have passed since its turn began.
    void take_time(const machine& m) noexcept;

    // Calls. The descriptor they return is the lowest free one, as POSIX wants it: a program that
    // keeps using a stale number should meet the wrong socket here as it would in real life.
    int open(machine& m, raw_address::family family, bool datagrams = false) noexcept;
    int pair(machine& m, unix_type type, int (&fds)[2]) noexcept;
    /// A descriptor that is readable when the calendar of `m` was set, until watch_clock_anew().
    int watch_clock(machine& m) noexcept;
    int watch_clock_anew(socket& s) noexcept;
    // Pipes: pipes.cpp.
    int pipe(machine& m, int (&fds)[2], int capacity) noexcept;
    int pipe_capacity(socket& s, int wanted) noexcept;
    // Unix sockets: unix.cpp.
    int open_unix(machine& m, unix_type type) noexcept;
    int bind_unix(socket& s, unix_binding& to) noexcept;
    int unlink_unix(socket& s, const unix_binding& bound) noexcept;
    int connect_unix(socket& s, const raw_unix_name& to) noexcept;
    int unix_credentials(const socket& s, peer_credentials& into) const noexcept;
    int unix_peer_name(const socket& s, raw_unix_name& into) const noexcept;
    /// Whether `fd` is one of `kind` (see sys_op::call::adopt) that listens, or is connected: 0, or -errno.
    int adopt(machine& m, int fd, int kind, bool listening) const noexcept;
    // Their messages, and what goes along with these: unix_messages.cpp. Of a stream, what is left of it from `begin`
    // on.
    int send_message(socket& s, const raw_message& what, std::uint32_t begin) noexcept;
    int receive_message(socket& s, raw_message& into, std::uint32_t& moved) noexcept;
    int bind(socket& s, const raw_address& address) noexcept;
    int listen(socket& s, int backlog) noexcept;
    /// -EINPROGRESS; then -EALREADY until `s.writer` is ready; then 0 or the error, once.
    int connect(socket& s, const raw_address& to) noexcept;
    int accept(socket& s) noexcept;
    /// Descriptors that come go to the places of `with`; without it they end here.
    int receive(socket& s, void* into, std::size_t size, raw_message* with = nullptr) noexcept;
    int send(socket& s, const void* from, std::size_t size) noexcept;
    int shutdown_write(socket& s) noexcept;
    int local_address(const socket& s, raw_address& out) const noexcept;
    int peer_address(const socket& s, raw_address& out) const noexcept;
    int set_option(socket& s, sys_op::option which, int value) noexcept;
    int get_option(socket& s, sys_op::option which, int& value) noexcept;
    // Of UDP sockets: udp.cpp.
    int connect_datagrams(socket& s, const raw_address& to) noexcept;
    /// The oldest that has come. -EAGAIN: none has.
    int receive_datagram(socket& s, raw_datagram& into) noexcept;
    int send_datagram(socket& s, const void* from, std::size_t size, const raw_address& to) noexcept;
    int join_group(socket& s, const raw_address& group, int interface) noexcept;
    int leave_group(socket& s, const raw_address& group, int interface) noexcept;
    int shutdown_read(socket& s) noexcept;
    int info(const socket& s, connection_info& into) const noexcept;
    /// Nobody may wait at `s`, which is gone afterwards.
    void close(socket& s) noexcept;
    /// Takes one of its numbers away, at which nobody may wait, from a socket that somebody else holds, too.
    void close_number(socket& s, int fd) noexcept;

    /// Links have been cut, or a machine has gone without a word: keep-alive begins to notice.
    void watch_peers() noexcept;

    /// Lets `h`, where an op waits, be looked at: in its turn if it is ready, else behind all
    /// others of its machine.
    void make_due(half& h) noexcept;

    /// Adds an event to the hash of this world.
    void record(std::uint32_t what, int fd, std::int64_t result) noexcept;
    std::uint64_t hash() const noexcept { return hash_; }
    std::uint64_t events() const noexcept { return events_; }

 private:
    // Sockets.
    socket* create(machine& m, raw_address::family family, bool datagrams = false) noexcept;
    int enter(socket& s) noexcept;
    void leave_table(socket& s, int fd) noexcept;
    void end(socket& s) noexcept;
    void close_listener(socket& s) noexcept;
    void release(socket& s) noexcept;
    void discard(socket& s) noexcept;
    bool lacks(const socket& s, std::uint32_t shortages::* what) noexcept;
    machine* machine_for(machine& from, const raw_address& to) const noexcept;
    bool make_links(machine& one, machine& other) noexcept;
    static link& between(const machine& from, const machine& to) noexcept;
    void choose_local_address(socket& s, const raw_address& remote) noexcept;

    // Readiness.
    void update(socket& s) noexcept;
    void update(half& h, bool ready) noexcept;

    // What packets do.
    void transmit(socket& to) noexcept;
    void abort(socket& s) noexcept;
    void syn_arrived(socket& client) noexcept;
    void syn_ack_arrived(socket& client) noexcept;
    void ack_arrived(socket& child) noexcept;
    void refused(socket& client) noexcept;
    bool data_arrived(socket& to, std::uint64_t number, std::uint32_t size, bool last) noexcept;
    void reset_arrived(socket& to) noexcept;
    void timed_out(socket& s) noexcept;
    void drop_pending(socket& child) noexcept;
    void admit_held_back(socket& listener) noexcept;

    // Datagrams: udp.cpp.
    int give_port(socket& s) noexcept;
    int post_datagram(socket& s, machine& there, const raw_address& to, const void* from, std::size_t size) noexcept;
    void datagram_arrived(packet& p) noexcept;
    void unreachable_arrived(const packet& p) noexcept;
    void close_datagrams(socket& s) noexcept;
    // Unix messages: unix_messages.cpp.
    int collect(machine& m, const raw_message& from, std::size_t bytes, letter*& made) noexcept;
    int deliver_to(socket& s, letter& from, raw_message* into) noexcept;
    void put_into(socket& s, letter& what) noexcept;
    letter& take_from(socket& s) noexcept;
    void drop(letter& what) noexcept;
    void drop_letters(socket& s) noexcept;
    void let_go(socket& held) noexcept;
    void forget_aim(socket& gone) noexcept;
    void update_senders(socket& s) noexcept;
    bool keep(socket& s, message& arrived) noexcept;
    // Keep-alive.
    void watch_peer(socket& s) noexcept;
    bool reaches_peer(const socket& s) const noexcept;
    bool probe(packet timer) noexcept;
    void stop_probing(socket& s) noexcept;

    // Packets on their way: wire.cpp.
    /// Makes sure that one packet can be posted now, and the last one of every socket whenever it is
    /// due: closing must not fail. A packet that acts leaves its room to its answer.
    inline bool make_room() noexcept;
    bool more_room(std::size_t wanted) noexcept;
    void post(packet p) noexcept;
    void depart(packet p) noexcept;
    void travel(packet p, time_point gone) noexcept;
    bool is_lost(const packet& p, const link& l) noexcept;
    void put_under_way(const packet& p) noexcept;
    void lost(packet p) noexcept;
    bool send_again(packet p) noexcept;
    bool still_wanted(const packet& p) const noexcept;
    void give_up(const packet& p) noexcept;
    static bool is_out_of_patience(const packet& p, time_point at) noexcept;
    void acknowledged(const packet& p) noexcept;
    bool arrive(packet& p) noexcept;
    bool act(packet& p) noexcept;
    void tell(wire_tap::event what, const packet& p) noexcept;

    oracle& oracle_;
    wire_tap* tap_ = nullptr;
    time_point now_{};
    // When the network acts: now; while packets are delivered, possibly late, their arrival.
    time_point moment_{};

    std::vector<std::unique_ptr<machine>> machines_;
    std::size_t all_count_ = 0;  // sockets, also those that are closed or not accepted yet

    std::vector<packet> packets_;  // under way: a heap, the earliest on top
    std::uint64_t packet_count_ = 0;
    std::uint64_t sendings_ = 0;
    std::uint64_t order_ = 0;  // of becoming ready

    std::uint64_t hash_ = 0xcbf29ce484222325;
    std::uint64_t events_ = 0;
};

/// A place of a socket where one op can wait.
struct half : detail::links {
    explicit half(socket& s) noexcept : of(s) {}

    socket& of;
    io_op* op = nullptr;  // the backend's: who waits
    std::uint64_t since = 0;  // its number in the order of becoming ready; 0: it is not
    std::uint64_t place = 0;  // in the queue of those who can go on
};

/// What the kernel of one machine keeps.
struct RONDO_API machine {
    static constexpr std::uint16_t first_ephemeral = 49152;

    machine(network& n, std::uint32_t number, const raw_address& four, const raw_address& six) noexcept
        : of(n), index(number), v4(four), v6(six) {}

    bool has_addresses() const noexcept { return v4.kind != raw_address::family::none; }
    socket* find(int fd) const noexcept;
    /// Takes the n-th of those who can go on out.
    half& take_due(std::size_t n) noexcept;

    // Addresses and ports.
    bool owns(const raw_address& host) const noexcept;
    void take_port(socket& s, std::uint16_t port) noexcept;
    std::uint16_t free_port() noexcept;
    bool port_taken(const socket& s, const raw_address& address, bool to_listen) const noexcept;
    bool somebody_has(const raw_address& host) const noexcept;
    socket* listener_for(const raw_address& to) const noexcept;

    // Clocks. What the program sees, and when the world's clock shows what the program waits for.
    time_point local_time() const noexcept;
    time_point world_time(time_point local) const noexcept;

    network& of;
    const std::uint32_t index;
    const raw_address v4;
    const raw_address v6;
    bool up = true;
    time_point busy_until{};  // in the world's time: it computes, and what it sends leaves then
    std::int32_t drift = 0;  // its clocks gain so many parts per million ...
    time_point drift_since{};  // ... since then, in the world's time, ...
    time_point drift_since_local{};  // ... which it took for this
    duration wall_offset{};  // and its calendar is ahead by this
    shortages lacks;
    std::uint32_t slow = 0;  // per million: a call comes later ...
    duration slow_by{};  // ... by this, ...
    bool prompt = false;  // ... but not in this turn

    std::vector<socket*> table;  // by descriptor
    std::size_t lowest_free = 0;  // no free entry of table is before it
    std::size_t open = 0;
    std::size_t descriptor_limit = ~std::size_t{0};
    detail::ring<socket> sockets;  // also those that are closed or not accepted yet

    std::vector<socket*> listeners;  // oldest first
    std::vector<socket*> datagram_sockets;  // likewise
    std::array<std::uint32_t, 65536 - first_ephemeral> port_users{};
    std::uint16_t next_port = 0;  // where the search goes on

    // To other machines, by their number; null: there was nothing to send yet. Others keep pointers to them.
    std::vector<std::unique_ptr<link>> links;

    detail::ring<half> due;  // who can go on
    std::size_t due_count = 0;
};

struct socket : detail::links {
    enum class phase : std::uint8_t { fresh, listening, connecting, failed, connected };

    socket(machine& m, raw_address::family f, bool udp) noexcept : home(m), toward(&m), family(f), datagrams(udp) {
        local.kind = remote.kind = f;
        if (udp) send_buffer = receive_buffer = 212'992;  // as on Linux
    }

    /// Closed by the program, which it had been given to. (The network may still be busy with it.)
    bool closed() const noexcept { return fd < 0 && listener == nullptr && held == 0; }
    /// Only one number stands for it, and nothing else does.
    bool is_alone() const noexcept { return numbers <= 1 && held == 0; }
    bool is_unix() const noexcept { return family == raw_address::family::none; }
    /// A Unix socket that moves messages, each whole.
    bool has_letters() const noexcept { return type != unix_type::stream; }
    bool by_link() const noexcept { return &home != toward; }

    machine& home;
    machine* toward;  // the other end's
    half reader{*this};  // accept, receive, borrow, poll_in
    half writer{*this};  // connect, send, poll_out
    half closer{*this};  // close, until the other two are free
    int fd = -1;  // one of its numbers
    std::uint32_t numbers = 0;  // as many descriptors stand for it ...
    std::uint32_t held = 0;  // ... and it is in so many letters that are under way
    phase state = phase::fresh;
    const raw_address::family family;  // none: a Unix socket, or a clock
    const bool datagrams;  // UDP, and `fresh` for ever; connected if remote.port != 0
    bool reuse_address = false;
    bool reuse_port = false;
    bool v6_only = false;
    bool no_delay = false;  // kept for whoever asks
    bool cork = false;  // likewise
    bool keep_alive = false;
    bool reset_on_close = false;
    bool watches_clock = false;  // it is no socket: see network::watch_clock
    bool is_pipe = false;  // one end of it; the buffers of both have its capacity
    bool unreported = false;  // connected, and connect has not said so yet
    int error = 0;  // SO_ERROR
    raw_address local;  // v4-mapped addresses are kept as v4; bound if port != 0
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
    std::uint32_t unacknowledged = 0;  // arrived, which the peer cannot know: the way back is cut
    std::uint64_t received = 0;  // arrived, since the connection began
    bool ending = false;  // the peer will write no more ...
    bool end_sent = false;  // ... and has told the network ...
    bool end_arrived = false;  // ... which has told us
    bool dead = false;  // a reset was sent or has come: nothing moves any more
    bool unannounced = false;  // dead, and the peer has not been told: it gets a reset when it sends
    bool read_ended = false;  // the program will read nothing more

    // What becomes of what it sends, as its side sees it.
    duration rtt{};
    duration rtt_variation{};
    std::uint32_t retransmits = 0;
    std::uint32_t total_retransmits = 0;
    std::uint32_t undelivered = 0;  // bytes, when a reset came
    duration user_timeout{};  // 0: most_attempts()

    // Keep-alive. Probes that are answered change nothing, so there are none as long as the peer can answer.
    duration keep_idle = std::chrono::hours(2);
    duration keep_interval = std::chrono::seconds(75);
    int keep_count = 9;
    int probes = 0;  // without an answer
    bool probing = false;  // there is a timer
    time_point heard_at{};  // something of the peer's

    // Packets of data to it, which may overtake each other between machines.
    struct piece {
        std::uint64_t number;
        std::uint32_t size;
        bool last;
    };
    std::uint64_t data_sent = 0;  // so many packets
    std::uint64_t data_arrived = 0;  // so many, without a gap
    std::vector<piece> early;  // behind the gap, in order of their number

    std::uint32_t packets = 0;  // under way to it, or its SYN held back
    duration latency = one_way;  // 0: of Unix sockets
    time_point last_arrival{};  // no later packet to it arrives before (within a machine)

    // A listener, and its connections until they are accepted.
    std::uint32_t backlog = 0;
    std::uint32_t acceptable = 0;  // how many of `pending` are established
    std::vector<socket*> pending;  // in order of their SYN
    detail::queue<socket> held_back;  // clients whose SYN found the queue full
    socket* next = nullptr;  // in held_back
    socket* listener = nullptr;
    bool established = false;

    // UDP.
    detail::queue<message> inbox;  // nobody has received these yet
    std::uint32_t inbox_count = 0;
    std::uint32_t inbox_size = 0;  // bytes, with an overhead for each
    std::uint32_t unsent_size = 0;  // likewise, of those that wait for their link
    bool local_by_connect = false;  // the host of `local` was chosen by connect
    bool port_by_need = false;  // its port, for the first datagram that it sent or its peer
    bool broadcast = false;
    bool multicast_loop = true;
    int ttl = 64;
    int multicast_ttl = 1;
    std::vector<raw_address> groups;

    // A Unix socket.
    raw_unix_name name;  // of who listens, and of what was accepted there
    bool holds_name = false;  // nobody else can have it
    unix_type type = unix_type::stream;
    detail::queue<letter> letters;  // that nobody has received; of a stream, those bytes with which descriptors come
    std::uint32_t letter_count = 0;
    std::uint32_t letters_size = 0;  // bytes, with an overhead for each
    socket* aim = nullptr;  // of datagrams: to whom they go ...
    bool aim_gone = false;  // ... who has closed since

    /// Of a stream: so many bytes were read.
    std::uint64_t consumed() const noexcept { return received - arrived; }
};

/// A message of a Unix socket, or bytes of a stream with which descriptors come, under way.
struct letter {
    letter* next = nullptr;
    raw_unix_name source;
    std::uint64_t begin = 0;  // of a stream: of its bytes, counted since the connection began
    std::uint32_t size = 0;
    std::uint16_t count = 0;  // of its descriptors, which follow this; and behind them, if it is a message, its bytes

    std::span<socket*> rights() noexcept { return {reinterpret_cast<socket**>(this + 1), count}; }
    std::byte* bytes() noexcept { return reinterpret_cast<std::byte*>(this + 1) + count * sizeof(socket*); }
};

/// A datagram, with its bytes behind it.
struct message {
    static message* make(const void* from, std::uint32_t size) noexcept;  // null: no memory
    static void drop(message* what) noexcept;
    message* clone() const noexcept;
    std::byte* bytes() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
    const std::byte* bytes() const noexcept { return reinterpret_cast<const std::byte*>(this + 1); }

    raw_address source;
    raw_address destination;
    machine* target = nullptr;
    std::uint32_t size = 0;
    message* next = nullptr;  // in an inbox
};

struct packet {
    // A `probe` is only the timer of the next one.
    enum class kind : std::uint8_t { syn, syn_ack, ack, refusal, data, reset, datagram, unreachable, probe };

    /// It goes away from `to`, which has sent it.
    bool is_outward() const noexcept { return what == kind::syn || what == kind::datagram; }
    const machine& other_end() const noexcept { return content != nullptr ? *content->target : *to->toward; }
    const machine& from() const noexcept { return is_outward() ? to->home : other_end(); }
    const machine& target() const noexcept { return is_outward() ? other_end() : to->home; }
    bool by_link() const noexcept { return &to->home != &other_end(); }
    const raw_address& own_end() const noexcept { return content != nullptr ? content->source : to->local; }
    const raw_address& far_end() const noexcept { return content != nullptr ? content->destination : to->remote; }
    const raw_address& source() const noexcept { return is_outward() ? own_end() : far_end(); }
    const raw_address& destination() const noexcept { return is_outward() ? far_end() : own_end(); }

    kind what;
    socket* to;  // a SYN, a datagram: from
    std::uint32_t size = 0;
    bool last = false;  // no data after it
    bool waiting = false;  // it was lost; at `at` it is sent again
    bool arrived = false;  // it has; only the acknowledgement has not
    std::uint8_t attempt = 0;  // how often it was lost
    bool queued = false;  // a datagram that stands in line for its link
    std::uint64_t data_number = 0;
    time_point at{};
    time_point begun{};  // when it was sent for the first time
    std::uint64_t number = 0;
    std::uint64_t sending = 0;  // for the tap: the same when it is sent and when it arrives
    message* content = nullptr;  // a datagram, or what was unreachable; owned
    duration held{};  // longer than by the link
};

template <class F>
void network::for_each_link(F f) {
    for (const auto& m : machines_)
        for (const auto& l : m->links)
            if (l != nullptr) f(*l);
}

inline bool network::make_room() noexcept {
    const std::size_t wanted = packets_.size() + all_count_ + 1;
    return wanted <= packets_.capacity() || more_room(wanted);
}

}  // namespace rondo::simulated
