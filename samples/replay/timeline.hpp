// The recorded runs as one HTML page: lanes, queues and the program, step by step. It needs nothing
// but a browser.
#pragma once

#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include "recording.hpp"
#include "scenario.hpp"

namespace replay {

/// Collects runs; page() is the file.
class timeline {
 public:
    /// `javascript` is what print_javascript gave for `s`.
    void add(const scenario& s, std::string_view javascript, const recording& run,
             const std::vector<const label*>& labels, const std::string& error, const char* backend);
    bool empty() const noexcept { return runs_.empty(); }
    void write(std::ostream& out) const;

 private:
    std::vector<std::string> runs_;  // JSON
};

// The page around its data: made of page/ by page/embed.py.
extern const std::string_view page_before, page_after;

}  // namespace replay
