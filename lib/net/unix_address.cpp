#include <rondo/net/unix_address.hpp>

#include "base/printable.hpp"

#include <cerrno>
#include <cstring>

namespace rondo {

namespace {

std::string printable(std::string_view text) {
    char line[4 * raw_unix_name::capacity];
    return {line, detail::write_printable(line, sizeof line, text, false)};
}

}  // namespace

result<unix_address> unix_address::try_parse(std::string_view text) noexcept {
    const bool abstract = text.starts_with('@');
    const std::string_view name = text.substr(abstract);
    if (name.empty() || (!abstract && name.find('\0') != std::string_view::npos)) return errno_code(EINVAL);
    if (name.size() > size_max) return errno_code(ENAMETOOLONG);
    raw_unix_name raw;
    raw.size = static_cast<std::uint8_t>(text.size());
    std::memcpy(raw.bytes, text.data(), text.size());
    if (abstract) raw.bytes[0] = 0;
    return unix_address(raw);
}

unix_address::unix_address(std::string_view text) {
    const result<unix_address> parsed = try_parse(text);
    if (parsed) {
        raw_ = parsed->raw_;
        return;
    }
    std::string why = "not a name of a Unix socket";
    if (parsed.error() == std::errc::filename_too_long)
        why +=
            ", since it has " + std::to_string(text.size()) + " bytes and " + std::to_string(size_max) + " is the most";
    why += ": '" + printable(text) + "'";
    throw std::system_error(parsed.error(), why);
}

std::string unix_address::to_string() const {
    if (is_unnamed()) return "(unnamed)";
    return is_path() ? printable(text()) : "@" + printable(text().substr(1));
}

}  // namespace rondo
