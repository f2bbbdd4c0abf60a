// Pipes: bytes go in at one end and come out at the other.
//
//     auto [reader, writer] = rondo::make_pipe();
//
// Each end is a stream that goes one way: what it can do is in io/stream.hpp. A writer whose reader has gone gets an
// error (broken_pipe), and its process no SIGPIPE, whatever it does with that signal.
#pragma once

#include <rondo/base/detail/config.hpp>
#include <rondo/os/detail/one_way.hpp>

#include <cstddef>
#include <string>
#include <utility>

namespace rondo {

struct pipe_ends;
struct pipe_options;

namespace detail {
struct fifo_opener;
}

/// The end that is read. Move-only. The stream has ended when every writer has closed its end, those in other
/// processes as well.
class RONDO_API pipe_reader : public detail::read_end {
 public:
    pipe_reader() noexcept = default;

    /// Takes an end of a pipe or FIFO over that the program has from elsewhere. Throws io_error that names it, and then
    /// it is the caller's as before: bad_file_descriptor, invalid_argument (no pipe, or not open for reading),
    /// device_or_resource_busy (a task waits for it). It becomes non-blocking, for whoever shares it, too, and
    /// close-on-exec. For standard input, which others share, there is standard_input. not_simulated in a simulated
    /// world.
    static pipe_reader from_fd(int fd);
    static rondo::result<pipe_reader> try_from_fd(int fd) noexcept;

    /// How many bytes the pipe holds at most, in bytes; after that its writers wait. Throws io_error.
    std::size_t capacity() const;
    rondo::result<std::size_t> try_capacity() const noexcept;

 private:
    friend RONDO_API rondo::result<pipe_ends> try_make_pipe(const pipe_options&) noexcept;
    friend struct detail::fifo_opener;
    static std::string name_of(const rondo::descriptor_stream&);

    explicit pipe_reader(detail::socket_handle&& end) noexcept : read_end(std::move(end), name_of) {}
};

/// The end that is written. Move-only.
class RONDO_API pipe_writer : public detail::write_end {
 public:
    pipe_writer() noexcept = default;

    /// As pipe_reader::from_fd().
    static pipe_writer from_fd(int fd);
    static rondo::result<pipe_writer> try_from_fd(int fd) noexcept;

    /// As pipe_reader::capacity().
    std::size_t capacity() const;
    rondo::result<std::size_t> try_capacity() const noexcept;

 private:
    friend RONDO_API rondo::result<pipe_ends> try_make_pipe(const pipe_options&) noexcept;
    friend struct detail::fifo_opener;
    static std::string name_of(const rondo::descriptor_stream&);

    explicit pipe_writer(detail::socket_handle&& end) noexcept : write_end(std::move(end), name_of) {}
};

/// How to make a pipe.
struct pipe_options {
    /// How many bytes it shall hold; Linux rounds up to a power of two of pages. 0: as usual, mostly 64 KiB.
    std::size_t capacity = 0;
};

/// Both ends of one.
struct pipe_ends {
    pipe_reader reader;
    pipe_writer writer;
};

/// A new pipe, for the running loop. Throws io_error: too_many_files_open, operation_not_permitted (more capacity than
/// /proc/sys/fs/pipe-max-size), invalid_argument (more than 2 GiB).
[[nodiscard]] RONDO_API pipe_ends make_pipe(const pipe_options& options = {});
[[nodiscard]] RONDO_API rondo::result<pipe_ends> try_make_pipe(const pipe_options& options = {}) noexcept;

}  // namespace rondo
