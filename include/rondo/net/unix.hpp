// Unix sockets: streams and listeners on one machine. What a stream can do, and what holds for all of them, is in
// io/stream.hpp.
//
// Descriptors can go along with bytes: files, pipes, sockets, that the receiver has from then on, too. They belong to
// the first of the bytes they were sent with. A read that asks for none closes those which come: a stream on which
// there may be some is read by receive_with_descriptors().
#pragma once

#include <rondo/io/owned_descriptor.hpp>
#include <rondo/io/stream.hpp>
#include <rondo/net/detail/unix_descriptors.hpp>
#include <rondo/net/detail/unix_socket.hpp>
#include <rondo/net/unix_address.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace rondo {

/// A connected Unix stream. Move-only.
class RONDO_API unix_stream : public descriptor_stream {
 public:
    unix_stream() noexcept = default;

    /// Connects to who listens at `to`. While the queue of the listener is full it waits, and asks again (1 ms doubling
    /// to 64 ms). Throws io_error that names the address: no_such_file_or_directory, connection_refused (the file is
    /// there and nobody listens, or nobody has the abstract name), permission_denied ...
    /// Cancel: the attempt is given up and its socket closed.
    [[nodiscard]] static detail::unix_connect_awaiter<unix_stream> connect(const unix_address& to) noexcept {
        return {unix_type::stream, to};
    }
    /// Without waiting: resource_unavailable_try_again if the queue is full. Needs a running loop.
    static rondo::result<unix_stream> try_connect(const unix_address& to) noexcept;

    /// Two streams that are connected with each other (socketpair). Needs a running loop. Throws io_error.
    static std::pair<unix_stream, unix_stream> pair();
    static rondo::result<std::pair<unix_stream, unix_stream>> try_pair() noexcept;

    /// Takes a connected Unix stream over that somebody else has made, as tcp_stream::from_fd() does.
    static unix_stream from_fd(int fd);
    static rondo::result<unix_stream> try_from_fd(int fd) noexcept;

    // --- descriptors

    /// Writes all of `bytes`, as write_all() does, at least one; copies of `descriptors`, 253 at most, go with the
    /// first. They stay open here; close yours when this has ended, if the receiver is to be the only one. Throws
    /// io_error: invalid_argument if there is no byte, or there are too many descriptors; bad_file_descriptor if one is
    /// not open; ETOOMANYREFS if too many that this user has sent wait for their receivers. In a simulated world they
    /// are those of simulated sockets; others are not_simulated. Bytes and array must stay valid until this ends.
    /// Cancel: it stops between two bytes; if `written` is not 0, the descriptors have gone, too.
    [[nodiscard]] detail::send_descriptors_awaiter send_with_descriptors(bytes_view bytes,
                                                                         std::span<const int> descriptors,
                                                                         std::size_t* written = nullptr) noexcept {
        return {*this, bytes, descriptors, written};
    }
    /// Reads at least one byte, as read_some() does, and the descriptors that have come with these bytes into the first
    /// of `places`; what was in there is closed. They are close-on-exec. Bytes with descriptors are never joined to
    /// later ones. Throws io_error: message_size if more came than there are places, too_many_files_open if this
    /// process may have no more; all that came are closed then, and their bytes are the next to be read. Bytes and
    /// places must stay valid until this ends. Cancel: nothing is lost.
    [[nodiscard]] detail::receive_descriptors_awaiter receive_with_descriptors(
        writable_bytes into, std::span<owned_descriptor> places) noexcept {
        return {*this, into, places};
    }

    // --- the other side

    /// Which process was at the other end when it connected, listened, or made the pair. It may have ended since, and
    /// its number may be another's: decide by the user and the group. Throws io_error.
    peer_credentials credentials() const;
    rondo::result<peer_credentials> try_credentials() const noexcept;

    /// The name of the other side: as a rule only a listener has one. Throws io_error.
    unix_address peer() const;
    rondo::result<unix_address> try_peer() const noexcept;
    /// Of a stream that was accepted, that of the listener. Throws io_error.
    unix_address local() const;
    rondo::result<unix_address> try_local() const noexcept;

 private:
    friend class detail::accept_awaiter<unix_stream>;
    friend class detail::unix_connect_awaiter<unix_stream>;

    static unix_stream accepted(detail::socket_handle&& socket, const raw_address&) noexcept {
        return unix_stream(std::move(socket));
    }
    static std::string name_of(const descriptor_stream& stream) {
        return detail::unix_subject(static_cast<const unix_stream&>(stream).socket());
    }

    explicit unix_stream(detail::socket_handle&& socket) noexcept : descriptor_stream(std::move(socket), name_of) {}
};

/// A listening Unix socket. Move-only. It removes its file when it is closed or destroyed, if the file is still the
/// one that it made.
class RONDO_API unix_listener : public detail::unix_listener_base {
 public:
    unix_listener() noexcept = default;

    /// Listens at `at`. Needs a running loop. Throws io_error that names the address: address_in_use if somebody
    /// listens there, or a file is there that is no socket; permission_denied, no_such_file_or_directory ... of the
    /// directory. A socket file at which nobody listens is replaced, unless the options forbid it. Two processes that
    /// do that at the same moment may both succeed, and the file is that of the later one.
    static unix_listener bind(const unix_address& at, const unix_listen_options& options = {});
    static rondo::result<unix_listener> try_bind(const unix_address& at,
                                                 const unix_listen_options& options = {}) noexcept;

    /// Takes a listening Unix socket of streams over that somebody else has made, as tcp_listener::from_fd() does. Its
    /// file is none of this listener's business.
    static unix_listener from_fd(int fd);
    static rondo::result<unix_listener> try_from_fd(int fd) noexcept;

    /// Waits for a connection, as tcp_listener::accept() does.
    [[nodiscard]] detail::accept_awaiter<unix_stream> accept() noexcept {
        return detail::accept_awaiter<unix_stream>(*this);
    }

 private:
    explicit unix_listener(detail::socket_handle&& socket) noexcept : unix_listener_base(std::move(socket)) {}
};

}  // namespace rondo
