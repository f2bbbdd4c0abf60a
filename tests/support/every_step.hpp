// "Cancel at every step" in doctest's words; what it does is said in rondo/testing/every_step.hpp.
#pragma once

#include "net.hpp"

#include <rondo/testing/every_step.hpp>

namespace test {

/// At how many points the program was cancelled; -1 if that was a failure.
template <class Program>
int cancel_at_every_step(Program program) {
    const rondo::testing::every_step_report report = rondo::testing::cancel_at_every_step(program);
    CHECK_MESSAGE(report.ok(), report.text());
    return report.ok() ? static_cast<int>(report.points) : -1;
}

}  // namespace test
