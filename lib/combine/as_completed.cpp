#include <rondo/combine/as_completed.hpp>

#include <rondo/base/log.hpp>

#include <cerrno>
#include <cstdio>

namespace rondo::detail {

completion_scope::completion_scope(const called_from& here) noexcept : group(running(), &ended, "as_completed") {
    open(*here.task, ~std::size_t{0});
    hear_of_successes(true);
}

void completion_scope::ended(detail::scope& base, fiber& f) noexcept {
    auto& self = static_cast<completion_scope&>(of_core(base));
    f.kept = 1;
    if (self.waiting_ == nullptr) return self.ended_.push_back(f);
    next_op& next = *std::exchange(self.waiting_, nullptr);
    next.got_ = &f;
    current->complete(next, 0);
}

fiber& completion_scope::take_oldest() noexcept { return ended_.pop_front(); }

void completion_scope::end() noexcept {
    close();
    while (!ended_.empty()) {
        fiber& f = take_oldest();
        if (f.flags & fiber::has_error) {
            static log_gate gate;
            write_log(gate, log_level::error, f.place, "task %u failed, and as_completed was over: %s",
                      static_cast<unsigned>(f.id), traced_message_of(f.vt->error(f), f.place).c_str());
        }
        f.vt->free(f);
    }
}

const op_vtable next_op::table = {
    [](op& o) noexcept {
        static_cast<next_op&>(o).scope_.waiting_ = nullptr;
        current->complete(o, -ECANCELED);
    },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept {
        std::snprintf(text, size, "the next of %zu tasks", static_cast<const next_op&>(o).scope_.size());
    },
};

next_op::next_op(completion_scope& scope) noexcept : op(table), scope_(scope) {}

bool next_op::start() noexcept {
    RONDO_ASSERT(scope_.waiting_ == nullptr, "two tasks await the next of one as_completed");
    if (!scope_.ended_.empty()) {
        got_ = &scope_.take_oldest();
    } else if (!scope_.empty()) {
        state = armed;
        scope_.waiting_ = this;
        return true;
    }
    return false;
}

fiber* next_op::finish_wait() const {
    if (result < 0) throw_failure(result, "as_completed");
    if (got_ != nullptr) got_->kept = 0;
    return got_;
}

}  // namespace rondo::detail
