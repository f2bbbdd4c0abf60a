// Tasks: waiting, spawning, scopes and groups, how they end, what they wait for.
#pragma once

#include <rondo/task/attempt.hpp>
#include <rondo/task/await_tree.hpp>
#include <rondo/task/cleanup.hpp>
#include <rondo/task/dump_on_signal.hpp>
#include <rondo/task/generator.hpp>
#include <rondo/task/group.hpp>
#include <rondo/task/interval.hpp>
#include <rondo/task/outcome.hpp>
#include <rondo/task/retry.hpp>
#include <rondo/task/run.hpp>
#include <rondo/task/scope.hpp>
#include <rondo/task/spawn.hpp>
#include <rondo/task/start.hpp>
#include <rondo/task/suspend.hpp>
#include <rondo/task/task.hpp>
#include <rondo/task/wait.hpp>
#include <rondo/task/wall_clock.hpp>
#include <rondo/task/task_local.hpp>
