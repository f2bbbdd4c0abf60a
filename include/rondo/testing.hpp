// For the tests of programs. The adapter for your test framework (doctest.hpp, gtest.hpp, catch2.hpp) is for you to
// include.
#pragma once

#include <rondo/testing/eventually.hpp>
#include <rondo/testing/every_step.hpp>
#include <rondo/testing/mock_backend.hpp>
#include <rondo/testing/sequencer.hpp>
#include <rondo/testing/virtual_time.hpp>
