// What everything else stands on: durations and the clock, errors, bytes, the log.
#pragma once

#include <rondo/base/bytes.hpp>
#include <rondo/base/error.hpp>
#include <rondo/base/exception_group.hpp>
#include <rondo/base/log.hpp>
#include <rondo/base/time.hpp>
