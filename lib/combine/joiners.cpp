#include <rondo/combine/when.hpp>

#include <rondo/combine/map_concurrent.hpp>

#include <stdexcept>

namespace rondo::detail {

void throw_no_children(const char* who) { throw std::invalid_argument(std::string(who) + " of no children"); }

void throw_too_few(const char* who, std::size_t children, std::size_t wanted) {
    if (children == 0) throw_no_children(who);
    if (children >= wanted) throw_outcome(task_state::cancelled, nullptr);  // they were cancelled, by themselves
    throw std::invalid_argument(std::string(who) + ": " + std::to_string(wanted) + " of " + std::to_string(children) +
                                " children");
}

void throw_quorum_of_none() { throw std::invalid_argument("a quorum of 0"); }

void throw_limit_of_zero() { throw std::invalid_argument("map_concurrent: at most 0 at once"); }

}  // namespace rondo::detail
