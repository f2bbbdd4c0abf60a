#include <rondo/task/run.hpp>

#include <rondo/task/await_tree.hpp>

#include "loop/places.hpp"
#include "base/printable.hpp"
#include "base/report.hpp"
#include "base/thread_end.hpp"

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <memory>
#include <new>
#include <string_view>
#include <typeinfo>

namespace rondo::detail {

// --- where an error came from ------------------------------------------------------------------------

namespace {

/// The awaits through which one exception left its coroutines.
struct unwinding {
    static constexpr std::size_t most = 32;

    const void* exception = nullptr;  // who it is; only compared
    const std::type_info* type = nullptr;
    const promise_base* next = nullptr;  // the coroutine it goes to; null when it has ended a task
    std::uint64_t age = 0;
    std::size_t count = 0;
    std::source_location sites[most];
};

/// Those of the latest exceptions of this thread. An address may be used again: an exception that does
/// not come from where the remembered one went is another.
struct unwindings {
    unwinding all[16];
    std::uint64_t ages = 0;
};

constinit thread_local unwindings* remembered = nullptr;  // made for the first
constinit thread_local thread_end at_end{[]() noexcept { delete std::exchange(remembered, nullptr); }};

// Without memory nobody will know where the errors came from.
bool remembers() noexcept {
    if (remembered == nullptr && at_thread_end(at_end)) remembered = new (std::nothrow) unwindings;
    return remembered != nullptr;
}

unwinding* find(const void* exception, const std::type_info* type) noexcept {
    if (exception == nullptr || remembered == nullptr) return nullptr;
    for (unwinding& u : remembered->all)
        if (u.exception == exception && *u.type == *type) return &u;
    return nullptr;
}

unwinding& oldest() noexcept {
    unwinding* found = &remembered->all[0];
    for (unwinding& u : remembered->all)
        if (u.age < found->age) found = &u;
    return *found;
}

const void* identity(const std::exception_ptr& error) noexcept {
    const void* object;
    static_assert(sizeof error == sizeof object);
    std::memcpy(&object, &error, sizeof object);
    return object;
}

}  // namespace

void note_unwinding(promise_base& p) noexcept {
    const std::exception_ptr error = std::current_exception();
    const void* const thrown = identity(error);
    const std::type_info* const type = error.__cxa_exception_type();
    if (type == nullptr || *type == typeid(cancelled)) return;  // on its way to nobody
    if (!remembers()) return;
    unwinding* u = find(thrown, type);
    if (u == nullptr) u = &oldest();
    if (u->exception != thrown || u->next != &p) u->count = 0;
    u->exception = thrown;
    u->type = type;
    u->next = p.parent;
    u->age = ++remembered->ages;
    if (u->count < unwinding::most) u->sites[u->count++] = p.site;
}

void note_joined(const std::exception_ptr& error, const promise_base* joiner) noexcept {
    unwinding* u = find(identity(error), error.__cxa_exception_type());
    if (u != nullptr && u->next == nullptr) u->next = joiner;
}

void miscompiled_frame() noexcept {
    // The frame is not where it should be, so nothing in it can be trusted, not even its place.
    assertion_failed(
        "GCC 12 miscompiled this coroutine: it awaits inside a condition (if, while, for, switch, do). "
        "Await into a named variable first; see docs/compilers.md",
        nullptr, {});
}

// A frame is destroyed by code of the compiler's, which calls the destructors of what is in it: one generator that
// was wrapped 200,000 times needs more stack than there is. So the last ones that still fit destroy what is further in
// when they are done themselves. `parent`, of which nobody is in need any more, links those.
void destroy_frame(promise_base& frame) noexcept {
    constexpr std::ptrdiff_t enough = 256 * 1024;
    static thread_local const char* outermost = nullptr;
    static thread_local promise_base* further_in = nullptr;
    const char* const here = static_cast<const char*>(__builtin_frame_address(0));
    const bool is_outermost = outermost == nullptr;
    if (is_outermost) outermost = here;
    if (outermost - here > enough) {
        frame.parent = std::exchange(further_in, &frame);
        return;
    }
    frame.self().destroy();
    while (further_in != nullptr) std::exchange(further_in, further_in->parent)->self().destroy();
    if (is_outermost) outermost = nullptr;
}

void destroy_unfinished(promise_base& task) noexcept {
    if (task.owner != nullptr)
        assertion_failed("a task was destroyed while it waits: cancel it, and let it end", nullptr, task.site);
    if (debug_enabled && std::uncaught_exceptions() == 0)  // else an error came before its turn
        assertion_failed("a task was made but never awaited: its body did not run", nullptr, task.site);
    destroy_frame(task);
}

// --- reports -----------------------------------------------------------------------------------------

namespace {

void print_place(report& to, const char* lead, const std::source_location& place) noexcept {
    if (place.line() == 0) return;
    to.add("  ").add(lead).add(' ').add(place);
    if (const std::string_view name = function_of(place); !name.empty()) to.add("  ").add(name);
    to.add('\n');
}

// What follows writes to a report, or to a string. Only the string needs memory.

struct to_string {
    to_string& add(std::string_view piece) {
        text.append(piece);
        return *this;
    }
    std::string text;
};

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
                std::snprintf(escaped, sizeof escaped, "\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(rest.front())));
                to.add(escaped);
            }
            rest.remove_prefix(size);
        }
        return *this;
    }
    report& to;
};

template <class To>
void write_name(To& to, const std::type_info& type) {
    int status = 0;
    const std::unique_ptr<char, void (*)(void*)> demangled(abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), &std::free);
    std::string_view text = status == 0 ? demangled.get() : type.name();
    constexpr std::string_view wrapper = "std::_Nested_exception<";
    if (text.starts_with(wrapper) && text.ends_with('>'))  // libstdc++'s, around what the user threw
        text = text.substr(wrapper.size(), text.size() - wrapper.size() - 1);
    to.add(text);
}

template <class To>
void write_number(To& to, int value) {
    char digits[16];
    const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    to.add({digits, static_cast<std::size_t>(end - digits)});
}

template <class To>
void write_code(To& to, const std::error_code& code) {
    std::string text;
    try {
        text = code.message();
    } catch (const std::bad_alloc&) {
        const bool is_errno = code.category() == std::generic_category() || code.category() == std::system_category();
        const char* const known = is_errno ? ::strerrordesc_np(code.value()) : nullptr;
        to.add(known != nullptr ? known : code.category().name());
        return;
    }
    to.add(text);
}

template <class To>
void write_message(To& to, const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const io_error& e) {
        to.add(e.operation()).add(e.subject().empty() ? "" : " ").add(e.subject()).add(": ");
        write_code(to, e.code());
        to.add(" (errno ");
        write_number(to, e.code().value());
        to.add(")");
    } catch (const std::system_error& e) {
        to.add(e.what()).add(" (").add(e.code().category().name()).add(" ");
        write_number(to, e.code().value());
        to.add(")");
    } catch (const std::exception& e) {
        write_name(to, typeid(e));
        to.add(": ").add(e.what());
    } catch (const cancelled&) {
        to.add("the main task was cancelled");
    } catch (...) {
        const std::type_info* type = abi::__cxa_current_exception_type();
        to.add(type != nullptr ? "an exception of type " : "a foreign exception");
        if (type != nullptr) write_name(to, *type);
    }
}

/// What std::throw_with_nested has put into an error.
std::exception_ptr nested_in(const std::exception_ptr& error) noexcept {
    try {
        std::rethrow_exception(error);
    } catch (const std::nested_exception& outer) {
        return outer.nested_ptr();
    } catch (...) {
        return nullptr;
    }
}

constexpr int most_nested = 8;

}  // namespace

std::string message_of(const std::exception_ptr& error) noexcept {
    try {
        to_string to;
        write_message(to, error);
        std::exception_ptr inner = nested_in(error);
        for (int i = 0; inner && i < most_nested; ++i, inner = nested_in(inner)) {
            to.add("; caused by ");
            write_message(to, inner);
        }
        return std::move(to.text);
    } catch (const std::bad_alloc&) {
        return "out of memory";  // short enough to need none
    }
}

void report_escaped(const std::exception_ptr& error) noexcept {
    report text(last_words);
    std::exception_ptr at = error;
    for (int i = 0; at && i <= most_nested; ++i, at = nested_in(at)) {
        text.add(i == 0 ? "rondo: " : "  caused by: ");
        to_terminal printable{text};
        write_message(printable, at);
        text.add('\n');
        const unwinding* u = find(identity(at), at.__cxa_exception_type());
        if (u == nullptr) continue;
        for (std::size_t k = 0; k < u->count; ++k) print_place(text, k == 0 ? "at        " : "awaited at", u->sites[k]);
    }
}

// --- run -----------------------------------------------------------------------------------------------

namespace {

std::string deadlock_report(const loop& l) noexcept {
    try {
        std::string text = "deadlock: nothing is left that could wake these tasks\n" + await_tree(l).text();
        text.pop_back();  // the last end of line
        return text;
    } catch (const std::bad_alloc&) {
        return "deadlock";  // short enough to need no memory
    }
}

}  // namespace

void run_to_end(loop& l, fiber& main) {
    bool ended = false;
    l.limit_run();
    try {
        ended = l.run_until([](void* f) { return (static_cast<fiber*>(f)->flags & fiber::ended) != 0; }, &main);
    } catch (const livelock_error&) {
        l.drain_root();
        throw;
    }
    std::string report;
    const bool stopped = !ended && l.stopped();
    const bool stuck = !ended && !stopped;
    if (stuck) report = deadlock_report(l);
    if (ended) log_leftovers(l, "when the main task ended");
    l.drain_root();
    if (stuck) throw deadlock_error(report);
    // Unless it made something of its cancellation.
    if (stopped && !(main.flags & (fiber::has_value | fiber::has_error)))
        throw io_error(errno_code(ECANCELED), "run", "was ended by loop::stop()");
}

}  // namespace rondo::detail
