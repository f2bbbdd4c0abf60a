// Standard input, output and error as streams, whatever they are: a pipe, a terminal, a file, /dev/null, a socket.
//
//     auto in = rondo::standard_input::open();
//     auto out = rondo::standard_output::open();
//
// The descriptors 0, 1 and 2 are shared with the shell and its other children, so nothing about them is changed, and
// nothing has to be put right at the end, however the program ends. A pipe and a terminal are opened once more, by
// /proc/self/fd, so that they can be non-blocking here and blocking there. What cannot be opened so is asked before it
// is read or written: a socket, and what belongs to another user. A file on a disk is always ready, and a slow disk
// holds up the loop.
//
// A stream has a descriptor of its own, which close() closes. 0, 1 and 2 stay open until the program closes them, or
// ends: only then does who reads the standard output see its end. What stdio and iostreams hold in their buffers is
// theirs: flush it first, and do not mix. A simulated world has no standard streams: not_simulated.
#pragma once

#include <rondo/base/detail/config.hpp>
#include <rondo/os/detail/one_way.hpp>

#include <string>
#include <utility>

namespace rondo {

/// Standard input. Move-only. Each open() makes a stream of its own; but bytes that one of them has read are gone for
/// the others.
class RONDO_API standard_input : public detail::read_end {
 public:
    standard_input() noexcept = default;

    /// Throws io_error: bad_file_descriptor if the program was started without, too_many_files_open.
    static standard_input open();
    static rondo::result<standard_input> try_open() noexcept;

 private:
    static std::string name_of(const rondo::descriptor_stream&);

    explicit standard_input(detail::socket_handle&& own) noexcept : read_end(std::move(own), name_of) {}
};

/// Standard output, or standard error. Move-only. A reader that has gone is broken_pipe, and no SIGPIPE; one that does
/// not read makes writes wait.
class RONDO_API standard_output : public detail::write_end {
 public:
    standard_output() noexcept = default;

    /// Standard output. Throws as standard_input::open().
    static standard_output open();
    static rondo::result<standard_output> try_open() noexcept;
    /// Standard error. Reports of the library go past it.
    static standard_output open_error();
    static rondo::result<standard_output> try_open_error() noexcept;

 private:
    static rondo::result<standard_output> open_number(int number) noexcept;
    static std::string name_of(const rondo::descriptor_stream& stream);

    standard_output(detail::socket_handle&& own, bool error) noexcept
        : write_end(std::move(own), name_of), is_error_(error) {}

    bool is_error_ = false;
};

}  // namespace rondo
