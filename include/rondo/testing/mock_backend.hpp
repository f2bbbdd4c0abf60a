// A backend that does what a test says: the smallest one there is, and the first one to read.
//
//     rondo::mock_script script;
//     script.answer(rondo::io_kind::borrow, "hello", 5ms);   // what the first read gets, 5 ms after it began
//     script.answer(rondo::io_kind::borrow, -ECONNRESET);    // what the second one ends with, at once
//     rondo::loop_options options;
//     options.factory = &script;
//     rondo::run(options, program);
//     CHECK(script.heard == std::vector<std::string>{"receive 7", "receive 7", "close 7"});
//
// All that a loop wants from the outside is time, operations that end, and being woken. A real backend asks the kernel
// for them; this one has a clock that jumps and a list. What an operation does is said before it is submitted; one
// that nothing was said about waits until it is cancelled or its descriptor is closed; only a splice is refused, and
// then its bytes are received. backend.hpp has the contract.
#pragma once

#include <rondo/loop/backend.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace rondo {

/// What the outside will do, and what it was asked. One loop may be made with it; it must outlive that.
class mock_script : public backend_factory {
 public:
    /// What answer() has been told.
    struct answer_to_op {
        std::int32_t result;
        std::string bytes;
        duration after;
    };

    /// The next operation of this kind ends with this result, so long after it was submitted. Several wait in a row.
    void answer(io_kind kind, std::int32_t result, duration after = {}) {
        answers[kind].push_back({result, {}, after});
    }
    /// The next one, which reads, gets these bytes.
    void answer(io_kind kind, std::string bytes, duration after = {}) {
        const auto size = static_cast<std::int32_t>(bytes.size());
        answers[kind].push_back({size, std::move(bytes), after});
    }

    inline std::unique_ptr<backend> make(const backend_options& options, std::string& why) override;

    std::map<io_kind, std::deque<answer_to_op>> answers;
    std::vector<std::string> heard;  // "receive 7": what was asked of the outside, of which descriptor
};

class mock_backend final : public backend {
 public:
    explicit mock_backend(mock_script& script) : script_(script) {}

    backend_kind kind() const noexcept override { return backend_kind::sim; }
    bool is_closed_world() const noexcept override { return true; }

    // --- time, and chance

    time_point now() noexcept override { return now_; }
    std::int64_t wall_now() noexcept override { return now_.time_since_epoch().count(); }
    void spin(duration by) noexcept override { now_ += by; }
    std::uint64_t random() noexcept override { return 0; }

    // --- operations: each is armed, and ends in a `wait`, be it the next one

    bool submit(io_op& what) noexcept override {
        hear(what.kind, what.fd);
        what.state = op::armed;
        if (what.kind == io_kind::close) {
            end_all_of(what.fd);
            add({&what, now_, 0, {}});
        } else if (auto& scripted = script_.answers[what.kind]; !scripted.empty()) {
            add({&what, now_ + scripted.front().after, scripted.front().result, std::move(scripted.front().bytes)});
            scripted.pop_front();
        } else if (what.kind == io_kind::splice_in) {
            add({&what, now_, -ENOSYS, {}});  // who meant to splice receives instead
        } else {
            add({&what, never, 0, {}});
        }
        return false;
    }

    void cancel(io_op& what) noexcept override {
        if (what.state != op::armed || what.kind == io_kind::close) return;
        what.state = op::cancelling;
        for (waiting& each : waiting_)
            if (each.what == &what) each = {&what, now_, -ECANCELED, {}};
    }

    bool wait(time_point until, completions& done) noexcept override {
        const bool woken = woken_.exchange(0) != 0;
        const auto next = std::min_element(waiting_.begin(), waiting_.end(),
                                           [](const waiting& a, const waiting& b) { return a.due < b.due; });
        const time_point moment = std::min(until, next != waiting_.end() ? next->due : never);
        if (!woken && moment == never) {  // nothing can happen, unless a thread wakes this
            if (wakers_ != 0) woken_.wait(0);
            return wakers_ != 0;
        }
        if (!woken) now_ = std::max(now_, moment);
        for (std::size_t i = 0; i < waiting_.size() && !done.full();) {
            if (waiting_[i].due > now_) {
                ++i;
                continue;
            }
            waiting ended = std::move(waiting_[i]);
            waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
            fill(*ended.what, ended.bytes);
            done.report(*ended.what, ended.result);
        }
        return true;
    }

    void wake() noexcept override {
        woken_.store(1);
        woken_.notify_one();
    }
    void expect_wakes(std::size_t handles, duration) noexcept override { wakers_ = handles; }

    void reap(int fd) noexcept override {
        hear(io_kind::close, fd);
        end_all_of(fd);
    }
    void give_back(void* data, std::uint32_t, std::uint16_t) noexcept override { std::free(data); }

    // --- what never blocks: every call succeeds, and what makes a descriptor gets the next number

    int control(sys_op& what) noexcept override {
        using enum sys_op::call;
        if (what.what == give_back_pipe) return give_back_pipe_of(what);
        if (what.what == unwatch) end_all_of(what.fd);
        if (what.what == stream_pair || what.what == pipe_pair || what.what == terminal_pair)
            for (int& each : what.fds) each = next_fd_++;
        const bool makes = what.what == tcp_socket || what.what == udp_socket || what.what == unix_socket ||
                           what.what == watch_clock || what.what == fifo_open || what.what == standard_stream;
        return makes && what.fd < 0 ? next_fd_++ : 0;
    }
    int watch_signals(signal_watch&) noexcept override { return 0; }
    void unwatch_signals(signal_watch&) noexcept override {}
    std::size_t descriptor_limit() noexcept override { return std::numeric_limits<std::size_t>::max(); }
    std::size_t open_descriptors() noexcept override { return 0; }

    int poll_fd() noexcept override { return -1; }
    void flush() noexcept override {}
    std::size_t armed() const noexcept override { return waiting_.size(); }
    std::string describe() const override { return "a script"; }

 private:
    struct waiting {
        io_op* what;
        time_point due;
        std::int32_t result;
        std::string bytes;
    };

    // A test that runs out of memory here may end.
    void add(waiting w) noexcept { waiting_.push_back(std::move(w)); }
    void hear(io_kind kind, int fd) noexcept {
        constexpr const char* names[] = {"accept",
                                         "connect",
                                         "receive",
                                         "receive",
                                         "send",
                                         "send",
                                         "wait to read",
                                         "wait to write",
                                         "watch",
                                         "close",
                                         "receive datagrams",
                                         "send datagrams",
                                         "receive message",
                                         "send message",
                                         "splice",
                                         "splice"};
        script_.heard.push_back(std::string(names[static_cast<std::size_t>(kind)]) + " " + std::to_string(fd));
    }
    void end_all_of(int fd) noexcept {
        for (waiting& each : waiting_)
            if (each.what->fd == fd && each.what->state == op::armed) {
                each.what->state = op::cancelling;
                each = {each.what, now_, -EBADF, {}};
            }
    }
    static void fill(io_op& what, const std::string& bytes) noexcept {
        if (what.kind == io_kind::send_datagrams || what.kind == io_kind::send_message) return;
        if (what.kind == io_kind::receive_message) {
            auto& message = *static_cast<raw_message*>(what.data);
            const std::size_t size = std::min<std::size_t>(bytes.size(), message.size);
            message.truncated = size < bytes.size();
            message.ended = bytes.empty();
            message.descriptor_count = 0;
            if (size != 0) std::memcpy(message.data, bytes.data(), size);
            return;
        }
        if (what.kind == io_kind::receive_datagrams) {  // one
            auto& one = *static_cast<raw_datagram*>(what.data);
            one.size = static_cast<std::uint32_t>(std::min<std::size_t>(bytes.size(), one.capacity));
            one.truncated = one.size < bytes.size();
            if (one.size != 0) std::memcpy(one.data, bytes.data(), one.size);
            return;
        }
        if (what.kind == io_kind::splice_out) return;
        if (what.kind == io_kind::borrow || what.kind == io_kind::splice_in) {  // the pipe is a piece of memory, too
            what.data = bytes.empty() ? nullptr : std::malloc(bytes.size());
            what.size = static_cast<std::uint32_t>(bytes.size());
        }
        const std::size_t size = std::min<std::size_t>(bytes.size(), what.size);
        if (size != 0) std::memcpy(what.data, bytes.data(), size);
    }

    static int give_back_pipe_of(const sys_op& what) noexcept {
        const int saved = what.data != nullptr ? static_cast<int>(what.size) : 0;
        if (saved != 0) std::memcpy(what.data, static_cast<std::byte*>(what.pipe), what.size);
        std::free(what.pipe);
        return saved;
    }

    mock_script& script_;
    time_point now_{};
    std::vector<waiting> waiting_;  // armed, oldest first
    std::size_t wakers_ = 0;
    std::atomic<int> woken_{0};
    int next_fd_ = 3;
};

inline std::unique_ptr<backend> mock_script::make(const backend_options&, std::string& why) {
    why = "scripted";
    return std::make_unique<mock_backend>(*this);
}

}  // namespace rondo
