// A scenario: a small program over an event loop, with the order in which real Node ran it. It is
// written as JSON (samples/scenarios/README.md has the format); this is what the player runs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace replay {

/// What a `log` statement emits: a string, or any other JSON value, which Node lets pass as well.
struct label {
    std::string text;
    std::string json;
};

/// Where something stands in the JavaScript that source.hpp prints.
struct span {
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
};

struct statement;
struct expression;
using block = std::vector<statement>;

enum class verb : std::uint8_t {
    log,
    tick,
    micro,
    imm,
    timer,
    every,
    clear,
    unref,
    ref,
    io,
    close,
    spin,
    evaluate,
    let,
    make,
    resolve,
    reject,  // `do`, `let`, `new`, ...
    await,
    attempt,
    raise,
    give_back,  // in async functions: `await`, `try`, `throw`, `ret`
};

struct statement {
    verb what{};
    label text;  // log: the label; reject and throw: the message
    double ms = 0;
    double times = 0;  // every
    int name = -1;     // an index into scenario::handles or scenario::promises; -1: none
    std::unique_ptr<expression> operand;
    block body;  // the callback; of `try`, what is tried
    std::optional<block> on_error, at_end;

    span at;
    span callback_at;
};

enum class form : std::uint8_t {
    value,
    resolved,
    rejected,
    named,
    call,
    thenable,
    via,
    then,
    then_return,
    on_error,
    at_end,
    all,
    race,
    any,
    settled,
};

enum class source : std::uint8_t { tick, micro, imm, timer, io, close };

struct expression {
    form what{};
    source from{};  // via
    double ms = 0;  // via timer
    int name = -1;  // into scenario::promises
    std::string message;
    std::vector<expression> operands;  // P (and Q of thenret), or the list of a combinator
    block body;                        // the handler; of `call`, the async function

    span at;
    span callback_at;
};

enum class start_in : std::uint8_t { main, check, poll, timer };

struct scenario {
    std::string id;
    std::string note;
    bool real_clock = false;
    start_in start = start_in::main;
    block program;
    std::optional<std::vector<label>> expect;

    std::vector<std::string> handles, promises;  // the names
};

/// Why something is no scenario: one line for people.
struct malformed : std::runtime_error {
    using runtime_error::runtime_error;
};

/// One scenario of a file, or why it is none.
struct entry {
    std::string where;  // "file:line", for messages
    std::string id;     // as far as it can be told
    std::optional<scenario> found;
    std::string error;
};

/// Hands out the scenarios of a file one by one: of .jsonl one per line, else one JSON value, which
/// may be an array of scenarios; "-" is standard input. Throws malformed when it cannot be read.
void read_scenarios(const std::string& path, const std::function<void(entry)>& take);

/// `text` as a JSON string, quotes included.
std::string json_quote(std::string_view text);

/// `text` with its control characters written as JSON would, so that no terminal obeys them.
std::string printable(std::string_view text);

}  // namespace replay
