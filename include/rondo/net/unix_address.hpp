// The name of a Unix socket.
#pragma once

#include <rondo/base/error.hpp>
#include <rondo/loop/backend.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace rondo {

/// The name of a Unix socket: a path, "/run/app.sock", or "@app", which is abstract: no file, and gone with its socket.
/// A value. (The path of a file whose name begins with '@' is "./@app".)
class RONDO_API unix_address {
 public:
    static constexpr std::size_t size_max = 107;  // bytes, without the '@'

    unix_address() noexcept = default;  // no name, as that of a client
    /// Throws system_error that quotes the text: filename_too_long if it has more than size_max bytes,
    /// invalid_argument if it is empty, or a path with a zero in it.
    unix_address(std::string_view text);  // NOLINT(*-explicit-*)
    unix_address(const char* text) : unix_address(std::string_view(text)) {}  // NOLINT(*-explicit-*)
    unix_address(const std::string& text) : unix_address(std::string_view(text)) {}  // NOLINT(*-explicit-*)
    explicit unix_address(const raw_unix_name& raw) noexcept : raw_(raw) {}
    static result<unix_address> try_parse(std::string_view text) noexcept;

    /// Which of the three kinds it is of.
    bool is_path() const noexcept { return raw_.size != 0 && raw_.bytes[0] != 0; }
    /// Likewise.
    bool is_abstract() const noexcept { return raw_.size != 0 && raw_.bytes[0] == 0; }
    /// Likewise.
    bool is_unnamed() const noexcept { return raw_.size == 0; }
    const raw_unix_name& name() const noexcept { return raw_; }

    /// In the form that the constructor reads, with what cannot be printed as \x1b; "(unnamed)" if it has no name.
    std::string to_string() const;

    friend bool operator==(const unix_address& a, const unix_address& b) noexcept { return a.text() == b.text(); }

 private:
    std::string_view text() const noexcept { return {raw_.bytes, raw_.size}; }
    raw_unix_name raw_;
};

}  // namespace rondo
