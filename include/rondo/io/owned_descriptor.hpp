// A descriptor of any kind that somebody owns, as those that come with a message of a Unix socket.
#pragma once

#include <rondo/loop/backend.hpp>

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

namespace rondo {

namespace detail {
struct descriptor_places;
}  // namespace detail

/// A file, a pipe, a socket ... : closed when this goes, on whatever thread. Move-only. release() it to what knows its
/// kind: tcp_listener::from_fd(one.release()).
class RONDO_API owned_descriptor : private raw_descriptor {
 public:
    owned_descriptor() noexcept = default;
    /// Owns `fd` from now on.
    explicit owned_descriptor(int descriptor) noexcept;
    owned_descriptor(owned_descriptor&& other) noexcept : raw_descriptor(std::exchange(other.raw(), {})) {}
    owned_descriptor& operator=(owned_descriptor&& other) noexcept {
        if (this == &other) return *this;
        reset();
        raw() = std::exchange(other.raw(), {});
        return *this;
    }
    ~owned_descriptor() { reset(); }

    /// Whether there is one.
    bool is_open() const noexcept { return fd >= 0; }
    explicit operator bool() const noexcept { return is_open(); }
    /// The descriptor, still owned; -1 if there is none.
    int native_handle() const noexcept { return fd; }
    /// It is the caller's from now on.
    [[nodiscard]] int release() noexcept { return std::exchange(fd, -1); }
    /// Closes it, without waiting.
    void reset() noexcept {
        if (is_open()) close();
    }

 private:
    friend struct detail::descriptor_places;
    void close() noexcept;
    raw_descriptor& raw() noexcept { return *this; }
};

namespace detail {

/// The places of a receive, as backends fill them.
struct descriptor_places {
    /// Closes what is in there, and says that what will come is the running loop's.
    RONDO_API static raw_descriptor* prepare(std::span<owned_descriptor> places) noexcept;
};

static_assert(sizeof(owned_descriptor) == sizeof(raw_descriptor) && std::is_standard_layout_v<owned_descriptor>,
              "an array of places is handed to the backend as one of raw_descriptors");

}  // namespace detail
}  // namespace rondo
