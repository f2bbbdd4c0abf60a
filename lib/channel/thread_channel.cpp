// The places of a channel go round: free -> taken by a sender -> in the loop's inbox -> arrived -> in the hands
// of a receiver -> free. Free places are a lock-free stack (free_stack.hpp), arriving is the loop's inbox
// (inbox.hpp). A lock is taken only by senders that block, and by who frees a place while some do.
#include <rondo/channel/thread_channel.hpp>
#include <rondo/loop/loop.hpp>

#include "base/fork.hpp"
#include "free_stack.hpp"
#include "loop/forked.hpp"
#include "loop/places.hpp"
#include "loop/remote_state.hpp"

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <stdexcept>

namespace rondo::detail {

struct thread_channel_place : callback {
    thread_channel_place(thread_channel_state& s, std::uint32_t i) noexcept : callback(&arrive, {}), of(s), index(i) {}
    static void arrive(callback& base, act what);

    thread_channel_state& of;
    const std::uint32_t index;
    bool has_value = false;
    std::atomic<std::uint32_t> below{0};  // while it is free; read by senders that are too late
};

/// Shared by the channel, its senders and each place in the inbox. (The notice of the last sender is behind all
/// places, but when the loop has closed its inbox it is dropped at once, maybe before these are.)
class thread_channel_state {
 public:
    thread_channel_state(loop& l, std::size_t capacity, const thread_channel_core::value_type_info& type);
    ~thread_channel_state();

    void retain() noexcept { owners_.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept {
        if (owners_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }

    // --- any thread
    thread_channel_place* take(bool may_wait, send_status& why) noexcept;
    void* value_in(thread_channel_place& p) const noexcept { return reinterpret_cast<std::byte*>(&p) + value_offset_; }
    bool closed() const noexcept { return free_.closed(); }
    void shut() noexcept;
    std::atomic<std::uint32_t>& below(std::uint32_t index) const noexcept { return place(index).below; }
    void sender_gone(const rondo::remote& r) noexcept;

    // --- the loop's thread
    void close() noexcept;
    void free(thread_channel_place& p) noexcept;
    void arrived(thread_channel_place& p) noexcept;
    thread_channel_place* next() noexcept;  // null if none has arrived
    void destroy_value(thread_channel_place& p) noexcept {
        if (std::exchange(p.has_value, false)) type_.destroy(value_in(p));
    }
    void add_sender() noexcept;
    bool no_senders() const noexcept { return generations_ != 0 && ended_generations_ == generations_; }
    bool ended() const noexcept { return no_senders() || (closed() && away_ == 0); }

    loop& of;
    std::atomic<std::size_t> senders{0};
    queue<ready_node> here;  // arrived, and not received
    std::size_t here_count = 0;
    std::size_t in_hands = 0;  // of receivers that have not moved the value out yet
    wait_queue<thread_channel_core::receive_op> receivers;
    bool abandoned = false;  // the channel is gone

 private:
    struct end_notice : callback {
        explicit end_notice(thread_channel_state& s) noexcept : callback(&arrive, {}), of(s) {}
        static void arrive(callback& base, act what);
        thread_channel_state& of;
        std::atomic<std::size_t> due{0};  // each with a share
    };
    struct blocked : links {
        std::condition_variable wakes;
        std::uint32_t index = 0;  // of its place, once it is over
        bool over = false;
    };

    thread_channel_place& place(std::uint32_t index) const noexcept {
        return *reinterpret_cast<thread_channel_place*>(places_ + index * stride_);
    }
    thread_channel_place* wait_for_place(send_status& why) noexcept;
    void serve_blocked() noexcept;
    void end_receivers() noexcept;
    /// In a forked child, where no other thread is, and nothing arrives.
    bool is_parents() const noexcept { return forks() != forks_; }

    const thread_channel_core::value_type_info type_;
    const std::uint32_t capacity_;
    std::size_t value_offset_;
    std::size_t stride_;
    std::size_t alignment_;
    std::byte* places_;
    end_notice end_{*this};
    std::size_t away_ = 0;     // once closed: places that are not free and have not arrived
    // A generation of senders begins with one that is made when there is none, and ends with the last copy.
    std::size_t generations_ = 0;
    std::size_t ended_generations_ = 0;  // whose notice has arrived, and so all that they sent
    std::atomic<std::size_t> owners_{1};
    const unsigned forks_ = forks();

    free_stack<thread_channel_state> free_{*this};
    std::atomic<std::size_t> blocked_count_{0};
    std::mutex guard_;  // of the senders that block, and only of them
    ring<blocked> blocked_;
};

thread_channel_state::thread_channel_state(loop& l, std::size_t capacity,
                                           const thread_channel_core::value_type_info& type)
    : of(l), type_(type), capacity_(static_cast<std::uint32_t>(capacity)) {
    const auto round_up = [](std::size_t n, std::size_t to) { return (n + to - 1) / to * to; };
    alignment_ = std::max(alignof(thread_channel_place), type.alignment);
    value_offset_ = round_up(sizeof(thread_channel_place), type.alignment);
    stride_ = round_up(value_offset_ + type.size, alignment_);
    places_ = static_cast<std::byte*>(::operator new(stride_ * capacity, std::align_val_t(alignment_)));
    for (std::uint32_t i = capacity_; i-- > 0;) {
        new (&place(i)) thread_channel_place(*this, i);
        free_.push(i);
    }
}

thread_channel_state::~thread_channel_state() {
    for (std::uint32_t i = 0; i < capacity_; ++i) place(i).~thread_channel_place();
    ::operator delete(places_, std::align_val_t(alignment_));
}

// --- senders -------------------------------------------------------------------------------------------

thread_channel_place* thread_channel_state::take(bool may_wait, send_status& why) noexcept {
    if (blocked_count_.load(std::memory_order_seq_cst) == 0) {  // else it would overtake them
        const std::uint32_t index = free_.pop();
        if (index < free_.none) return &place(index);
        why = index == free_.is_closed ? send_status::closed : send_status::full;
    } else {
        why = closed() ? send_status::closed : send_status::full;
    }
    return may_wait && why == send_status::full ? wait_for_place(why) : nullptr;
}

// It says that it waits before it looks once more, and who frees a place looks for those that wait
// after it did: one of the two sees the other.
thread_channel_place* thread_channel_state::wait_for_place(send_status& why) noexcept {
    if (is_parents()) {
        if (!unwinding_in_child()) used_in_child("a blocking send");
        why = send_status::closed;
        return nullptr;
    }
    RONDO_ASSERT(current != &scheduler::of(of), "a blocking send on the thread of the loop that would receive it");
    std::unique_lock lock(guard_);
    blocked_count_.fetch_add(1, std::memory_order_seq_cst);
    std::uint32_t index = blocked_.empty() && !closed() ? free_.pop() : free_.none;
    if (index == free_.none && !closed()) {
        blocked self;
        blocked_.push_back(self);
        self.wakes.wait(lock, [&] { return self.over; });
        index = self.index;
    } else {
        blocked_count_.fetch_sub(1, std::memory_order_seq_cst);
    }
    if (index < free_.none) return &place(index);
    why = send_status::closed;
    return nullptr;
}

void thread_channel_state::serve_blocked() noexcept {
    if (is_parents()) return;  // those that block are threads of the parent, and one may have had the lock
    const std::lock_guard lock(guard_);
    while (!blocked_.empty()) {
        const std::uint32_t index = free_.pop();
        if (index == free_.none) return;
        blocked& first = blocked_.pop_front();
        blocked_count_.fetch_sub(1, std::memory_order_seq_cst);
        first.index = index;  // or that it is closed
        first.over = true;
        first.wakes.notify_one();
    }
}

void thread_channel_state::sender_gone(const rondo::remote& r) noexcept {
    if (senders.fetch_sub(1, std::memory_order_acq_rel) != 1 || is_parents()) return release();
    // The share of the last one goes with the notice. If the notice of an earlier generation is still on its
    // way, it goes again, behind what this one has sent.
    if (end_.due.fetch_add(1, std::memory_order_acq_rel) == 0 && !remote_state::post(r, end_))
        end_notice::arrive(end_, callback::act::drop);
}

void thread_channel_state::end_notice::arrive(callback& base, act what) {
    auto& self = static_cast<end_notice&>(base);
    thread_channel_state& of = self.of;
    if (what == act::drop) {
        for (std::size_t n = self.due.exchange(0, std::memory_order_acq_rel); n > 0; --n) of.release();
        return;
    }
    ++of.ended_generations_;
    if (self.due.fetch_sub(1, std::memory_order_acq_rel) != 1) {
        const bool taken = remote_state::post(of.of.remote(std::source_location()), self);
        RONDO_ASSERT(taken, "a loop that runs takes posts");
    }
    if (of.no_senders()) of.end_receivers();
    of.release();
}

// --- the loop's thread ---------------------------------------------------------------------------------

void thread_channel_place::arrive(callback& base, act what) {
    auto& self = static_cast<thread_channel_place&>(base);
    thread_channel_state& of = self.of;
    if (what == act::run && !of.abandoned) {
        of.arrived(self);
    } else {
        of.destroy_value(self);
        of.shut();  // if it was the loop that went
    }
    of.release();
}

void thread_channel_state::add_sender() noexcept {
    retain();
    if (senders.fetch_add(1, std::memory_order_relaxed) == 0) ++generations_;
}

// Any thread: nobody gets a place any more.
void thread_channel_state::shut() noexcept {
    if (free_.close()) serve_blocked();
}

void thread_channel_state::arrived(thread_channel_place& p) noexcept {
    if (closed()) --away_;
    if (!p.has_value) {  // building the value failed
        free(p);
    } else {
        here.push(p);
        ++here_count;
        if (!receivers.empty()) {
            receivers.front().place_ = next();
            receivers.complete_first();
        }
    }
    if (ended()) end_receivers();
}

void thread_channel_state::free(thread_channel_place& p) noexcept {
    destroy_value(p);
    free_.push(p.index);
    if (blocked_count_.load(std::memory_order_seq_cst) != 0) [[unlikely]]
        serve_blocked();
}

void thread_channel_state::close() noexcept {
    if (!free_.close()) return;
    away_ = capacity_ - here_count - in_hands - free_.count();
    serve_blocked();
    if (ended()) end_receivers();
}

thread_channel_place* thread_channel_state::next() noexcept {
    if (here.empty()) return nullptr;
    --here_count;
    ++in_hands;
    return static_cast<thread_channel_place*>(&here.pop());
}

void thread_channel_state::end_receivers() noexcept {
    while (!receivers.empty()) receivers.complete_first();  // with no place
}

// --- what the header calls -----------------------------------------------------------------------------

thread_channel_core::sender::sender(thread_channel_state& state)
    : state_(&state), remote_(state.of.remote(calling_place())) {
    state_->add_sender();
}

thread_channel_core::sender::sender(const sender& other) noexcept : state_(other.state_), remote_(other.remote_) {
    if (state_ == nullptr) return;
    state_->retain();
    state_->senders.fetch_add(1, std::memory_order_relaxed);
}

thread_channel_core::sender::~sender() {
    if (state_ == nullptr) return;
    state_->sender_gone(remote_);
}

thread_channel_place* thread_channel_core::sender::take(bool may_wait, send_status& why) const noexcept {
    RONDO_ASSERT(state_ != nullptr, "an empty sender");
    if (remote_state::is_gone(remote_)) [[unlikely]] {  // before a value is moved; maybe nothing has told the channel
        state_->shut();
        why = send_status::closed;
        return nullptr;
    }
    return state_->take(may_wait, why);
}

void* thread_channel_core::sender::value_in(thread_channel_place& place) noexcept { return place.of.value_in(place); }

bool thread_channel_core::sender::post(thread_channel_place& place) const noexcept {
    place.has_value = true;
    place.of.retain();
    return remote_state::post(remote_, place);
}

void thread_channel_core::sender::put_back(thread_channel_place& place) const noexcept {
    place.of.retain();
    if (!remote_state::post(remote_, place)) refused(place);
}

void thread_channel_core::sender::refused(thread_channel_place& place) const noexcept {
    thread_channel_place::arrive(place, callback::act::drop);
}

bool thread_channel_core::sender::closed() const noexcept { return state_ == nullptr || state_->closed(); }

thread_channel_core::thread_channel_core(std::size_t capacity, const char* name, const value_type_info& type)
    : name_(name) {
    if (capacity == 0 || capacity >= 0x7fff'ffff)
        throw std::invalid_argument("thread_channel: a capacity from 1 to 2^31 - 2, not " + std::to_string(capacity));
    state_ = new thread_channel_state(this_loop(), capacity, type);
}

thread_channel_core::~thread_channel_core() {
    RONDO_ASSERT(state_->receivers.empty(), "a thread_channel was destroyed while tasks wait for it");
    state_->close();
    while (!state_->here.empty()) state_->destroy_value(static_cast<thread_channel_place&>(state_->here.pop()));
    state_->abandoned = true;
    state_->release();
}

thread_channel_core::sender thread_channel_core::make_sender() {
    RONDO_ASSERT(!state_->no_senders(), "every sender of this thread_channel is gone: it has ended");
    return sender(*state_);
}

void thread_channel_core::close() noexcept { state_->close(); }
bool thread_channel_core::ended() const noexcept { return state_->ended(); }
std::size_t thread_channel_core::size() const noexcept { return state_->here_count; }

thread_channel_place* thread_channel_core::try_receive() noexcept { return state_->next(); }

void thread_channel_core::free(thread_channel_place& place) noexcept {
    --state_->in_hands;
    state_->free(place);
}

const op_vtable thread_channel_core::receive_op::table = {&cancel, &wake_owner, &describe};

thread_channel_core::receive_op::receive_op(thread_channel_core& channel) noexcept : wait_op(table), of_(channel) {}

bool thread_channel_core::receive_op::start() noexcept {
    place_ = of_.try_receive();
    if (place_ != nullptr || of_.ended()) return false;
    of_.state_->receivers.push(*this);
    return true;
}

void thread_channel_core::receive_op::cancel(op& o) noexcept {
    auto& self = static_cast<receive_op&>(o);
    self.of_.state_->receivers.cancel(self);
}

void thread_channel_core::receive_op::describe(const op& o, char* text, std::size_t size) noexcept {
    const thread_channel_state& of = *static_cast<const receive_op&>(o).of_.state_;
    const std::size_t senders = of.senders.load(std::memory_order_relaxed);
    const char* const name = static_cast<const receive_op&>(o).of_.name_;
    if (*name == '\0') {
        std::snprintf(text, size, "a value from another thread, %zu sender%s", senders, senders == 1 ? "" : "s");
    } else {
        std::snprintf(text, size, "receive from thread_channel '%s', %zu sender%s", name, senders,
                      senders == 1 ? "" : "s");
    }
}

}  // namespace rondo::detail
