// FIFOs: pipes with a name in the file system, at which processes meet.
//
// To open one never holds up the loop: not for writing, where open(2) waits for somebody who reads, and not for
// reading, where it waits for somebody who writes. A simulated world has none: not_simulated.
#pragma once

#include <rondo/os/pipe.hpp>
#include <rondo/task/task.hpp>

#include <cstdint>
#include <string>

namespace rondo {

/// Makes the file, with this mode less the umask. It stays until somebody removes it. Throws io_error: file_exists,
/// no_such_file_or_directory, permission_denied ...
RONDO_API void make_fifo(const std::string& path, std::uint16_t mode = 0600);
/// Likewise, without a throw.
RONDO_API rondo::result<void> try_make_fifo(const std::string& path, std::uint16_t mode = 0600) noexcept;

/// Opens one for reading, at once. The first read waits until somebody has opened it for writing; the stream has ended
/// when all have closed it again, but who opens it later can be read, too. Throws io_error: no_such_file_or_directory,
/// permission_denied, invalid_argument (it is no FIFO) ...
RONDO_API pipe_reader open_fifo_reader(const std::string& path);
/// Likewise, without a throw.
RONDO_API rondo::result<pipe_reader> try_open_fifo_reader(const std::string& path) noexcept;

/// Waits until somebody has opened it for reading, and opens it for writing. Nothing announces a reader, so it tries
/// now and then: after 1 ms, and then twice as long, up to 64 ms. Throws as open_fifo_reader().
/// Cancel: it has not been opened.
[[nodiscard]] RONDO_API task<pipe_writer> open_fifo_writer(std::string path);
/// Does not wait: no_such_device_or_address if nobody has opened it for reading.
RONDO_API rondo::result<pipe_writer> try_open_fifo_writer(const std::string& path) noexcept;

}  // namespace rondo
