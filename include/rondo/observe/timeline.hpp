// A recorder as a page: one self-contained HTML file, for a browser and for a bug report.
//
// Lanes for each host and its tasks, with phases, steps, waits, wake-ups, packets between hosts, and faults;
// zoom, search, and details of what one clicks. It needs no network, and copes with 100,000 events.
#pragma once

#include <rondo/observe/recorder.hpp>

#include <string>

namespace rondo {

/// The page. `title` stands on top of it. Throws bad_alloc. O(n log n).
[[nodiscard]] RONDO_API std::string timeline_page(const record& seen, std::string_view title = "rondo");

/// Writes it to a file. Throws io_error as well.
RONDO_API void save_timeline(const record& seen, const std::string& path, std::string_view title = "rondo");

}  // namespace rondo
