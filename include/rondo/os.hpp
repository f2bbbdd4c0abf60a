// The operating system beside its sockets: signals, and what a process is born with.
#pragma once

#include <rondo/os/inherited_listeners.hpp>
#include <rondo/os/signal.hpp>
