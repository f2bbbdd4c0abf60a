// What a supervisor does. Its tasks: the manager, which alone starts, stops and restarts children and is
// itself in their scope, behind a shield; and a listener outside of the shield, which a cancel reaches and
// which then ends the manager's work. So a cancel from outside stops the children in order, too.
#include <rondo/actor/supervisor.hpp>

#include <rondo/task/attempt.hpp>
#include <rondo/base/log.hpp>
#include <rondo/loop/detail/extras.hpp>

#include "base/readable.hpp"
#include "loop/places.hpp"
#include "loop/random_fraction.hpp"

#include <algorithm>
#include <cstdio>

namespace rondo {

using detail::child_record;
using detail::fiber;
using detail::slot_wait;

supervisor_gave_up::supervisor_gave_up(const std::string& what, std::exception_ptr cause)
    : std::runtime_error(what), cause_(std::move(cause)) {}
supervisor_gave_up::supervisor_gave_up(const supervisor_gave_up&) = default;
supervisor_gave_up::~supervisor_gave_up() = default;

// --- the two tasks -------------------------------------------------------------------------------------

supervisor::supervisor(detail::scheduler& l, const supervisor_options& options) noexcept
    : supervisor_core(l, &task_ended), options_(options) {}

void supervisor::begin() {
    const std::source_location place = detail::calling_place();  // who calls with_supervisor
    fiber& listener = detail::make_child(core(), place, &supervisor::listen_for_cancel, this);
    to_background(listener);
    fiber& manager = detail::make_child(core(), place, &supervisor::manage, this);
    to_background(manager);
    manager_ = &manager;
    detail::extras_of(manager).name = title();
}

void supervisor::task_ended(detail::scope& base, fiber& f) noexcept {
    auto& self = static_cast<supervisor&>(of_core(base));
    self.child_ended(f);
    if (f.flags & fiber::has_error) {
        self.gave_up_ = f.vt->error(f);
        f.flags |= fiber::taken;
    }
    // Here and not in the two tasks themselves: one that is cancelled before its first step never runs.
    self.ending_ = true;
    if (&f == self.manager_) {
        self.refuse_commands();
    } else if (self.work_ != nullptr) {
        self.work_->cancel("the supervisor ends");
    }
    self.cancel();
}

std::exception_ptr supervisor::take_errors(std::exception_ptr body_error) noexcept {
    if (!gave_up_) return body_error;
    if (!body_error || detail::is_cancellation(body_error)) return gave_up_;
    try {
        return std::make_exception_ptr(exception_group({body_error, gave_up_}));
    } catch (...) {
        return body_error;
    }
}

std::string supervisor::title() const {
    return options_.name[0] != '\0' ? std::string("supervisor ") + options_.name : "supervisor";
}

task<> supervisor::listen_for_cancel() {
    op* never_woken = nullptr;
    co_await slot_wait(never_woken, "a cancel of the supervisor");
}

task<> supervisor::manage() {
    fiber& self = co_await detail::this_fiber{};
    children_.enter(self);
    const auto work = [this](cancel_scope& until_the_end) {
        work_ = &until_the_end;
        if (ending_) until_the_end.cancel();
        return supervise();
    };
    std::exception_ptr failed;
    try {
        co_await with_cancel_scope(work);
    } catch (...) {
        failed = std::current_exception();
    }
    work_ = nullptr;
    ending_ = true;
    try {
        co_await stop_all();
    } catch (const std::bad_alloc&) {
        children_.cancel();  // no memory to be patient with one after the other
    }
    co_await detail::empty_awaiter(children_);
    while (!all_.empty()) {
        child& last = all_.back();
        end_for_good(last);
        forget(last);
    }
    children_.leave();
    if (failed) std::rethrow_exception(failed);
}

/// Until there is nothing to supervise any more. Throws supervisor_gave_up.
task<> supervisor::supervise() {
    for (;;) {
        if (!ended_.empty()) {
            child& c = ended_.pop();
            c.noted = false;
            const child_handle kept(c);
            c.release();
            if (c.body != nullptr || (c.state != child_state::starting && c.state != child_state::running)) continue;
            co_await look_after(c);
            if (c.state == child_state::ended && is_over_after(c)) co_return;
        } else if (!commands_.empty()) {
            command_ = &commands_.pop_front();
            co_await carry_out(*command_);
            if (command_ != nullptr) detail::current->complete(*std::exchange(command_, nullptr), 0);
        } else if (child* const c = first_due(); c != nullptr && c->due <= now()) {
            co_await start_again(*c);
        } else {
            struct local {
                static task<> news(op*& slot) { co_await slot_wait(slot, "news of the children"); }
            };
            const time_point due = c != nullptr ? c->due : never;
            co_await move_on_at(due, local::news, news_);
        }
    }
}

// --- starting ------------------------------------------------------------------------------------------

namespace {
/// bad_alloc without memory.
std::exception_ptr command_error(int error, const char* what, const detail::child_record& c,
                                 const char* state) noexcept {
    try {
        return std::make_exception_ptr(io_error(errno_code(error), what, std::string(c.shown_name()) + state));
    } catch (...) {
        return std::current_exception();
    }
}
std::exception_ptr empty_handle_error() noexcept {
    try {
        return std::make_exception_ptr(io_error(errno_code(ESRCH), "restart a child", "of an empty handle"));
    } catch (...) {
        return std::current_exception();
    }
}
bool is_down(const detail::child_record& c) noexcept {
    return c.state == child_state::terminated || c.state == child_state::ended || c.state == child_state::removed;
}
}  // namespace

task<> supervisor::carry_out(detail::command_wait& command) {
    using act = detail::command_wait::act;
    child& c = *command.child;
    const child_handle kept(c);
    const act what = command.what;  // who wants it may be gone when it is done
    if (what == act::start) {
        co_await add(command);
    } else if (what == act::restart) {
        co_await restart_by_hand(c);
    } else if (c.linked()) {  // it is not forgotten
        if (what != act::forget) co_await terminate(c);
        if (what == act::terminate && c.options.restart != restart::temporary) co_return;
        if (!is_down(c)) {
            fail_command(command_error(EBUSY, "delete a child", c, ", which is not terminated"));
        } else {
            end_for_good(c);
            forget(c);
        }
    }
}

void supervisor::fail_command(std::exception_ptr error) noexcept {
    if (command_ != nullptr) command_->error = std::move(error);
}

task<> supervisor::terminate(child& c) {
    if (is_down(c)) co_return;
    const time_point due = c.due;
    co_await stop(c);
    static_cast<void>(c.ask_to_stop());  // an actor that waits to be restarted has not heard it
    set_state(c, child_state::terminated);
    if (due == never || options_.how == strategy::one_for_one) co_return;
    // Those that were to be restarted with it still are: any of them stands for all. They are mostly behind it.
    child* next = all_.after(c);
    while (next != nullptr && next->state != child_state::waiting_to_restart) next = all_.after(*next);
    if (next == nullptr)
        for (next = &all_.front(); next != nullptr && next->state != child_state::waiting_to_restart;)
            next = all_.after(*next);
    if (next != nullptr && next->due == never) set_due(*next, due);
}

task<> supervisor::restart_by_hand(child& c) {
    const char* const what = "restart a child";
    if (!c.linked() || (c.state == child_state::ended && !c.revive())) {
        fail_command(command_error(ESRCH, what, c, ", which has ended for good"));
        co_return;
    }
    if (!is_down(c)) {
        fail_command(command_error(EBUSY, what, c, ", which is not terminated"));
        co_return;
    }
    const child_state before = c.state;
    c.is_over = false;
    ++c.restarts;
    co_await launch(c);
    if (c.body != nullptr || c.is_ready) co_return;
    set_state(c, before);
    c.is_over = before == child_state::ended;
    fail_command(c.exit.error ? c.exit.error : command_error(ECANCELED, what, c, ", which ended before it was ready"));
}

task<> supervisor::add(detail::command_wait& command) {
    child& c = *command.child;
    RONDO_ASSERT(!c.linked(), "what start() of a supervisor gives is awaited once");
    try {
        make_room();
    } catch (const std::bad_alloc&) {
        fail_command(std::current_exception());
        co_return;
    }
    c.share();
    c.number = started_count_++;
    all_.push_back(c);
    ++child_count_;
    significant_up_ += c.options.significant;
    co_await launch(c);
    if (c.body != nullptr || c.is_ready) co_return;
    const child_handle kept(c);
    set_state(c, child_state::ended);
    if (command_ != nullptr) {
        command_->error = c.exit.error;
        if (!c.exit.error)
            command_->error = command_error(ECANCELED, "start a child", c, ", which ended before it was ready");
    }
    end_for_good(c);
    forget(c);
}

/// Returns when the child is ready, or is over without having been.
task<> supervisor::launch(child& c) {
    set_due(c, never);
    c.started = now();
    c.is_ready = !c.announces;
    c.asked_to_stop = false;
    set_state(c, child_state::starting);
    try {
        c.body = &c.spawn(children_);
        if (!c.name.empty()) detail::extras_of(*c.body).name = c.name;
    } catch (const std::bad_alloc&) {
        if (c.body == nullptr) c.exit = {actor_exit::kind::failed, std::current_exception()};
    }
    while (c.body != nullptr && !c.is_ready) co_await slot_wait(c.waiter, "the ready() of", c.shown_name());
    if (c.body != nullptr) set_state(c, child_state::running);
}

/// One whose restart is due; with it, all that were stopped because of it.
task<> supervisor::start_again(child& c) {
    std::vector<child*> in_order;
    if (options_.how == strategy::one_for_one) {
        in_order.push_back(&c);
    } else {
        all_.for_each([&](child& each) {
            if (each.state == child_state::waiting_to_restart) in_order.push_back(&each);
        });
    }
    for (child* each : in_order) {
        ++each->restarts;
        co_await launch(*each);
        if (each->body != nullptr) continue;
        note_end(*each);  // it counts as one more failure; the others wait
        co_return;
    }
}

// --- ends ----------------------------------------------------------------------------------------------

/// A child has ended by itself.
task<> supervisor::look_after(child& c) {
    const bool failed = c.exit.how == actor_exit::kind::failed;
    const decision d = failed && c.options.decide ? c.options.decide(c.exit.error) : decision::restart;
    if (d == decision::escalate) give_up(c, "its error was to be escalated");
    const bool again = c.options.restart == restart::permanent ||
                       (c.options.restart == restart::transient && c.exit.how != actor_exit::kind::normal);
    if (d == decision::stop || !again) {
        end_for_good(c);
        set_state(c, child_state::ended);
        if (c.options.restart == restart::temporary) forget(c);
        co_return;
    }
    note_restart(c);
    co_await stop_others(c);
}

/// Counts it, gives up if it is one too many, and says when it will be.
void supervisor::note_restart(child& c) {
    const time_point at = now();
    while (oldest_restart_ != restarts_.size() && delay(options_.period).after(restarts_[oldest_restart_]) < at)
        ++oldest_restart_;
    if (oldest_restart_ > restarts_.size() / 2) {  // what has gone is taken out now and then: O(1) for each
        restarts_.erase(restarts_.begin(), restarts_.begin() + static_cast<std::ptrdiff_t>(oldest_restart_));
        oldest_restart_ = 0;
    }
    if (restarts_.size() - oldest_restart_ >= options_.intensity) give_up(c, nullptr);
    restarts_.push_back(at);
    set_state(c, child_state::waiting_to_restart);
    if (at - c.started >= c.options.backoff_max) c.failures = 0;
    double wait = static_cast<double>(c.options.backoff_min.count());
    const double most = static_cast<double>(std::max(c.options.backoff_min, c.options.backoff_max).count());
    for (std::uint32_t i = 0; i < c.failures && wait > 0 && wait < most; ++i) wait *= 2;
    wait = std::min(wait, most);
    ++c.failures;
    if (c.options.jitter > 0 && wait > 0) wait += wait * c.options.jitter * detail::random_fraction();
    const delay pause = std::chrono::duration<double, std::nano>(wait);
    set_due(c, pause.after(at));
    tell_of_restart(c, pause.value());
}

void supervisor::tell_of_restart(const child& c, duration pause) const noexcept {
    const auto count = static_cast<std::uint32_t>(restarts_.size() - oldest_restart_);
    if (options_.on_restart) {
        options_.on_restart(
            {options_.name, c.name, c.options.place, c.exit.error, pause, count, options_.intensity, options_.period});
        return;
    }
    char when[48] = "at once";
    if (pause > duration::zero()) std::snprintf(when, sizeof when, "in %s", detail::readable_duration(pause).text);
    const char* const how = c.exit.error                                ? "failed: "
                            : c.exit.how == actor_exit::kind::cancelled ? "was cancelled"
                                                                        : "has ended";
    static detail::log_gate gate;
    detail::write_log(
        gate, log_level::warning, c.options.place, "supervisor%s%s: restarts %s %s, %u of %u within %s, since it %s%s",
        options_.name[0] != '\0' ? " " : "", options_.name, c.shown_name(), when, static_cast<unsigned>(count),
        static_cast<unsigned>(options_.intensity), detail::readable_duration(options_.period).text, how,
        c.exit.error ? detail::message_of(c.exit.error).c_str() : "");
}

namespace {

/// What an error says, without its middle if that is long: of a supervisor in a supervisor, the beginning tells the
/// outermost, and the end the error that all began with.
std::string short_message_of(const std::exception_ptr& error) {
    constexpr std::size_t at_the_ends = 200;
    std::string text = detail::message_of(error);
    if (text.size() <= 2 * at_the_ends + 5) return text;
    const auto begins_character = [&](std::size_t i) { return (static_cast<unsigned char>(text[i]) & 0xc0) != 0x80; };
    std::size_t head = at_the_ends;
    while (head > 0 && !begins_character(head)) --head;
    std::size_t tail = text.size() - at_the_ends;
    while (tail < text.size() && !begins_character(tail)) ++tail;
    return text.replace(head, tail - head, " ... ");
}

}  // namespace

/// `why` is null when the limit is reached.
void supervisor::give_up(const child& c, const char* why) const {
    std::string text = title() + " gave up on " + c.shown_name() + ": ";
    if (why != nullptr) {
        text += why;
    } else {
        text += "more than " + std::to_string(options_.intensity) +
                (options_.intensity == 1 ? " restart within " : " restarts within ") +
                detail::readable_duration(options_.period).text;
    }
    if (c.exit.error) text += "; the last error: " + short_message_of(c.exit.error);
    throw supervisor_gave_up(text, c.exit.error);
}

task<> supervisor::stop_others(child& failed) {
    if (options_.how == strategy::one_for_one) co_return;
    std::vector<child*> in_order;
    bool behind = options_.how == strategy::one_for_all;
    all_.for_each([&](child& each) {
        if (&each == &failed) {
            behind = true;
        } else if (behind && each.state != child_state::ended) {
            in_order.push_back(&each);
        }
    });
    for (auto it = in_order.rbegin(); it != in_order.rend(); ++it) {
        child& c = **it;
        co_await stop(c);
        if (c.options.restart == restart::temporary) {
            end_for_good(c);
            forget(c);
        } else {
            set_due(c, never);  // with the one that failed
            set_state(c, child_state::waiting_to_restart);
        }
    }
}

task<> supervisor::stop(child& c) {
    struct local {
        static task<> over(child& of) {
            while (of.body != nullptr) co_await slot_wait(of.waiter, "the end of", of.shown_name());
        }
    };
    set_due(c, never);
    if (c.body == nullptr) co_return;
    set_state(c, child_state::stopping);
    const delay patience = c.options.shutdown;
    if (patience.value() > duration::zero() && c.ask_to_stop()) co_await move_on_after(patience, local::over, c);
    if (c.body != nullptr) detail::cancel_fiber(*c.body);
    co_await local::over(c);
}

task<> supervisor::stop_all() {
    while (!all_.empty()) {
        child& last = all_.back();
        const child_handle kept(last);
        co_await stop(last);
        end_for_good(last);
        forget(last);
    }
}

void supervisor::end_for_good(child& c) noexcept {
    if (!c.is_over) c.end_for_good();
    c.is_over = true;
}

void supervisor::forget(child& c) noexcept {
    set_due(c, never);
    if (c.state != child_state::ended) set_state(c, child_state::removed);
    c.unlink();
    --child_count_;
    c.release();
}

/// Whether the supervisor ends itself, now that `c` has ended by itself and for good.
bool supervisor::is_over_after(const child& c) const noexcept {
    if (!c.options.significant || options_.shutdown == auto_shutdown::off) return false;
    if (options_.shutdown == auto_shutdown::any_significant) return true;
    return significant_up_ == 0;
}

void supervisor::set_state(child& c, child_state state) noexcept {
    const bool was_up = !is_down(c);
    c.state = state;
    if (c.options.significant) {
        significant_up_ -= was_up;
        significant_up_ += !is_down(c);
    }
}

// --- whose restart is due next: a binary heap, of equals the one that was started first ------------------

/// Throws bad_alloc. Whatever is due later needs no memory.
void supervisor::make_room() {
    if (due_.capacity() <= child_count_) due_.reserve(std::max(std::size_t{8}, child_count_ * 2));
}

void supervisor::set_due(child& c, time_point due) noexcept {
    if (c.due != never) {
        child& last = *due_.back();
        due_.pop_back();
        if (&last != &c) place_due(last, c.due_place);
    }
    c.due = due;
    if (due == never) return;
    due_.push_back(nullptr);
    place_due(c, due_.size() - 1);
}

/// Puts `c` where there is a hole, or whence it leads up or down.
void supervisor::place_due(child& c, std::size_t at) noexcept {
    const auto before = [](const child& a, const child& b) {
        return a.due != b.due ? a.due < b.due : a.number < b.number;
    };
    const auto put = [this](child& which, std::size_t where) {
        due_[where] = &which;
        which.due_place = where;
    };
    while (at > 0 && before(c, *due_[(at - 1) / 2])) {
        put(*due_[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    for (std::size_t next; (next = at * 2 + 1) < due_.size(); at = next) {
        if (next + 1 < due_.size() && before(*due_[next + 1], *due_[next])) ++next;
        if (!before(*due_[next], c)) break;
        put(*due_[next], at);
    }
    put(c, at);
}

std::vector<child_info> supervisor::which_children() const {
    std::vector<child_info> found;
    all_.for_each([&](const child& c) { found.push_back({c.name, c.state, c.restarts}); });
    return found;
}

// --- children ------------------------------------------------------------------------------------------

void supervised::ready() noexcept {
    child_record& c = record();
    c.is_ready = true;
    detail::wake_slot(c.waiter);
}

bool supervised::stopping() const noexcept { return static_cast<const child_record*>(this)->asked_to_stop; }

task<> supervised::stop_asked() {
    while (!stopping()) co_await slot_wait(record().stop_waiter, "being asked to stop");
}

detail::child_record& supervised::record() noexcept { return static_cast<child_record&>(*this); }

namespace detail {

child_record::child_record(const child_options& o) : actor_keeper{&resumes_after}, name(o.name), options(o) {
    RONDO_ASSERT(!o.significant || o.restart != restart::permanent, "a permanent child cannot be significant");
    options.name = name;
}
bool child_record::resumes_after(const actor_keeper& self, const std::exception_ptr& error) noexcept {
    const auto& decide = static_cast<const child_record&>(self).options.decide;
    return decide && decide(error) == decision::resume;
}
child_record::~child_record() {
    RONDO_ASSERT(stop_waiter == nullptr, "a supervised child is gone while a task waits until it is asked to stop");
}

void child_record::release() noexcept {
    if (--shares == 0) delete this;
}

void child_record::over(const actor_exit& how) noexcept {
    exit = how;
    body = nullptr;
    body_ended();
    if (waiter != nullptr) return wake_slot(waiter);
    of->note_end(*this);
}

supervisor_core::supervisor_core(scheduler& l, ended_hook hook) noexcept
    : group(l, hook, "supervisor"), children_(l, [](rondo::detail::scope&, fiber&) noexcept {}, "children") {
    children_.shield(true);
}

supervisor_core::~supervisor_core() {
    while (!ended_.empty()) ended_.pop().release();
    RONDO_ASSERT(commands_.empty(), "a supervisor was destroyed while a task waits for it");
}

void supervisor_core::refuse_commands() noexcept {
    if (command_ != nullptr) std::exchange(command_, nullptr)->refuse();
    while (!commands_.empty()) commands_.pop_front().refuse();
}

void supervisor_core::note_end(child_record& c) noexcept {
    if (c.noted) return;
    c.noted = true;
    c.share();
    ended_.push(c);
    wake_slot(news_);
}

// --- waits ---------------------------------------------------------------------------------------------

const op_vtable slot_wait::table = {
    [](op& o) noexcept {
        *static_cast<slot_wait&>(o).slot = nullptr;
        current->complete(o, -ECANCELED);
    },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept {
        const auto& w = static_cast<const slot_wait&>(o);
        std::snprintf(text, size, "%s%s%s", w.what, *w.of != '\0' ? " " : "", w.of);
    },
};

const op_vtable command_wait::table = {
    [](op& o) noexcept {
        auto& w = static_cast<command_wait&>(o);
        if (w.linked()) {
            w.unlink();
        } else {
            w.of->command_ = nullptr;
        }
        current->complete(o, -ECANCELED);
    },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept {
        const auto& w = static_cast<const command_wait&>(o);
        static constexpr const char* words[] = {"start", "termination", "restart", "deletion", "removal"};
        std::snprintf(text, size, "the %s of %s", words[static_cast<std::size_t>(w.what)], w.child->shown_name());
    },
};

namespace {
std::exception_ptr stopping_error(const child_record& c) noexcept {
    return command_error(ECANCELED, "start a child", c, "");
}
}  // namespace

command_wait::command_wait(supervisor_core& s, child_record* c, act a) noexcept
    : wait_op(table), of(&s), child(c), what(a) {
    if (child != nullptr) child->share();
}
command_wait::command_wait(command_wait&& other) noexcept
    : wait_op(table), of(other.of), child(std::exchange(other.child, nullptr)), what(other.what) {}
command_wait::~command_wait() {
    if (child != nullptr) child->release();
}

bool command_wait::start() noexcept {
    if (child == nullptr) {
        if (what == act::restart) error = empty_handle_error();
        return false;
    }
    if (of->ending_) {
        if (starts_something()) error = stopping_error(*child);
        return false;
    }
    if (what == act::start) {
        child->of = of;
        if (child->options.place.line() == 0) child->options.place = shown_place(*owner);
    }
    RONDO_ASSERT(child->of == of, "a supervisor is asked to do something with the child of another");
    state = armed;
    of->commands_.push_back(*this);
    wake_slot(of->news_);
    return true;
}

void command_wait::refuse() noexcept {
    if (starts_something() && !error) error = stopping_error(*child);
    current->complete(*this, 0);
}

void command_wait::check() const {
    if (result < 0) [[unlikely]]
        throw_failure(result, "supervisor");
    if (!error) return;
    note_joined(error, *owner->leaf);
    std::rethrow_exception(error);
}

rondo::result<void> command_wait::as_result() const {
    if (result < 0) check();
    if (!error) return {};
    failure why = failure_of(error);
    if (!why.code()) check();
    return why;
}

}  // namespace detail
}  // namespace rondo
