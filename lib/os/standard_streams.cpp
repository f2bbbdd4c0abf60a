#include <rondo/os/standard_streams.hpp>

namespace rondo {

namespace {

constexpr const char* names[] = {"standard input", "standard output", "standard error"};

rondo::result<detail::socket_handle> open_own(int number) noexcept {
    detail::scheduler& l = detail::running();
    l.check_thread("opening a standard stream");
    sys_op open{.what = sys_op::call::standard_stream, .value = number};
    const int fd = l.control(open);
    if (fd < 0) return errno_code(-fd);
    return detail::socket_handle(l, fd);
}

template <class Stream>
Stream value_or_throw(rondo::result<Stream>&& opened, int number) {
    if (opened) return *std::move(opened);
    if (opened.error() == std::errc::function_not_supported) detail::throw_refused(opened.error(), names[number], {});
    throw io_error(opened.error(), "open", names[number]);
}

}  // namespace

std::string standard_input::name_of(const rondo::descriptor_stream&) { return names[0]; }

rondo::result<standard_input> standard_input::try_open() noexcept {
    rondo::result<detail::socket_handle> own = open_own(0);
    if (!own) return own.error();
    return standard_input(*std::move(own));
}

standard_input standard_input::open() { return value_or_throw(try_open(), 0); }

std::string standard_output::name_of(const rondo::descriptor_stream& stream) {
    return names[as<standard_output>(stream).is_error_ ? 2 : 1];
}

rondo::result<standard_output> standard_output::open_number(int number) noexcept {
    rondo::result<detail::socket_handle> own = open_own(number);
    if (!own) return own.error();
    return standard_output(*std::move(own), number == 2);
}

rondo::result<standard_output> standard_output::try_open() noexcept { return open_number(1); }
rondo::result<standard_output> standard_output::try_open_error() noexcept { return open_number(2); }
standard_output standard_output::open() { return value_or_throw(try_open(), 1); }
standard_output standard_output::open_error() { return value_or_throw(try_open_error(), 2); }

}  // namespace rondo
