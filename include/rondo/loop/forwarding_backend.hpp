// A backend round another one: the place for what looks at all that crosses the door, or changes a little of it.
//
//     struct counting : forwarding_backend {
//         using forwarding_backend::forwarding_backend;
//         bool submit(io_op& what) noexcept override {
//             ++submitted;
//             return forwarding_backend::submit(what);
//         }
//         int submitted = 0;
//     };
//
// All that the program hears from the outside comes out of these functions: `now`, `wall_now`, `random` and `choose`
// by what they return, `control` by its result and what it filled in, `submit` by an op that has finished at once,
// `wait` by the ops it reports. A recording backend overrides those and writes down the answers; one that plays a
// record back needs no other backend inside. Signals and wakes come from elsewhere: they are seen as what `wait`
// returns for.
#pragma once

#include <rondo/loop/backend.hpp>

#include <memory>
#include <string>
#include <utility>

namespace rondo {

/// Passes everything on. What derives from it overrides what it wants to see or to change, and calls the function of
/// this class, which keeps the books (`reaping`), for the rest. (None is inline: a compiler that saw the body of one
/// backend would expect it wherever a program calls its own.)
class RONDO_API forwarding_backend : public backend {
 public:
    explicit forwarding_backend(std::unique_ptr<backend> inside) noexcept : inside_(std::move(inside)) {}
    ~forwarding_backend() override;

    backend& inside() noexcept { return *inside_; }
    const backend& inside() const noexcept { return *inside_; }

    backend_kind kind() const noexcept override;
    std::string describe() const override;

    time_point now() noexcept override;
    std::int64_t wall_now() noexcept override;
    std::uint64_t random() noexcept override;
    std::uint32_t choose(choice point, std::uint32_t alternatives) noexcept override;
    void spin(duration by) noexcept override;

    bool submit(io_op& what) noexcept override;
    void cancel(io_op& what) noexcept override;
    int control(sys_op& what) noexcept override;
    void reap(int fd) noexcept override;
    void give_back(void* data, std::uint32_t size, std::uint16_t buffer) noexcept override;
    std::size_t armed() const noexcept override;

    bool wait(time_point until, completions& done) noexcept override;
    void wake() noexcept override;
    int poll_fd() noexcept override;
    void flush() noexcept override;

    int watch_signals(signal_watch& who) noexcept override;
    void unwatch_signals(signal_watch& who) noexcept override;
    std::size_t descriptor_limit() noexcept override;
    std::size_t open_descriptors() noexcept override;
    void left_to_parent() noexcept override;

    bool is_closed_world() const noexcept override;
    void expect_wakes(std::size_t handles, duration patience) noexcept override;

 private:
    std::unique_ptr<backend> inside_;
};

}  // namespace rondo
