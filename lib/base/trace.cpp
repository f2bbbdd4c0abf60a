#include "trace.hpp"

#include "place_text.hpp"
#include "thread_end.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <typeinfo>
#include <utility>

#include <unwind.h>

namespace rondo::detail {

// --- the number in an exception ------------------------------------------------------------------------------

namespace {

/// What lies in front of the object that was thrown (libsupc++, unwind-cxx.h).
struct exception_header {
    const std::type_info* type;
    void (*destructor)(void*);
    void (*handlers[2])();
    void* next;
    int handler_count;
    int handler_switch;
    const void* action;
    const void* data;
    const void* landing;
    void* adjusted;
    _Unwind_Exception unwind;
};
struct counted_header {
    int references;
    // Here is the padding.
    exception_header header;
};

std::uint64_t* number_in(const std::exception_ptr& error) noexcept {
    constexpr std::size_t before_header = offsetof(counted_header, header);
    if constexpr (before_header < sizeof(int) + sizeof(std::uint64_t)) return nullptr;
    constexpr std::uint64_t made_by_gnu = 0x474e'5543'432b'2b00;  // "GNUCC++\0"
    if (!error) return nullptr;
    char* object;
    static_assert(sizeof error == sizeof object);
    std::memcpy(&object, &error, sizeof object);
    auto* const counted = reinterpret_cast<counted_header*>(object - sizeof(counted_header));
    const exception_header& header = counted->header;
    if (header.unwind.exception_class != made_by_gnu || header.type != error.__cxa_exception_type()) return nullptr;
    return reinterpret_cast<std::uint64_t*>(reinterpret_cast<char*>(counted) + before_header - sizeof(std::uint64_t));
}

// An exception may be in the hands of several threads, and each would have it in its own table.
std::uint64_t read_number(const std::exception_ptr& error) noexcept {
    std::uint64_t* const at = number_in(error);
    return at != nullptr ? std::atomic_ref(*at).load(std::memory_order_relaxed) : 0;
}

constinit std::atomic<std::uint64_t> last_number{0};

// --- the table of a thread -----------------------------------------------------------------------------------

struct error_traces {
    static constexpr std::size_t rows = 64;

    struct row {
        std::uint64_t number = 0;  // in the exception; its last bits are the index of the row
        std::uint64_t age = 0;
        bool needed = false;
    };
    std::array<row, rows> table;  // apart from the ways, which are long: all of it is looked at for each new error
    std::array<error_trace, rows> ways;
    std::uint64_t ages = 0;

    row* find(std::uint64_t number) noexcept {
        row& r = table[number % rows];
        return number != 0 && r.number == number ? &r : nullptr;
    }
    error_trace& way(const row& r) noexcept { return ways[r.number % rows]; }
    void touch(row& r) noexcept { r.age = ++ages; }
    row& begin() noexcept {
        const auto before = [](const row& a, const row& b) { return a.needed != b.needed ? b.needed : a.age < b.age; };
        row& r = *std::min_element(table.begin(), table.end(), before);
        const auto index = static_cast<std::uint64_t>(&r - table.data());
        r = {(last_number.fetch_add(1, std::memory_order_relaxed) + 1) * rows + index};
        way(r) = error_trace();
        touch(r);
        return r;
    }
};

constinit thread_local error_traces* remembered = nullptr;
constinit thread_local thread_end at_end{[]() noexcept { delete std::exchange(remembered, nullptr); }};

// Without memory nobody will know where the errors came from.
bool remembers() noexcept {
    if (remembered == nullptr && at_thread_end(at_end)) remembered = new (std::nothrow) error_traces;
    return remembered != nullptr;
}

error_traces::row* row_of(const std::exception_ptr& error) noexcept {
    return remembered != nullptr ? remembered->find(read_number(error)) : nullptr;
}

}  // namespace

error_trace* trace_of(const std::exception_ptr& error) noexcept {
    const error_traces::row* const r = row_of(error);
    return r != nullptr ? &remembered->way(*r) : nullptr;
}

error_trace* begin_trace(const std::exception_ptr& error) noexcept {
    if (!remembers()) return nullptr;
    error_traces::row* r = row_of(error);
    if (r != nullptr) {
        remembered->touch(*r);
    } else {
        std::uint64_t* const at = number_in(error);
        if (at == nullptr) return nullptr;
        r = &remembered->begin();
        std::atomic_ref(*at).store(r->number, std::memory_order_relaxed);
    }
    return &remembered->way(*r);
}

void need_trace(const std::exception_ptr& error, bool needed) noexcept {
    error_traces::row* const r = row_of(error);
    if (r == nullptr || r->needed == needed) return;
    r->needed = needed;
    remembered->touch(*r);
}

void release_trace(const std::exception_ptr& error) noexcept {
    error_traces::row* const r = row_of(error);
    if (r == nullptr) return;
    r->needed = false;
    r->age = 0;
}

// --- one way -------------------------------------------------------------------------------------------------

void error_trace::add(step how, const std::source_location& at) noexcept {
    if (size_ == most) {
        std::move(places_.begin() + most_innermost + 1, places_.end(), places_.begin() + most_innermost);
        --size_;
        ++left_out_;
        if (at_rest_ > most_innermost) --at_rest_;
    }
    places_[size_++] = {at, how};
}

// Somebody had kept the error and throws it once more. If that has been done before, the way it took then is not that
// of this time: what a hundred tasks have been told of one failure does not become one long way.
void error_trace::go_back() noexcept {
    if (rethrown_) {
        size_ = std::min(size_, at_rest_);
        if (size_ <= most_innermost) left_out_ = 0;
    } else {
        rethrown_ = true;
        at_rest_ = size_;
    }
}

void error_trace::leaves(const coroutine& from, const std::source_location& site, const coroutine& to) noexcept {
    const bool again = begun_ && next_ != from && !is_ours(site);
    if (again) go_back();
    if (!is_ours(site)) add(again ? step::rethrown : step::awaited, site);
    begun_ = true;
    next_ = to;
}

void error_trace::is_passed(const std::source_location& site, const coroutine& to) noexcept {
    if (!is_ours(site)) add(step::awaited, site);
    begun_ = true;
    next_ = to;
}

void error_trace::ends_task(const std::source_location& spawned) noexcept {
    if (spawned.line() != 0 && !is_ours(spawned)) add(step::spawned, spawned);
    begun_ = true;
    next_ = {};
    if (!rethrown_) at_rest_ = size_;
}

}  // namespace rondo::detail
