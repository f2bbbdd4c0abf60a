// The smallest program that somebody else might build against an installed rondo.
#include <rondo/rondo.hpp>

rondo::task<> app() { co_await rondo::sleep_for(std::chrono::milliseconds(1)); }

int main() { return rondo::run_main(app); }
