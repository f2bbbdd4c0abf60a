#include <rondo/sync/rate_limiter.hpp>

#include <cstdio>
#include <stdexcept>

namespace rondo {

rate_limiter::rate_limiter(const rate_options& options, const char* name)
    : per_(options.per.value().count()),
      rate_(options.tokens),
      burst_(options.burst),
      waits_("rate limiter", name),
      refill_(*this) {
    if (rate_ == 0 || per_ <= 0 || burst_ == 0)
        throw std::invalid_argument("rate_limiter: tokens, per and burst must be positive");
    if (static_cast<wide>(burst_) * per_ > (wide{1} << 62))
        throw std::invalid_argument("rate_limiter: burst * per is more than 146 years");
    full_at_ = static_cast<wide>(time_point::min().time_since_epoch().count()) * rate_;
}

// When `n` tokens will be in the bucket.
rate_limiter::wide rate_limiter::tokens_at(std::uint32_t n) const noexcept {
    return full_at_ - static_cast<wide>(burst_ - n) * per_;
}

bool rate_limiter::take(std::uint32_t n, time_point when) noexcept {
    const wide at = static_cast<wide>(when.time_since_epoch().count()) * rate_;
    if (at < tokens_at(n)) return false;
    // Full for less than a nanosecond: that is the grain of the clock, and must not add up.
    if (full_at_ + rate_ <= at) full_at_ = at;
    full_at_ += static_cast<wide>(n) * per_;
    return true;
}

std::uint32_t rate_limiter::available() const noexcept {
    const wide missing = full_at_ - static_cast<wide>(rondo::now().time_since_epoch().count()) * rate_;
    if (missing <= 0) return burst_;
    const wide tokens = (missing + per_ - 1) / per_;
    return tokens >= burst_ ? 0 : burst_ - static_cast<std::uint32_t>(tokens);
}

std::uint32_t rate_limiter::checked(std::uint32_t n) const {
    if (n > burst_)
        throw std::invalid_argument("rate_limiter: " + std::to_string(n) +
                                    " tokens never come together in a bucket of " + std::to_string(burst_));
    return n;
}

bool rate_limiter::try_acquire(std::uint32_t n) {
    checked(n);
    return waits_.empty() && take(n, rondo::now());
}

rate_limiter::acquire_awaiter rate_limiter::acquire(std::uint32_t n) { return {*this, checked(n)}; }

// The tokens that were taken last come back: who waits gets theirs sooner.
void rate_limiter::return_tokens(std::uint32_t n) noexcept {
    full_at_ -= static_cast<wide>(n) * per_;
    serve();
}

// --- waiting -------------------------------------------------------------------------------------------

const op_vtable rate_limiter::acquire_awaiter::table = {&cancel, &detail::wake_owner, &describe};

rate_limiter::acquire_awaiter::acquire_awaiter(rate_limiter& of, std::uint32_t n) noexcept
    : wait_op(table), of_(of), count_(n) {}

bool rate_limiter::acquire_awaiter::start() noexcept {
    const bool is_first = of_.waits_.empty();
    if (is_first && of_.take(count_, rondo::now())) return false;
    of_.waits_.push(*this);
    if (!is_first) return true;
    try {
        of_.arm();
    } catch (const std::bad_alloc&) {
        of_.waits_.complete_first(-ENOMEM);
    }
    return true;
}

void rate_limiter::acquire_awaiter::cancel(op& o) noexcept {
    auto& self = static_cast<acquire_awaiter&>(o);
    rate_limiter& of = self.of_;
    const bool was_first = &of.waits_.front() == &self;
    of.waits_.cancel(self);
    if (was_first) of.serve();
}

void rate_limiter::acquire_awaiter::describe(const op& o, char* text, std::size_t size) noexcept {
    static_cast<const acquire_awaiter&>(o).of_.waits_.describe(text, size);
}

// --- serving -------------------------------------------------------------------------------------------

const op_vtable rate_limiter::refill_op::table = {
    [](op&) noexcept {},
    [](op& o) noexcept { static_cast<refill_op&>(o).of.serve(); },
    [](const op&, char* text, std::size_t size) noexcept { std::snprintf(text, size, "the next token"); },
};

rate_limiter::refill_op::refill_op(rate_limiter& limiter) noexcept : op(table), of(limiter) {}

// That needs no memory: the timer has a slot in the heap, or has just gone and left a free one.
void rate_limiter::serve() noexcept {
    while (!waits_.empty() && take(first().count_, rondo::now())) waits_.complete_first();
    waits_.empty() ? disarm() : arm();
}

void rate_limiter::arm() {
    const wide at = tokens_at(first().count_);
    const wide ns = (at + rate_ - 1) / rate_;  // positive: it lies in the future
    const bool ever = ns < never.time_since_epoch().count();
    refill_.owner = first().owner;  // of the loop's heap; it is not woken
    const time_point when = ever ? time_point(duration(static_cast<std::int64_t>(ns))) : never;
    refill_.pending() ? detail::current->move_timer(refill_, when) : detail::current->add_timer(refill_, when);
}

void rate_limiter::disarm() noexcept {
    if (!refill_.pending()) return;
    detail::current->remove_timer(refill_);
    refill_.state = op::idle;
}

// --- one for each key ----------------------------------------------------------------------------------

namespace detail {

keyed_buckets::~keyed_buckets() {
    RONDO_ASSERT(held_.empty(), "a keyed_rate_limiter was destroyed before a wait that was made for it");
    by_use_.for_each([](bucket& b) {
        b.unlink();
        b.free(b);
    });
    delete[] chains_;
}

keyed_buckets::bucket* keyed_buckets::find(std::size_t hash, bool (*equal)(const bucket&, const void*),
                                           const void* key) const {
    if (chain_count_ == 0) return nullptr;
    bucket* at = chains_[hash & (chain_count_ - 1)];
    while (at != nullptr && (at->hash != hash || !equal(*at, key))) at = at->next_in_chain;
    return at;
}

void keyed_buckets::insert(bucket& b, std::size_t hash) {
    if (size_ >= chain_count_) grow();
    b.hash = hash;
    bucket*& chain = chains_[hash & (chain_count_ - 1)];
    b.next_in_chain = std::exchange(chain, &b);
    by_use_.push_back(b);
    ++size_;
}

void keyed_buckets::grow() {
    const std::size_t count = chain_count_ == 0 ? 16 : chain_count_ * 2;
    bucket** const chains = new bucket*[count]();
    const auto chain = [&](bucket& b) { b.next_in_chain = std::exchange(chains[b.hash & (count - 1)], &b); };
    by_use_.for_each(chain);
    held_.for_each(chain);
    delete[] std::exchange(chains_, chains);
    chain_count_ = count;
}

// It goes behind all others, and of those in front, which were not used for longest, two are looked at.
void keyed_buckets::used(bucket& b) noexcept {
    if (b.users == 0) let_go(b);
    for (int i = 0; i < 2 && !by_use_.empty(); ++i) {
        bucket& oldest = by_use_.front();
        if (&oldest == &b || !oldest.limiter.is_idle()) return;
        forget(oldest);
    }
}

void keyed_buckets::hold(bucket& b) noexcept {
    b.unlink();
    held_.push_back(b);
}

void keyed_buckets::let_go(bucket& b) noexcept {
    b.unlink();
    by_use_.push_back(b);
}

void keyed_buckets::forget(bucket& b) noexcept {
    bucket** at = &chains_[b.hash & (chain_count_ - 1)];
    while (*at != &b) at = &(*at)->next_in_chain;
    *at = b.next_in_chain;
    b.unlink();
    b.free(b);
    --size_;
}

std::size_t keyed_buckets::forget_idle() noexcept {
    const std::size_t before = size_;
    by_use_.for_each([this](bucket& b) {
        if (b.limiter.is_idle()) forget(b);
    });
    return before - size_;
}

}  // namespace detail
}  // namespace rondo
