// All of rondo, except the optional adapters in rondo/interop/.
#pragma once

#include <rondo/attempt.hpp>
#include <rondo/await_tree.hpp>
#include <rondo/buffer.hpp>
#include <rondo/bytes.hpp>
#include <rondo/cleanup.hpp>
#include <rondo/endpoint.hpp>
#include <rondo/error.hpp>
#include <rondo/exception_group.hpp>
#include <rondo/fd.hpp>
#include <rondo/group.hpp>
#include <rondo/log.hpp>
#include <rondo/loop.hpp>
#include <rondo/oracle.hpp>
#include <rondo/rate_limiter.hpp>
#include <rondo/run.hpp>
#include <rondo/scope.hpp>
#include <rondo/serve.hpp>
#include <rondo/spawn.hpp>
#include <rondo/start.hpp>
#include <rondo/suspend.hpp>
#include <rondo/task.hpp>
#include <rondo/task_local.hpp>
#include <rondo/tcp.hpp>
#include <rondo/thread_channel.hpp>
#include <rondo/time.hpp>
