// What nearly every program uses. Who wants more includes it by name: <rondo/actor.hpp>, <rondo/observe.hpp>,
// <rondo/sim.hpp>, <rondo/testing.hpp>, and the adapters in rondo/interop/. So this header costs a compiler the same
// when those grow.
#pragma once

#include <rondo/base.hpp>
#include <rondo/loop.hpp>
#include <rondo/task.hpp>
#include <rondo/combine.hpp>
#include <rondo/sync.hpp>
#include <rondo/channel.hpp>
#include <rondo/io.hpp>
#include <rondo/net.hpp>
