#include "pipes.hpp"

#include <rondo/base/detail/assert.hpp>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <new>

namespace rondo::detail {
namespace {

// One splice(2) fills a slot of the pipe with a page or less, so a pipe of the usual 16 slots takes 64 KiB at a time.
// With four times as many the transfer costs a quarter less. A user who has many pipes, or may not have larger ones,
// gets smaller ones from the kernel, which do as well.
constexpr int wanted_size = 256 << 10;

/// An eighth of the descriptors may be pipes.
std::size_t most_pipes() noexcept {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return pipe_pool::most;
    return std::min(pipe_pool::most, static_cast<std::size_t>(limit.rlim_cur) / 16);
}

}  // namespace

pipe_pool::~pipe_pool() {
    while (free_ != nullptr) {
        splice_pipe& last = *free_;
        free_ = last.next;
        drop(last);
    }
    RONDO_ASSERT(made_ == 0, "a pipe outlives its loop");
}

splice_pipe* pipe_pool::take(std::int32_t& error) noexcept {
    if (free_ == nullptr) return make(error);
    splice_pipe* const taken = free_;
    free_ = taken->next;
    --kept_;
    return taken;
}

splice_pipe* pipe_pool::make(std::int32_t& error) noexcept {
    if (made_ >= most_pipes()) return error = -EMFILE, nullptr;
    void* const memory = std::malloc(sizeof(splice_pipe));
    if (memory == nullptr) return error = -ENOMEM, nullptr;
    int ends[2];
    if (::pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0) {
        error = -errno;
        std::free(memory);
        return nullptr;
    }
    ::fcntl(ends[1], F_SETPIPE_SZ, wanted_size);
    ++made_;
    return new (memory) splice_pipe{ends[0], ends[1], nullptr};
}

std::int32_t pipe_pool::give_back(splice_pipe& back, void* saved, std::uint32_t left) noexcept {
    std::uint32_t got = 0;
    while (saved != nullptr && got < left) {
        const ssize_t n = ::read(back.out, static_cast<std::byte*>(saved) + got, left - got);
        if (n > 0) {
            got += static_cast<std::uint32_t>(n);
        } else if (n == 0 || errno != EINTR) {
            break;
        }
    }
    if (got < left || kept_ == most_kept) {  // only an empty one is of use to the next transfer
        drop(back);
    } else {
        back.next = free_;
        free_ = &back;
        ++kept_;
    }
    return static_cast<std::int32_t>(got);
}

void pipe_pool::drop(splice_pipe& last) noexcept {
    ::close(last.in);
    ::close(last.out);
    --made_;
    std::free(&last);
}

}  // namespace rondo::detail
