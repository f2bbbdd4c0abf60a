// The event loop: phases, queues, timers, posts from other threads, and the door to the outside.
#pragma once

#include <rondo/loop/backend.hpp>
#include <rondo/loop/forwarding_backend.hpp>
#include <rondo/loop/handle.hpp>
#include <rondo/loop/loop.hpp>
#include <rondo/loop/memory.hpp>
#include <rondo/loop/observer.hpp>
#include <rondo/loop/op.hpp>
#include <rondo/loop/oracle.hpp>
#include <rondo/loop/phase.hpp>
#include <rondo/loop/remote.hpp>
#include <rondo/loop/stats.hpp>
