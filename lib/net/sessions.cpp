#include <rondo/net/detail/sessions.hpp>

#include <rondo/base/log.hpp>
#include <rondo/io/detail/address_text.hpp>
#include <rondo/net/endpoint.hpp>
#include <rondo/sync/rate_limiter.hpp>
#include <rondo/task/scope.hpp>

#include "base/trace.hpp"
#include "loop/engine.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>
#include <optional>
#include <unordered_map>

namespace rondo::detail {
namespace {

/// Errors that say no more than that the peer, or the way to it, is gone: what every server meets every day.
bool peer_is_gone(const std::error_code& error) noexcept {
    if (error.category() != std::generic_category() && error.category() != std::system_category()) return false;
    switch (error.value()) {
        case ECONNRESET:
        case ECONNABORTED:
        case EPIPE:
        case ETIMEDOUT:
        case EHOSTUNREACH:
        case EHOSTDOWN:
        case ENETUNREACH:
        case ENETDOWN:
        case ENETRESET:
        case ENONET: return true;
        default: return false;
    }
}

std::size_t default_limit(scheduler& l) noexcept {
    constexpr std::size_t without_limit = 100'000;
    constexpr std::size_t kept_back = 64;
    const std::size_t all = l.io().descriptor_limit();
    if (all == std::numeric_limits<std::size_t>::max()) return without_limit;
    const std::size_t most = std::max<std::size_t>(all / 5 * 4, 1);
    return all < 2 * kept_back ? most : std::min(most, all - kept_back);
}

// --- who counts as one peer

/// An IPv4 address, also one that came as IPv6, or the network of 64 bits of an IPv6 address: that is what one customer
/// of a provider has.
struct peer_key {
    peer_key(const raw_address& from, std::uint64_t salt) noexcept {
        static constexpr std::uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
        is_v6 = from.kind == raw_address::family::v6 && std::memcmp(from.bytes, mapped, sizeof mapped) != 0;
        const bool is_mapped = from.kind == raw_address::family::v6 && !is_v6;
        std::memcpy(&bits, from.bytes + (is_mapped ? sizeof mapped : 0), is_v6 ? 8 : 4);
        bits ^= salt;  // who chooses addresses must not choose who shares a chain
    }
    bool operator==(const peer_key&) const = default;

    std::uint64_t bits = 0;
    bool is_v6 = false;
};

struct peer_hash {
    std::size_t operator()(const peer_key& key) const noexcept {
        std::uint64_t z = key.bits ^ (key.is_v6 ? 0x9e3779b97f4a7c15 : 0);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return static_cast<std::size_t>(z ^ (z >> 31));
    }
};

/// Nodes come from where frames do: no malloc for each connection.
template <class T>
struct pooled {
    using value_type = T;
    pooled() noexcept = default;
    template <class U>
    pooled(const pooled<U>&) noexcept {}  // NOLINT(*-explicit-*)
    T* allocate(std::size_t n) { return static_cast<T*>(frame_allocate(n * sizeof(T))); }
    void deallocate(T* at, std::size_t n) noexcept { frame_deallocate(at, n * sizeof(T)); }
    template <class U>
    bool operator==(const pooled<U>&) const noexcept {
        return true;
    }
};

int look_at_traffic(scheduler& l, int descriptor, connection_info& into) noexcept {
    sys_op ask{.what = sys_op::call::tcp_info, .fd = descriptor, .data = &into};
    return l.control(ask);
}

enum class out_of { nothing, idle, writing, session };

}  // namespace

// --- the limits of one session, and of one peer

/// Beside each session, if there are limits for it. It is the op of a timer. A session's handle is nobody's, so it
/// stands where the op of who awaits that would.
struct session_guard : op {
    session_guard(session_limits& l, const raw_address& address, int fd, fiber& acceptor) noexcept;

    void arm(time_point now);
    void look();
    out_of what_is_over(time_point now) noexcept;
    bool is_still_its_own() const noexcept;

    static const op_vtable table;
    session_limits& of;
    raw_address peer;
    int descriptor;
    out_of over = out_of::nothing;
    bool counted = false;  // among those of its peer
    time_point began;
    connection_info traffic;  // at the latest look
    time_point moved_at;  // no later than when a byte was moved
    time_point taken_at;  // when none waited to be taken, or some were
};

struct session_limits {
    static bool are_asked_for(const serve_options& o) noexcept {
        return o.max_connections_per_peer != 0 || o.connection_rate_per_peer != 0 || watches(o);
    }
    /// Whether single sessions are watched.
    static bool watches(const serve_options& o) noexcept {
        return is_set(o.idle_limit) || is_set(o.write_stall_limit) || is_set(o.session_limit);
    }
    static bool is_set(delay limit) noexcept { return limit.value() > duration::zero(); }

    session_limits(scheduler& l, const serve_options& o)
        : its_loop(l),
          idle(o.idle_limit),
          writing(o.write_stall_limit),
          session(o.session_limit),
          most_per_peer(o.max_connections_per_peer),
          salt(l.io().random()) {
        duration shortest = duration::max();
        for (const delay each : {idle, writing})
            if (is_set(each)) shortest = std::min(shortest, each.value());
        counts_bytes = shortest != duration::max();
        between_looks = std::max(shortest / 4, duration(1));
        if (o.connection_rate_per_peer == 0) return;
        const std::uint32_t burst = o.connection_burst_per_peer;
        rates.emplace(rate_options{.tokens = o.connection_rate_per_peer,
                                   .per = std::chrono::seconds(1),
                                   .burst = burst != 0 ? burst : o.connection_rate_per_peer});
    }
    ~session_limits() { drop(next); }

    void drop(session_guard* g) noexcept;

    scheduler& its_loop;
    delay idle, writing, session;
    bool counts_bytes;
    duration between_looks;
    std::uint32_t most_per_peer;
    std::uint64_t salt;
    std::unordered_map<peer_key, std::uint32_t, peer_hash, std::equal_to<>,
                       pooled<std::pair<const peer_key, std::uint32_t>>>
        peers;
    std::optional<keyed_rate_limiter<peer_key, peer_hash>> rates;
    session_guard* next = nullptr;  // that of the session that is about to begin
};

// Until there is a session it is the acceptor's: a timer of nobody's would be one of the program's.
session_guard::session_guard(session_limits& l, const raw_address& address, int fd, fiber& acceptor) noexcept
    : op(table), of(l), peer(address), descriptor(fd), began(l.its_loop.now()), moved_at(began), taken_at(began) {
    owner = &acceptor;
}

const op_vtable session_guard::table = {
    [](op&) noexcept {},
    [](op& o) noexcept { static_cast<session_guard&>(o).look(); },
    [](const op&, char* text, std::size_t size) noexcept { std::snprintf(text, size, "a limit of serve"); },
};

void session_limits::drop(session_guard* g) noexcept {
    if (g == nullptr) return;
    if (g->pending()) its_loop.remove_timer(*g);
    if (g->counted)
        if (const auto found = peers.find(peer_key(g->peer, salt)); --found->second == 0) peers.erase(found);
    std::destroy_at(g);
    frame_deallocate(g, sizeof(session_guard));
}

// A quarter of the shorter limit is how exact they are. The end of a session's time is known beforehand.
void session_guard::arm(time_point now) {
    time_point next = session_limits::is_set(of.session) ? of.session.after(began) : never;
    if (of.counts_bytes && descriptor >= 0) next = std::min(next, delay(of.between_looks).after(now));
    if (next != never) of.its_loop.add_timer(*this, next);
}

// A session that was cancelled already, by whomever, is on its way out.
void session_guard::look() {
    state = idle;
    if (owner->flags & fiber::cancel_pending) return;
    const time_point now = of.its_loop.now();
    over = what_is_over(now);
    if (over == out_of::nothing) {
        try {
            return arm(now);
        } catch (const std::bad_alloc&) {  // it cannot be watched any more: then it must end
            over = out_of::session;
        }
    }
    if (over == out_of::writing) {
        sys_op reset{.what = sys_op::call::reset_on_close, .fd = descriptor};
        of.its_loop.control(reset);
    }
    cancel_fiber(*owner);
}

out_of session_guard::what_is_over(time_point now) noexcept {
    if (session_limits::is_set(of.session) && now >= of.session.after(began)) return out_of::session;
    if (descriptor < 0 || !of.counts_bytes) return out_of::nothing;
    const connection_info before = traffic;
    if (look_at_traffic(of.its_loop, descriptor, traffic) < 0) {
        descriptor = -1;  // it has closed its stream, and does something else
        return out_of::nothing;
    }
    const bool was_taken = traffic.bytes_acknowledged != before.bytes_acknowledged;
    if (was_taken || traffic.bytes_received != before.bytes_received) moved_at = now;
    if (was_taken || traffic.unacknowledged == 0) taken_at = now;
    out_of exceeded = out_of::nothing;
    if (session_limits::is_set(of.idle) && now >= of.idle.after(moved_at)) exceeded = out_of::idle;
    if (session_limits::is_set(of.writing) && now >= of.writing.after(taken_at)) exceeded = out_of::writing;
    if (exceeded == out_of::nothing || is_still_its_own()) return exceeded;
    descriptor = -1;
    return out_of::nothing;
}

// The number may be another one's by now. A connection of the same address and port would be one of the same peer.
bool session_guard::is_still_its_own() const noexcept {
    raw_address address;
    sys_op ask{.what = sys_op::call::peer_address, .fd = descriptor, .address = &address};
    return of.its_loop.control(ask) >= 0 && endpoint(address) == endpoint(peer);
}

// --- sessions -------------------------------------------------------------------------------------------

sessions::sessions(scheduler& l, const serve_options& o, serve_stats& counts, std::source_location place)
    : scope(l, &ended, "sessions"),
      counts_(counts),
      limit_(o.max_connections != 0 ? o.max_connections : default_limit(l)),
      limits_(session_limits::are_asked_for(o) ? new session_limits(l, o) : nullptr),
      accepts_per_turn_(std::max(o.accepts_per_turn, 1u)),
      refuses_(o.refuse_when_full),
      place_(place) {}

sessions::~sessions() { delete limits_; }

void sessions::check_descriptor(int descriptor) const {
    connection_info none;
    if (limits_ == nullptr || !limits_->counts_bytes) return;
    if (descriptor >= 0 && look_at_traffic(its_loop, descriptor, none) != -EOPNOTSUPP) return;
    throw io_error(errno_code(EOPNOTSUPP), "limit idle time and write stalls of");
}

bool sessions::is_same_turn() const noexcept { return engine::of(its_loop).turns_taken() == turn_; }

static void note_refusal(const raw_address& peer, std::source_location place, const char* why) noexcept {
    static log_gate gate;
    write_log(gate, log_level::debug, place, "%s is refused: %s", address_text(peer).text, why);
}

bool sessions::admits(const raw_address& from, int descriptor) {
    const std::uint64_t turn = engine::of(its_loop).turns_taken();
    if (std::exchange(turn_, turn) != turn) accepted_in_turn_ = 0;
    ++accepted_in_turn_;
    if (!has_room()) {
        ++counts_.refused;
        note_refusal(from, place_, "the server is full (serve_options::max_connections)");
        return false;
    }
    if (limits_ == nullptr) return true;
    session_limits& limits = *limits_;
    const bool has_address = from.kind == raw_address::family::v4 || from.kind == raw_address::family::v6;
    const peer_key key(from, limits.salt);
    if (limits.most_per_peer != 0 && has_address) {
        const auto found = limits.peers.find(key);
        if (found != limits.peers.end() && found->second >= limits.most_per_peer) {
            ++counts_.refused_peers;
            note_refusal(from, place_, "it has as many sessions as it may (serve_options::max_connections_per_peer)");
            return false;
        }
    }
    if (limits.rates && has_address && !limits.rates->try_acquire(key)) {
        ++counts_.refused_bursts;
        note_refusal(from, place_, "it comes too often (serve_options::connection_rate_per_peer)");
        return false;
    }
    const bool counts = limits.most_per_peer != 0 && has_address;
    if (!counts && !limits.counts_bytes && !session_limits::is_set(limits.session)) return true;
    if (limits.counts_bytes) check_descriptor(descriptor);
    try {
        limits.next = new (frame_allocate(sizeof(session_guard)))
            session_guard(limits, from, descriptor, *its_loop.current_fiber());
        if (counts) {
            ++limits.peers[key];
            limits.next->counted = true;
        }
        limits.next->arm(its_loop.now());
    } catch (...) {
        not_begun();
        throw;
    }
    return true;
}

void sessions::not_begun() noexcept {
    if (limits_ != nullptr) limits_->drop(std::exchange(limits_->next, nullptr));
}

void sessions::begun(fiber& session) noexcept {
    ++counts_.accepted;
    if (limits_ == nullptr || limits_->next == nullptr) return;
    session_guard* const guard = std::exchange(limits_->next, nullptr);
    guard->owner = &session;
    session.awaited_by = guard;
}

duration sessions::pause_after(duration latest, bool had_accepted) noexcept {
    constexpr duration first_pause = std::chrono::milliseconds(5);
    constexpr duration longest_pause = std::chrono::seconds(1);
    if (had_accepted) ++counts_.no_memory;
    const duration pause = latest == duration{} ? first_pause : std::min(latest * 2, longest_pause);
    static log_gate gate(1);
    write_log(gate, log_level::warning, place_, "serve: out of memory; accepting again in %lld ms",
              static_cast<long long>(pause.count() / 1'000'000));
    return pause;
}

/// "session with 127.0.0.1:4711", or "session" if the peer has no address.
struct session_title {
    explicit session_title(const raw_address& peer) noexcept {
        const bool known = peer.kind != raw_address::family::none;
        std::snprintf(text, sizeof text, "session%s%s", known ? " with " : "", known ? address_text(peer).text : "");
    }
    char text[sizeof(address_text) + 16];
};

static void report(const std::exception_ptr& error, const raw_address& peer, std::source_location place) noexcept {
    static log_gate gate;
    const bool gone = peer_is_gone(code_of(error));
    write_log(gate, gone ? log_level::debug : log_level::warning, place, "%s ended: %s", session_title(peer).text,
              traced_message_of(error, place).c_str());
}

static void report_limit(delay after, const char* option, const raw_address& peer,
                         std::source_location place) noexcept {
    static log_gate gate;
    const timeout_error error({.kind = option, .length = after.value()});
    write_log(gate, log_level::info, place, "%s ended: %s", session_title(peer).text, error.what());
}

void sessions::ended(scope& base, fiber& f) noexcept {
    auto& self = static_cast<sessions&>(base);
    auto* const guard = static_cast<session_guard*>(std::exchange(f.awaited_by, nullptr));
    const bool has_error = f.flags & fiber::has_error;
    ++self.counts_.ended;
    if (has_error || (guard != nullptr && guard->over != out_of::nothing)) ++self.counts_.failed;
    if (has_error) {
        report(f.vt->error(f), self.peer, f.place);
        release_trace(f.vt->error(f));
    }
    if (guard != nullptr) {
        const session_limits& limits = *self.limits_;
        switch (guard->over) {
            case out_of::nothing: break;
            case out_of::idle:
                ++self.counts_.timed_out_idle;
                report_limit(limits.idle, "serve_options::idle_limit", guard->peer, f.place);
                break;
            case out_of::writing:
                ++self.counts_.timed_out_writing;
                report_limit(limits.writing, "serve_options::write_stall_limit", guard->peer, f.place);
                break;
            case out_of::session:
                ++self.counts_.timed_out_session;
                report_limit(limits.session, "serve_options::session_limit", guard->peer, f.place);
                break;
        }
        self.limits_->drop(guard);
    }
    if (self.has_room())
        while (!self.waiting_.empty()) self.waiting_.complete_first();
}

// --- room -------------------------------------------------------------------------------------------------

void room_wait::cancel(op& o) noexcept {
    auto& self = static_cast<room_wait&>(o);
    self.all_.waiting_.cancel(self);
}

void room_wait::describe(const op& o, char* text, std::size_t size) noexcept {
    const std::size_t count = static_cast<const room_wait&>(o).all_.size();
    std::snprintf(text, size, "room for a session, %zu %s running", count, count == 1 ? "is" : "are");
}

const op_vtable room_wait::table = {&room_wait::cancel, &wake_owner, &room_wait::describe};

}  // namespace rondo::detail
