// Several tasks, one result.
#pragma once

#include <rondo/combine/as_completed.hpp>
#include <rondo/combine/joiner.hpp>
#include <rondo/combine/joiners.hpp>
#include <rondo/combine/map_concurrent.hpp>
#include <rondo/combine/select.hpp>
#include <rondo/combine/wait_for_tasks.hpp>
#include <rondo/combine/when.hpp>
