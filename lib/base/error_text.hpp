// What an error says of itself, written to whatever takes text piece by piece: `To` has an add(std::string_view) that
// gives itself. Only one that makes a string needs memory.
#pragma once

#include <rondo/base/error.hpp>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <typeinfo>

namespace rondo::detail {

struct to_string {
    to_string& add(std::string_view piece) {
        text.append(piece);
        return *this;
    }
    std::string text;
};

template <class To>
void write_name(To& to, const std::type_info& type) {
    int status = 0;
    const std::unique_ptr<char, void (*)(void*)> demangled(abi::__cxa_demangle(type.name(), nullptr, nullptr, &status),
                                                           &std::free);
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
inline std::exception_ptr nested_in(const std::exception_ptr& error) noexcept {
    try {
        std::rethrow_exception(error);
    } catch (const std::nested_exception& outer) {
        return outer.nested_ptr();
    } catch (...) {
        return nullptr;
    }
}

constexpr int most_nested = 8;

}  // namespace rondo::detail
