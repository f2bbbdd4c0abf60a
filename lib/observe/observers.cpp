#include <rondo/observe/observers.hpp>

#include <stdexcept>

namespace rondo {

observers::observers(std::initializer_list<observer*> all) {
    if (all.size() > all_.size()) throw std::invalid_argument("rondo::observers: more than eight");
    for (observer* o : all)
        if (o != nullptr) all_[count_++] = o;
}

void observers::on(const loop_event& e) noexcept {
    for (std::size_t i = 0; i < count_; ++i) all_[i]->on(e);
}

bool observers::time_of(std::uint32_t task, task_time& into) const noexcept {
    for (std::size_t i = 0; i < count_; ++i)
        if (all_[i]->time_of(task, into)) return true;
    return false;
}

}  // namespace rondo
