// What nearly every program uses. Who wants more includes it by name: <rondo/io.hpp> has lines and relays,
// <rondo/net.hpp> UDP and Unix sockets, and there are <rondo/os.hpp>, <rondo/actor.hpp>, <rondo/observe.hpp>,
// <rondo/sim.hpp>, <rondo/testing.hpp>, and the adapters in rondo/interop/. So this header costs a compiler the same
// when those grow.
#pragma once

#include <rondo/base.hpp>
#include <rondo/task.hpp>
#include <rondo/combine.hpp>
#include <rondo/sync.hpp>
#include <rondo/channel.hpp>

#include <rondo/io/buffer.hpp>
#include <rondo/io/descriptor.hpp>
#include <rondo/io/listener.hpp>
#include <rondo/io/stream.hpp>
#include <rondo/loop/loop.hpp>
#include <rondo/loop/memory.hpp>
#include <rondo/net/endpoint.hpp>
#include <rondo/net/serve.hpp>
#include <rondo/net/tcp.hpp>
