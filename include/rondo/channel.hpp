// Values from one task to another, and from other threads.
#pragma once

#include <rondo/channel/broadcast.hpp>
#include <rondo/channel/channel.hpp>
#include <rondo/channel/oneshot.hpp>
#include <rondo/channel/queue.hpp>
#include <rondo/channel/thread_channel.hpp>
#include <rondo/channel/watch.hpp>
