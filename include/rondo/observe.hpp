// Looking at a run: recorders, timelines, metrics, stalls.
#pragma once

#include <rondo/observe/chrome_trace.hpp>
#include <rondo/observe/histogram.hpp>
#include <rondo/observe/loop_metrics.hpp>
#include <rondo/observe/observers.hpp>
#include <rondo/observe/prometheus.hpp>
#include <rondo/observe/recorder.hpp>
#include <rondo/observe/stall_watchdog.hpp>
#include <rondo/observe/task_times.hpp>
#include <rondo/observe/timeline.hpp>
