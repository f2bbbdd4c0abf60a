// Pseudo-terminals: what is at one end a terminal, for a program that wants one, is at the other a stream.
//
//     auto [master, terminal] = rondo::pty::make({.window = {.rows = 24, .columns = 80}});
//
// What is written to the master is what somebody would have typed, and what the program prints is read from it. Unless
// it is raw, there is a line discipline in between, which echoes, waits for whole lines, and makes signals of Ctrl-C.
// A simulated world has no terminals: not_simulated.
#pragma once

#include <rondo/base/detail/config.hpp>
#include <rondo/io/stream.hpp>
#include <rondo/loop/backend.hpp>

#include <string>
#include <utility>

namespace rondo {

struct pty;

namespace detail {

/// What both ends can do.
class RONDO_API pty_end : public descriptor_stream {
 public:
    /// Of the terminal; a change sends SIGWINCH to its foreground programs. Throws io_error.
    window_size window() const;
    void window(const window_size& size);
    rondo::result<window_size> try_window() const noexcept;
    rondo::result<void> try_window(const window_size& size) noexcept;

 protected:
    using descriptor_stream::descriptor_stream;
    pty_end() noexcept = default;
};

}  // namespace detail

/// The end of whoever looks after the terminal. Move-only. The stream has ended when nobody has the terminal open; who
/// opens it later can be read, too. It cannot be shut down one way (not_a_socket): Ctrl-D is what ends the input.
class RONDO_API pty_master : public detail::pty_end {
 public:
    pty_master() noexcept = default;

    /// The file of the terminal, as "/dev/pts/3". A child opens it after setsid(2), and it becomes its controlling
    /// terminal. Throws io_error.
    std::string name() const;

 private:
    friend struct pty;
    static std::string name_of(const descriptor_stream&);

    explicit pty_master(detail::socket_handle&& end) noexcept : pty_end(std::move(end), name_of) {}
};

/// The terminal. Move-only. When the master is closed, the stream has ended, and writes fail (io_error).
class RONDO_API pty_terminal : public detail::pty_end {
 public:
    pty_terminal() noexcept = default;

 private:
    friend struct pty;
    static std::string name_of(const descriptor_stream&);

    explicit pty_terminal(detail::socket_handle&& end) noexcept : pty_end(std::move(end), name_of) {}
};

/// How to make a pseudo-terminal.
struct pty_options {
    window_size window;  // of 0 rows and columns: left as it is
    bool raw = false;    // bytes pass as they are, both ways: no echo, no lines, no signals
};

/// A new one: both its ends, for the running loop. It becomes nobody's controlling terminal.
struct RONDO_API pty {
    pty_master master;
    pty_terminal terminal;

    /// Throws io_error: too_many_files_open, no_space_on_device (/proc/sys/kernel/pty/max) ...
    static pty make(const pty_options& options = {});
    static rondo::result<pty> try_make(const pty_options& options = {}) noexcept;
};

}  // namespace rondo
