#include <rondo/io/detail/connect.hpp>

namespace rondo::detail {

bool connect_wait::start() noexcept {
    sys_op make{.what = make_, .address = &to_};
    fd = current->control(make);
    if (fd < 0) {
        result = fd;
        return !current->finish_at_once(*this);
    }
    if (from_.address.kind != raw_address::family::none) {
        result = bind_to_source(fd);
        bind_failed_ = result < 0;
        if (bind_failed_) return !current->finish_at_once(*this);
    }
    data = &to_;
    return !current->submit(*this);
}

int connect_wait::bind_to_source(int socket) const noexcept {
    const auto set = [socket](sys_op::option which) {
        sys_op call{.what = sys_op::call::set_option, .fd = socket, .which = which, .value = 1};
        return current->control(call);
    };
    if (from_.reuse_address)
        if (const int refused = set(sys_op::option::reuse_address); refused < 0) return refused;
    // A port that nobody has asked for need not be unlike those of all other peers: the kernel chooses it when it knows
    // the peer. One that cannot wait chooses now.
    if (from_.address.port == 0) static_cast<void>(set(sys_op::option::late_port));
    raw_address address = from_.address;
    sys_op bind{.what = sys_op::call::bind, .fd = socket, .address = &address};
    return current->control(bind);
}

failure connect_wait::failed(std::error_code why) const noexcept {
    if (bind_failed_) return io_failure(why, "connect from", address_text(from_.address).text);
    return io_failure(why, "connect", address_text(to_).text);
}

socket_handle connect_wait::take_socket() noexcept {
    if (fd < 0) return {};
    return socket_handle(*current, take(fd, -1));
}

}  // namespace rondo::detail
