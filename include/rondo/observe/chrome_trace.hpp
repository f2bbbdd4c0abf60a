// A recorder as a Chrome trace: JSON that ui.perfetto.dev and chrome://tracing open.
//
// A process for each host. In it, a track with the phases in which something happened and the waits in poll, one
// with the steps, and one with the packets; the life of each task, with its waits, is an asynchronous
// slice of its own. Arrows (flows) go from the step that woke a task to the step that it woke, and from packets
// that leave to where they arrive. Crashes, partitions and marks are instants.
#pragma once

#include <rondo/observe/recorder.hpp>

#include <string>

namespace rondo {

/// JSON in the Trace Event Format, an event on each line. Throws bad_alloc. O(n log n).
[[nodiscard]] RONDO_API std::string chrome_trace(const record& seen);

/// Writes it to a file. Throws io_error as well.
RONDO_API void save_chrome_trace(const record& seen, const std::string& path);

}  // namespace rondo
