// Actors and supervisors.
#pragma once

#include <rondo/actor/actor.hpp>
#include <rondo/actor/mailbox.hpp>
#include <rondo/actor/request.hpp>
#include <rondo/actor/supervisor.hpp>
