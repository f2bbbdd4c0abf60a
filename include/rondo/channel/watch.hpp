// watch<T>: the latest value of something, for any number of tasks that want to know when it changes.
// Who is slow sees fewer values, never older ones.
//
//     while (auto level = co_await reader.changed()) show(*level);
#pragma once

#include <rondo/task/detail/wait_queue.hpp>
#include <rondo/base/detail/take.hpp>
#include <rondo/task/wait.hpp>

#include <cstdint>
#include <utility>

namespace rondo {

template <class T>
class watch_reader;

namespace detail {

class RONDO_API watch_core {
 public:
    explicit watch_core(const char* called) noexcept : name(called) {}
    watch_core(const watch_core&) = delete;
    watch_core& operator=(const watch_core&) = delete;
    void wake_all(std::int32_t result) noexcept;

    wait_queue<> waits;
    std::uint64_t version = 0;
    bool closed = false;
    const char* const name;

 protected:
    ~watch_core();
};

struct RONDO_API changed_wait : wait_op {
    changed_wait(watch_core& watched, std::uint64_t& version) noexcept : wait_op(table), of(&watched), seen(&version) {}
    static constexpr std::int32_t has_changed = 1;
    bool start() noexcept {
        if (*seen != of->version) return result = has_changed, false;
        if (of->closed) return false;
        of->waits.push(*this);
        return true;
    }
    void give_back() noexcept {}  // it is still unseen
    /// Whether there was a change; it is seen now. Also if another task with the same reader was faster to see it.
    bool see() const {
        if (result < 0) [[unlikely]]
            throw_failure(result, "changed");
        return take(*seen, of->version) != of->version || result == has_changed;
    }
    watch_core* of;
    std::uint64_t* seen;
    static const op_vtable table;
};

template <class T>
class changed_awaiter : public changed_wait, public awaits<changed_awaiter<T>> {
 public:
    changed_awaiter(watch_core& watched, std::uint64_t& version, const T& value) noexcept
        : changed_wait(watched, version), value_(&value) {}
    const T* await_resume() const { return see() ? value_ : nullptr; }
    rondo::result<const T*> finish() const { return await_resume(); }

 private:
    const T* value_;
};

}  // namespace detail

/// The writing side. It must outlive its readers.
template <class T>
class watch : detail::watch_core {
 public:
    /// `name` is for reports and must outlive it (a literal).
    explicit watch(T initial, const char* name = "") : watch_core(name), value_(std::move(initial)) {}

    /// Wakes all who wait for a change. False: it is closed, and the value stays as it was. O(waits).
    bool set(T value) {
        if (closed) return false;
        value_ = std::move(value);
        touch();
        return true;
    }
    /// Changes the value in its place; f(T&) tells whether that was a change, by a bool. Gives the same; false, and
    /// f is not called, when it is closed.
    template <class F>
    bool update(F&& f) {
        if (closed || !f(value_)) return false;
        touch();
        return true;
    }
    const T& get() const noexcept { return value_; }
    /// How often it has changed.
    std::uint64_t version() const noexcept { return watch_core::version; }
    const char* name() const noexcept { return watch_core::name; }

    /// It will not change any more: who waits learns so.
    void close() noexcept {
        closed = true;
        wake_all(0);
    }
    /// A reader that has seen the present value.
    [[nodiscard]] watch_reader<T> reader() noexcept { return watch_reader<T>(*this); }

 private:
    friend watch_reader<T>;
    void touch() noexcept {
        ++watch_core::version;
        wake_all(detail::changed_wait::has_changed);
    }
    T value_;
};

/// One who watches, and the version that it has seen. Copies watch on their own.
template <class T>
class watch_reader {
 public:
    explicit watch_reader(watch<T>& of) noexcept : of_(&of), seen_(of.version()) {}

    /// Waits until there is a version that this reader has not seen, and counts it as seen. Gives the value it
    /// has then, valid until it is set again; null if there will be no other. The reader must stay where it is.
    /// Cancel: nothing is lost; the change is still unseen.
    [[nodiscard]] detail::changed_awaiter<T> changed() noexcept { return {*of_, seen_, of_->value_}; }
    /// Whether changed() would not wait for a change: there is a version that this reader has not seen.
    bool has_changed() const noexcept { return seen_ != of_->version(); }
    /// The latest value, seen or not; valid until it is set again.
    const T& get() const noexcept { return of_->get(); }

 private:
    watch<T>* of_;
    std::uint64_t seen_;
};

}  // namespace rondo
