// How the await tree is written: as lines for people, and as JSON for programs.
#pragma once

#include <rondo/task/await_tree.hpp>

#include <string>

namespace rondo {

std::string text_of(const await_tree& tree);
std::string json_of(const await_tree& tree);

}  // namespace rondo
