// What a backend knows of each descriptor, and which of them it has to look at.
#pragma once

#include <fcntl.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include <sys/mman.h>

namespace rondo::detail {

/// Records indexed by descriptor number. The kernel hands out the lowest free number, so the table
/// is about as long as the most descriptors ever open at once; a hash would only cost more. It
/// grows by pages, so a record never moves. A zeroed record is an unknown descriptor.
///
/// The pages are mapped, not from malloc: an allocator that tags its pointers (HWASan, MTE) uses the upper bits of an
/// address, and these may have another use, as epoll has for them. What is mapped without a wish for a place has none
/// of them set.
///
/// `Record` has `Record* next` and `bool queued`: the queue of records to look at runs through
/// them, so queueing cannot fail.
template <class Record>
class descriptor_table {
 public:
    descriptor_table() noexcept = default;
    descriptor_table(const descriptor_table&) = delete;
    descriptor_table& operator=(const descriptor_table&) = delete;
    ~descriptor_table() {
        for (std::size_t i = 0; i < pages_size_; ++i)
            if (pages_[i] != blank_) ::munmap(pages_[i], page_bytes);
        std::free(pages_);
    }

    /// What `look_up` finds for a number never seen by `get` is a copy of `blank`.
    void set_blank(const Record& blank) noexcept {
        for (Record& each : blank_) each = blank;
    }

    /// A record to look at: the number's, or a blank one.
    Record& look_up(int fd) noexcept {
        const auto number = static_cast<unsigned>(fd);
        const std::size_t page = number / page_records;
        Record* of = blank_;
        if (page < pages_size_) [[likely]]
            of = pages_[page];
        return of[number % page_records];
    }

    /// Null for a number never seen by `get`.
    Record* find(int fd) noexcept {
        const auto page = static_cast<unsigned>(fd) / page_records;
        return page < pages_size_ && pages_[page] != blank_ ? &look_up(fd) : nullptr;
    }

    /// Null for a number that is no open descriptor, or out of memory; `why_none` knows which.
    Record* get(int fd) noexcept {
        Record* known = find(fd);
        return known != nullptr || !is_open(fd) ? known : grow(fd);
    }
    static int why_none(int fd) noexcept { return is_open(fd) ? -ENOMEM : -EBADF; }

    bool idle() const noexcept { return first_ == nullptr; }
    void enqueue(Record& record) noexcept {
        if (record.queued) return;
        record.queued = true;
        record.next = nullptr;
        (first_ != nullptr ? last_->next : first_) = &record;
        last_ = &record;
    }
    Record& dequeue() noexcept {
        Record& record = *first_;
        first_ = record.next;
        record.queued = false;
        return record;
    }
    /// The end of the queue as it is now: what is enqueued while it is walked waits its turn.
    Record* last() const noexcept { return first_ != nullptr ? last_ : nullptr; }

    template <class F>
    void for_each(F&& f) {
        for (std::size_t i = 0; i < pages_size_; ++i) {
            if (pages_[i] == blank_) continue;
            for (std::size_t j = 0; j < page_records; ++j) f(pages_[i][j]);
        }
    }

 private:
    static constexpr std::size_t page_records = 64;
    static constexpr std::size_t page_bytes = page_records * sizeof(Record);

    // The number may come from anywhere. The table must not grow for one before the kernel has been asked.
    static bool is_open(int fd) noexcept { return fd >= 0 && ::fcntl(fd, F_GETFD) >= 0; }

    [[gnu::noinline]] Record* grow(int fd) noexcept {
        const std::size_t page = static_cast<unsigned>(fd) / page_records;
        if (page >= pages_size_) {
            const std::size_t size = std::bit_ceil(page + 1);
            auto* bigger = static_cast<Record**>(std::realloc(pages_, size * sizeof(Record*)));
            if (bigger == nullptr) return nullptr;
            for (std::size_t i = pages_size_; i < size; ++i) bigger[i] = blank_;
            pages_ = bigger;
            pages_size_ = size;
        }
        void* const fresh = ::mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (fresh == MAP_FAILED) return nullptr;
        pages_[page] = static_cast<Record*>(fresh);
        return &look_up(fd);
    }

    Record** pages_ = nullptr;
    std::size_t pages_size_ = 0;
    Record* first_ = nullptr;
    Record* last_ = nullptr;
    Record blank_[page_records] = {};
};

}  // namespace rondo::detail
