#include <rondo/run.hpp>

#include "places.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <typeinfo>

namespace rondo::detail {

// --- where an error came from ------------------------------------------------------------------------

namespace {

/// The awaits through which the latest exception of this thread left its coroutines.
struct unwinding {
    static constexpr std::size_t most = 32;

    const void* exception = nullptr;  // who it is; only compared
    std::size_t count = 0;
    std::source_location sites[most];
};

thread_local unwinding latest;

const void* identity(const std::exception_ptr& error) noexcept {
    const void* object;
    static_assert(sizeof error == sizeof object);
    std::memcpy(&object, &error, sizeof object);
    return object;
}

}  // namespace

void note_unwinding(promise_base& p) noexcept {
    const void* thrown = identity(std::current_exception());
    if (latest.exception != thrown || p.owner == nullptr || p.owner->leaf == nullptr) latest.count = 0;
    latest.exception = thrown;
    if (latest.count < unwinding::most) latest.sites[latest.count++] = p.site;
}

void miscompiled_frame() noexcept {
    // The frame is not where it should be, so nothing in it can be trusted, not even its place.
    assertion_failed(
        "GCC 12 miscompiled this coroutine: it awaits inside a condition (if, while, for, switch, do). "
        "Await into a named variable first; see docs/compilers.md",
        nullptr, {});
}

void task_never_awaited(std::source_location made) noexcept {
    if (std::uncaught_exceptions() != 0) return;  // an error came before its turn
    assertion_failed("a task was made but never awaited: its body did not run", nullptr, made);
}

// --- reports -----------------------------------------------------------------------------------------

namespace {

// "void ns::f(f(int)::_ZN2ns1fEi.Frame*)" (GCC), "task ns::f(int)" (clang): the name in it.
std::string function_of(const std::source_location& place) {
    std::string name = place.function_name();
    if (const auto open = name.find('('); open != std::string::npos) name.resize(open);
    if (const auto space = name.rfind(' '); space != std::string::npos) name.erase(0, space + 1);
    return name;
}

void print_place(const char* lead, const std::source_location& place) {
    if (place.line() == 0) return;
    std::fprintf(stderr, "  %s %s:%u  %s\n", lead, place.file_name(), static_cast<unsigned>(place.line()),
                 function_of(place).c_str());
}

std::string written_message(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const io_error& e) {
        return std::string(e.operation()) + (e.subject().empty() ? "" : " ") + e.subject() + ": " +
               e.code().message() + " (errno " + std::to_string(e.code().value()) + ")";
    } catch (const std::system_error& e) {
        return std::string(e.what()) + " (" + e.code().category().name() + " " +
               std::to_string(e.code().value()) + ")";
    } catch (const std::exception& e) {
        int status = 0;
        char* name = abi::__cxa_demangle(typeid(e).name(), nullptr, nullptr, &status);
        std::string text = std::string(status == 0 ? name : typeid(e).name()) + ": " + e.what();
        std::free(name);
        return text;
    } catch (const cancelled&) {
        return "the main task was cancelled";
    } catch (...) {
        return "an exception that is not a std::exception";
    }
}

}  // namespace

std::string message_of(const std::exception_ptr& error) noexcept {
    try {
        return written_message(error);
    } catch (const std::bad_alloc&) {
        return "out of memory";  // short enough to need none
    }
}

void report_escaped(const std::exception_ptr& error) noexcept {
    std::fprintf(stderr, "rondo: %s\n", message_of(error).c_str());
    if (latest.exception != identity(error)) return;
    for (std::size_t i = 0; i < latest.count; ++i)
        print_place(i == 0 ? "awaiting at" : "awaited at ", latest.sites[i]);
}

// --- run -----------------------------------------------------------------------------------------------

namespace {

std::string deadlock_report(const loop& l) {
    std::string text = "deadlock: nothing is left that could wake these tasks";
    l.for_each_task([&](const fiber& f) {
        char waits[160] = "nothing";
        if (f.waiting != nullptr) f.waiting->vt->describe(*f.waiting, waits, sizeof waits);
        text += "\n  task " + std::to_string(f.id) + " waits for " + waits + at_place(shown_place(f));
    });
    return text;
}

}  // namespace

void run_to_end(loop& l, fiber& main) {
    const bool ended = l.run_until(
        [](void* f) { return (static_cast<fiber*>(f)->flags & fiber::ended) != 0; }, &main);
    std::string report;
    const bool stopped = !ended && l.stopped();
    const bool stuck = !ended && !stopped;
    if (stuck) report = deadlock_report(l);
    l.drain_root();
    if (stuck) throw deadlock_error(report);
    // Unless it made something of its cancellation.
    if (stopped && !(main.flags & (fiber::has_value | fiber::has_error)))
        throw io_error(errno_code(ECANCELED), "run", "was ended by loop::stop()");
}

}  // namespace rondo::detail
