#include "place_text.hpp"

namespace rondo::detail {

bool is_ours(const std::source_location& place) noexcept {
    constexpr std::string_view here = __FILE__;
    constexpr std::string_view folder = here.substr(0, here.size() - std::string_view("base/place_text.cpp").size());
    const std::string_view file = place.file_name();
    if (!folder.empty() && file.starts_with(folder)) return true;
    // A header's path is as the compiler of the user found it; inside this library it begins with rondo/.
    return file.ends_with(".hpp") &&
           (file.starts_with("rondo/") || file.find("include/rondo/") != std::string_view::npos);
}

bool same_line(const std::source_location& a, const std::source_location& b) noexcept {
    return a.line() == b.line() && std::string_view(a.file_name()) == b.file_name();
}

std::string_view base_name(const std::source_location& place) noexcept {
    const std::string_view path = place.file_name();
    return path.substr(path.rfind('/') + 1);
}

// "void {anonymous}::f({anonymous}::f(int)::_ZN2ns1fEi.Frame*)" (GCC), "task (anonymous namespace)::f(int)" (clang):
// the name in it. That a namespace has no name says nothing, and takes room.
std::string_view function_of(const std::source_location& place) noexcept {
    constexpr std::string_view deduced = "decltype(auto) ";
    constexpr std::string_view unnamed[] = {"{anonymous}::", "(anonymous namespace)::"};
    std::string_view name = place.function_name();
    if (name.starts_with(deduced)) name.remove_prefix(deduced.size());
    std::size_t end = name.find('(');
    while (end != name.npos && name.substr(end).starts_with(unnamed[1])) end = name.find('(', end + 1);
    name = name.substr(0, end);
    for (const std::string_view each : unnamed)
        if (const std::size_t at = name.rfind(each); at != name.npos) name.remove_prefix(at + each.size());
    return name.substr(name.rfind(' ') + 1);
}

}  // namespace rondo::detail
