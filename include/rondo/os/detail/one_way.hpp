// What streams can do that go one way only: pipes, and what a program was started with.
#pragma once

#include <rondo/io/stream.hpp>

#include <utility>

namespace rondo::detail {

/// A stream that is only read. The verbs are those of descriptor_stream, as it documents them.
class read_end : private descriptor_stream {
 public:
    using descriptor_stream::read_exactly;
    using descriptor_stream::read_some;
    using descriptor_stream::receive;
    using descriptor_stream::try_read_some;

    using descriptor_stream::close;
    using descriptor_stream::is_open;
    using descriptor_stream::native_handle;
    using descriptor_stream::release;
    explicit operator bool() const noexcept { return is_open(); }

 protected:
    using descriptor_stream::check;
    using descriptor_stream::socket;
    using descriptor_stream::subject_of;

    read_end() noexcept = default;
    read_end(socket_handle&& socket, subject_of& subject) noexcept : descriptor_stream(std::move(socket), subject) {}

    /// The object that a subject_of is asked about.
    template <class Derived>
    static const Derived& as(const descriptor_stream& stream) noexcept {
        return static_cast<const Derived&>(static_cast<const read_end&>(stream));
    }
};

/// Likewise, one that is only written.
class write_end : private descriptor_stream {
 public:
    using descriptor_stream::try_write_some;
    using descriptor_stream::write_all;
    using descriptor_stream::write_some;

    using descriptor_stream::close;
    using descriptor_stream::is_open;
    using descriptor_stream::native_handle;
    using descriptor_stream::release;
    explicit operator bool() const noexcept { return is_open(); }

 protected:
    using descriptor_stream::check;
    using descriptor_stream::socket;
    using descriptor_stream::subject_of;

    write_end() noexcept = default;
    write_end(socket_handle&& socket, subject_of& subject) noexcept : descriptor_stream(std::move(socket), subject) {}

    template <class Derived>
    static const Derived& as(const descriptor_stream& stream) noexcept {
        return static_cast<const Derived&>(static_cast<const write_end&>(stream));
    }
};

}  // namespace rondo::detail
