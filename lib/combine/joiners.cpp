#include <rondo/combine/joiners.hpp>

#include <stdexcept>
#include <string>

namespace rondo {
namespace detail {

void throw_no_children(const char* who) { throw std::invalid_argument(std::string(who) + " of no children"); }

void throw_too_few(const char* who, std::size_t children, std::size_t wanted) {
    if (children == 0) throw_no_children(who);
    if (children >= wanted) throw_outcome(task_state::cancelled, nullptr);  // they were cancelled, by themselves
    throw std::invalid_argument(std::string(who) + ": " + std::to_string(wanted) + " of " + std::to_string(children) +
                                " children");
}

void throw_quorum_of_none() { throw std::invalid_argument("a quorum of 0"); }

}  // namespace detail

namespace joiners {

wait_for_all::wait_for_all() noexcept = default;
wait_for_all::wait_for_all(wait_for_all&&) noexcept = default;
wait_for_all::~wait_for_all() = default;

bool wait_for_all::on_complete(ended_child& child) {
    if (child.failed()) errors_.push_back(child.error());
    return false;
}

std::vector<std::exception_ptr> wait_for_all::result() noexcept { return std::move(errors_); }

}  // namespace joiners
}  // namespace rondo
