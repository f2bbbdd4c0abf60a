// What tasks share: permits, locks, events, rates.
#pragma once

#include <rondo/sync/barrier.hpp>
#include <rondo/sync/condition.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/sync/latch.hpp>
#include <rondo/sync/mutex.hpp>
#include <rondo/sync/once.hpp>
#include <rondo/sync/rate_limiter.hpp>
#include <rondo/sync/semaphore.hpp>
#include <rondo/sync/shared_mutex.hpp>
