// The page of timeline.cpp, which page/embed.py makes a source of.
#pragma once

#include <string_view>

namespace rondo::observed {

extern const std::string_view page_before;  // what stands before the data
extern const std::string_view page_after;

}  // namespace rondo::observed
