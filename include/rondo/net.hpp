// Addresses, TCP, UDP, Unix sockets, servers.
#pragma once

#include <rondo/net/endpoint.hpp>
#include <rondo/net/serve.hpp>
#include <rondo/net/serve_options.hpp>
#include <rondo/net/tcp.hpp>
#include <rondo/net/udp.hpp>
#include <rondo/net/unix.hpp>
#include <rondo/net/unix_address.hpp>
#include <rondo/net/unix_datagram.hpp>
#include <rondo/net/unix_seqpacket.hpp>
