// The operating system beside its sockets: pipes, terminals, signals, and what a process is born with.
#pragma once

#include <rondo/os/fifo.hpp>
#include <rondo/os/inherited_listeners.hpp>
#include <rondo/os/pipe.hpp>
#include <rondo/os/pty.hpp>
#include <rondo/os/signal.hpp>
#include <rondo/os/standard_streams.hpp>
