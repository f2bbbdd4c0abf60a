#include <rondo/channel/queue.hpp>

#include <cstdio>
#include <stdexcept>

namespace rondo::detail {

namespace {

using wait = queue_core::wait;

wait& wait_of(op& o) noexcept { return static_cast<wait&>(o); }
const queue_core& queue_of_wait(const op& o) noexcept { return *static_cast<const wait&>(o).of; }

const scheduler* belongs_to(const op& o) noexcept { return queue_of_wait(o).made_on; }

void describe_put(const op& o, char* text, std::size_t size) noexcept {
    const queue_core& q = queue_of_wait(o);
    char title[120];
    q.putters.write_title(title, sizeof title);
    std::snprintf(text, size, "put into %s with %zu of %zu values, %zu putting", title, q.count, q.limit,
                  q.putters.size());
}

void describe_get(const op& o, char* text, std::size_t size) noexcept {
    const queue_core& q = queue_of_wait(o);
    char title[120];
    q.getters.write_title(title, sizeof title);
    std::snprintf(text, size, "get from %s, %zu getting", title, q.getters.size());
}

void describe_join(const op& o, char* text, std::size_t size) noexcept {
    const queue_core& q = queue_of_wait(o);
    char title[120];
    q.joiners.write_title(title, sizeof title);
    std::snprintf(text, size, "join %s, %zu unfinished", title, q.unfinished());
}

}  // namespace

const op_vtable queue_core::wait::putting = {[](op& o) noexcept { wait_of(o).of->putters.cancel(wait_of(o)); },
                                             &wake_owner, &describe_put, &belongs_to};
const op_vtable queue_core::wait::getting = {[](op& o) noexcept { wait_of(o).of->getters.cancel(wait_of(o)); },
                                             &wake_owner, &describe_get, &belongs_to};
const op_vtable queue_core::wait::joining = {[](op& o) noexcept { wait_of(o).of->joiners.cancel(wait_of(o)); },
                                             &wake_owner, &describe_join, &belongs_to};

queue_core::queue_core(const char* kind, std::size_t capacity, const char* name)
    : limit(capacity), putters(kind, name), getters(kind, name), joiners(kind, name), made_on(current) {
    if (capacity == 0)
        throw std::invalid_argument(getters.title() +
                                    ": a capacity of 0; say `unbounded`, or take a channel, which hands over directly");
}

void queue_core::task_done() {
    if (in_hand == 0)
        throw std::logic_error(getters.title() + ": task_done() was called more often than values were got");
    --in_hand;
    if (unfinished() == 0) wake_joiners();
}

void queue_core::end() noexcept {
    ended = true;
    while (!putters.empty()) putters.complete_first(-EPIPE);
    while (!getters.empty()) getters.complete_first();
}

// Values are on their way then, some of them from tasks that wait: there is nobody to throw it to.
void compare_threw() noexcept {
    const std::string text = "the comparison of a priority_queue threw: " + message_of(std::current_exception());
    assertion_failed(text.c_str(), nullptr, {});
}

void queue_core::wait::fail(const char* operation) const {
    if (result == -ECANCELED) throw_failure(result, operation);
    if (result == -ENOMEM) throw std::bad_alloc();
    throw io_error(errno_code(-result), operation, of->getters.title() + ", which is shut down");
}

}  // namespace rondo::detail

namespace rondo {

task_done_guard::~task_done_guard() {
    if (of_ == nullptr) return;
    RONDO_ASSERT(of_->in_hand != 0,
                 "a value of a queue was said to be done by a guard, and before that by task_done()");
    of_->task_done();
}

}  // namespace rondo
