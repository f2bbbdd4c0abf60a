// The fixed yardstick of the `include` row: the standard headers a coroutine library's interface
// cannot do without. Its compile time is what `#include <rondo/rondo.hpp>` is compared with.
#include <array>
#include <chrono>
#include <compare>
#include <coroutine>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
