// buffered_writer: many small writes, few system calls, and a mark above which who writes must wait.
//
//     rondo::buffered_writer out(peer);
//     for (const row& r : rows) co_await out.write(r.text);  // waits only while the peer is slow
//     co_await out.flush();
//
// Any number of tasks may write: what one write() is given goes out in one piece. Nobody needs to run beside them: the
// task that finds the buffer above its mark, or flushes, writes for all. Where bytes must not wait for either, a task
// of their own does: `group.spawn([&] { return out.run(); })`.
#pragma once

#include <rondo/base/bytes.hpp>
#include <rondo/io/stream.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/task/task.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <system_error>

namespace rondo {

/// Marks of a buffered_writer, in bytes.
struct write_marks {
    std::size_t high = 64 * 1024;  // above it write() waits, and try_write() refuses
    std::size_t low = 16 * 1024;   // until no more than so many are left
};

/// Writes to `Stream`, which must outlive it, through a buffer of its own. What is in the buffer when it is destroyed
/// is gone: flush() first. When the stream has failed, every further write(), flush() and run() throws that error.
template <byte_writer Stream>
class buffered_writer {
 public:
    explicit buffered_writer(Stream& stream, write_marks marks = {}) noexcept : stream_(&stream), marks_(marks) {
        if (marks_.low > marks_.high) marks_.low = marks_.high;
    }

    /// Waits while more than the high mark is in the buffer, until no more than the low mark is; then puts all of
    /// `from` behind it. So at most one piece per writing task comes on top of the mark. `from` must stay valid until
    /// this ends. Throws the stream's error, and bad_alloc: then nothing of `from` was taken.
    /// Cancel: nothing of `from` was taken, and nothing that was taken before is lost.
    [[nodiscard]] task<> write(bytes_view from) {
        if (buffered() > marks_.high) co_await until(marks_.low);
        check();
        append(from);
    }
    /// Puts all of `from` into the buffer, or nothing if that would be above the high mark (and there is something in
    /// it), or the stream has failed. Does not wait: the bytes go out when someone writes, flushes or runs. Throws
    /// bad_alloc.
    bool try_write(bytes_view from) {
        if (failure_ || (buffered() != 0 && buffered() + from.size() > marks_.high)) return false;
        append(from);
        return true;
    }

    /// Waits until all that is in the buffer now has been written. Throws the stream's error.
    /// Cancel: what has not gone out stays in the buffer.
    [[nodiscard]] task<> flush() {
        const std::uint64_t goal = taken_;
        while (written_ < goal || failure_) {
            check();
            co_await write_or_wait();
        }
    }

    /// Writes what comes until end() is called and all has gone out. For a task of its own. Throws the stream's error.
    /// Cancel: as flush().
    [[nodiscard]] task<> run() {
        for (;;) {
            check();
            if (buffered() != 0) {
                co_await write_or_wait();
            } else if (ended_) {
                co_return;
            } else {
                co_await more_.wait();
            }
        }
    }
    /// Nothing more will come: run() ends when the buffer is empty. What is written all the same waits for a flush().
    void end() noexcept {
        ended_ = true;
        more_.set();
    }

    /// How many bytes were taken and have not been written.
    std::size_t buffered() const noexcept { return static_cast<std::size_t>(taken_ - written_); }
    /// How many bytes the stream has taken, since this was made.
    std::uint64_t written() const noexcept { return written_; }
    Stream& stream() const noexcept { return *stream_; }

 private:
    void append(bytes_view from) {
        waiting_.append(static_cast<const char*>(from.data()), from.size());
        taken_ += from.size();
        if (from.size() != 0) pulse(more_);
    }
    void check() const {
        if (failure_) std::rethrow_exception(failure_);
    }
    static void pulse(event& e) noexcept {
        e.set();
        e.clear();
    }

    task<> until(std::size_t left) {
        while (buffered() > left) {
            check();
            co_await write_or_wait();
        }
    }

    /// One write of what is there, unless another task is about it; then until that has got on.
    task<> write_or_wait() {
        if (writing_) {
            co_await got_on_.wait();
            co_return;
        }
        if (going_out_.empty()) going_out_.swap(waiting_);
        turn mine(*this);
        try {
            co_await stream_->write_all(going_out_, &mine.written);
        } catch (const std::system_error&) {
            failure_ = std::current_exception();
            throw;
        }
    }

    /// One task writes at a time. However its write ends, what has gone out leaves the buffer, and the next one looks.
    struct turn {
        explicit turn(buffered_writer& writer) noexcept : of(writer) { of.writing_ = true; }
        ~turn() {
            of.writing_ = false;
            of.written_ += written;
            if (written == of.going_out_.size()) {
                of.going_out_.clear();
            } else {
                of.going_out_.erase(0, written);
            }
            pulse(of.got_on_);
        }
        turn(const turn&) = delete;
        turn& operator=(const turn&) = delete;

        buffered_writer& of;
        std::size_t written = 0;
    };

    Stream* stream_;
    write_marks marks_;
    std::string going_out_;  // what is being written, or was when that was cancelled
    std::string waiting_;  // what comes behind it
    std::uint64_t taken_ = 0;
    std::uint64_t written_ = 0;
    bool writing_ = false;
    bool ended_ = false;
    std::exception_ptr failure_;
    event got_on_{"buffered_writer"};  // a write has ended
    event more_{"buffered_writer"};  // something was put into the buffer
};

}  // namespace rondo
