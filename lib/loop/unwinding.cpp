#include <rondo/loop/detail/unwinding.hpp>

#include "base/error_report.hpp"
#include "base/printable.hpp"
#include "base/report.hpp"
#include "base/trace.hpp"

#include <cstdio>
#include <typeinfo>

namespace rondo::detail {

namespace {

/// What of `error` is to be remembered; `cancelled` is on its way to nobody.
error_trace* trace_for(const std::exception_ptr& error) noexcept {
    const std::type_info* const type = error.__cxa_exception_type();
    return type != nullptr && *type != typeid(cancelled) ? begin_trace(error) : nullptr;
}

error_trace::coroutine named(const promise_base& p) noexcept { return {&p, p.owner->id}; }
error_trace::coroutine awaiter_of(const promise_base& p) noexcept { return {p.parent, p.owner->id}; }

void note_end(error_trace& trace, const promise_base& p) noexcept {
    if (p.parent == nullptr) trace.ends_task(p.owner->place);
}

}  // namespace

void note_unwinding(const promise_base& p) noexcept {
    error_trace* const trace = trace_for(std::current_exception());
    if (trace == nullptr) return;
    trace->leaves(named(p), p.site, awaiter_of(p));
    note_end(*trace, p);
}

void note_passed(const std::exception_ptr& error, const promise_base& p) noexcept {
    error_trace* const trace = trace_for(error);
    if (trace == nullptr) return;
    trace->is_passed(p.site, awaiter_of(p));
    note_end(*trace, p);
}

void note_not_started(const std::exception_ptr& error, const fiber& f) noexcept {
    if (error_trace* const trace = trace_for(error)) trace->ends_task(f.place);
}

void note_joined(const std::exception_ptr& error, const promise_base& joiner) noexcept {
    if (error_trace* const trace = trace_of(error)) trace->is_joined_by(named(joiner));
}

std::source_location thrown_at(const std::exception_ptr& error) noexcept {
    const error_trace* const trace = trace_of(error);
    if (trace == nullptr || trace->size() == 0) return {};
    for (std::size_t i = 0; i < trace->size(); ++i) {
        const error_trace::place& p = (*trace)[i];
        if (p.how == error_trace::step::awaited && !is_ours(p.at)) return p.at;
    }
    return (*trace)[0].at;
}

// --- the last words of a program ---------------------------------------------------------------------

namespace {

// Lines are kept, since reports of deadlocks have several; other control characters are not sent to
// the terminal.
struct to_terminal {
    to_terminal& add(std::string_view rest) noexcept {
        while (!rest.empty()) {
            std::size_t size = printable_character(rest);
            if (size == 0 && rest.front() == '\n') size = 1;
            if (size != 0) {
                to.add(rest.substr(0, size));
            } else {
                size = 1;
                char escaped[8];
                std::snprintf(escaped, sizeof escaped, "\\x%02x",
                              static_cast<unsigned>(static_cast<unsigned char>(rest.front())));
                to.add(escaped);
            }
            rest.remove_prefix(size);
        }
        return *this;
    }
    report& to;
};

}  // namespace

void report_escaped(const std::exception_ptr& error) noexcept {
    report text(last_words);
    text.add("rondo: ");
    to_terminal printable{text};
    write_report(printable, error);
    text.add('\n');
}

}  // namespace rondo::detail
