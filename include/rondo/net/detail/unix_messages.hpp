// What datagrams and packets of Unix sockets have in common: a socket that moves messages, each whole, and the waits
// for that.
#pragma once

#include <rondo/io/owned_descriptor.hpp>
#include <rondo/net/detail/unix_descriptors.hpp>
#include <rondo/net/detail/unix_socket.hpp>
#include <rondo/net/unix_address.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace rondo::detail {

class message_socket;
class message_send;
struct message_functions;
RONDO_API extern const op_vtable receive_message_vtable;
RONDO_API extern const op_vtable send_message_vtable;

/// A message that a losing arm of select_one() has received: the next receive gets it.
struct kept_message;
struct RONDO_API free_kept_message {
    void operator()(kept_message* what) const noexcept;
};

class RONDO_API message_receive : public io_awaiter {
 public:
    void give_back() noexcept;

 protected:
    message_receive(message_socket& socket, writable_bytes into, std::span<owned_descriptor> places) noexcept;

    /// `from`, if given, learns the name of the sender.
    bool begin(raw_unix_name* from) noexcept;
    /// Of one that has failed; throws `cancelled` if it was that.
    rondo::failure why() const;

    raw_message what_;

 private:
    friend struct message_functions;
    message_socket* socket_;
    std::span<owned_descriptor> places_;
};

/// What may be sent: for packets, not nothing.
enum class message_kind : std::uint8_t { datagram, packet };

class RONDO_API message_send : public io_awaiter, public awaits_io<message_send> {
 public:
    message_send(message_socket& socket, message_kind of, bytes_view bytes, const unix_address& to,
                 std::span<const int> descriptors) noexcept;

    bool start() noexcept;
    rondo::result<void> finish() const;
    void await_resume() const { static_cast<void>(finish().value()); }

 private:
    friend struct message_functions;
    friend class message_socket;
    /// False: the receiver has no room, and it waits for time.
    bool settled() noexcept;
    void end_pause(std::int32_t with) noexcept;

    raw_message what_;
    raw_unix_name to_;
    message_socket* socket_;
    std::span<const int> descriptors_;
    const char* fault_ = nullptr;
    std::uint16_t pause_ms_ = 0;  // the latest one
    bool pausing_ = false;
};

/// A Unix socket of messages. Move-only; the destructor never waits.
class RONDO_API message_socket {
 public:
    /// Ends what other tasks do on this socket (bad_file_descriptor), waits until the kernel has let go of it, and
    /// closes. It is closed from the call on, also if nobody awaits it. What has come and was not received is dropped.
    /// Shielded: it works in a cancelled task and cannot be cancelled.
    [[nodiscard]] close_awaiter close() noexcept;
    /// Gives the descriptor back, as descriptor_stream::release() does.
    [[nodiscard]] release_awaiter release() noexcept {
        return release_awaiter(socket_, kept_ != nullptr || owed_ != 0 || pausing_ != nullptr);
    }

    /// Whether it has a descriptor: it was made, and neither closed nor moved from.
    bool is_open() const noexcept { return socket_.open(); }
    explicit operator bool() const noexcept { return is_open(); }
    /// The descriptor, still owned by the socket; -1 when closed. For looking, not for I/O.
    int native_handle() const noexcept { return socket_.fd(); }

    /// Its own name. Throws io_error.
    unix_address local() const { return unix_value(try_local(), "local address"); }
    rondo::result<unix_address> try_local() const noexcept { return unix_name(socket_, sys_op::call::unix_local_name); }
    /// The name of whom it is connected to: not_connected if it is not. Throws io_error.
    unix_address peer() const { return unix_value(try_peer(), "peer address"); }
    rondo::result<unix_address> try_peer() const noexcept { return unix_name(socket_, sys_op::call::unix_peer_name); }

    /// A message may be nearly as large, and so many bytes may wait for their receivers. Throws io_error.
    void send_buffer_size(int bytes);
    rondo::result<void> try_send_buffer_size(int bytes) noexcept {
        return as_result(socket_.set(sys_op::option::send_buffer, bytes));
    }

 protected:
    message_socket() noexcept = default;
    explicit message_socket(socket_handle&& socket) noexcept : socket_(std::move(socket)) {}
    message_socket(message_socket&&) noexcept = default;
    message_socket& operator=(message_socket&&) noexcept = default;
    ~message_socket() = default;

    const socket_handle& socket() const noexcept { return socket_; }
    /// Without waiting: how many bytes, or a negative errno.
    std::int32_t receive_now(raw_message& into, std::span<owned_descriptor> places) noexcept;
    std::int32_t send_now(message_kind kind, bytes_view bytes, const unix_address& to,
                          std::span<const int> descriptors) noexcept;

 private:
    friend class message_receive;
    friend class message_send;
    friend struct message_functions;
    std::int32_t give_kept(raw_message& into, std::span<owned_descriptor> places) noexcept;

    socket_handle socket_;
    std::unique_ptr<kept_message, free_kept_message> kept_;
    std::int32_t owed_ = 0;  // a negative errno for the next receive
    message_send* pausing_ = nullptr;
};

/// A place for a message.
inline raw_message place_for(writable_bytes into) noexcept {
    raw_message made;
    made.data = into.data();
    made.size = static_cast<std::uint32_t>(into.size() < transfer_max ? into.size() : transfer_max);
    return made;
}

}  // namespace rondo::detail
