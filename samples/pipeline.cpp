// A filter between standard input and output, in three stages with back-pressure: --match TEXT, --upper, --number.
#include <rondo/io/buffered_reader.hpp>
#include <rondo/io/buffered_writer.hpp>
#include <rondo/os/standard_streams.hpp>
#include <rondo/rondo.hpp>

#include "options.hpp"

#include <cctype>
#include <cstddef>
#include <string>
#include <system_error>

namespace {

constexpr std::size_t longest_line = 1 << 20;
constexpr std::size_t lines_between = 64;  // two stages, at most

struct work {
    std::string match;  // keeps the lines that contain it
    bool upper = false;
    bool number = false;
};

using sender = rondo::channel_sender<std::string>;

/// A line has its end with it, so that a last one without an end stays so.
rondo::task<> read_lines(sender to) {
    rondo::standard_input in = rondo::standard_input::open();
    rondo::buffered_reader lines(in);
    for (;;) {
        std::string line = co_await lines.read_until("\n", longest_line);
        if (line.empty()) co_return;
        co_await to->send_from(line);
    }
}

rondo::task<> transform(rondo::channel<std::string>& from, sender to, const work& what) {
    std::size_t count = 0;
    while (auto line = co_await from.receive()) {
        if (line->find(what.match) == line->npos) continue;
        if (what.upper)
            for (char& c : *line) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
        if (what.number) line->insert(0, std::to_string(++count) + "\t");
        co_await to->send_from(*line);
    }
}

/// Many lines go out at once while many are there; when there are none, nothing is held back.
rondo::task<> write_lines(rondo::channel<std::string>& from) {
    rondo::standard_output out = rondo::standard_output::open();
    rondo::buffered_writer buffered(out);
    while (auto line = co_await from.receive()) {
        co_await buffered.write(*line);
        if (from.size() == 0) co_await buffered.flush();
    }
    co_await buffered.flush();
}

rondo::task<> app(work what) {
    rondo::channel<std::string> lines(lines_between);
    rondo::channel<std::string> results(lines_between);
    rondo::result<void> read;
    rondo::result<void> written;
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        // When reading fails, what was read before still goes out.
        auto reads = [&]() -> rondo::task<> { read = co_await rondo::attempt(read_lines(sender(lines))); };
        group.spawn(reads).discard();
        group.spawn(transform, std::ref(lines), sender(results), std::cref(what)).discard();
        written = co_await rondo::attempt(write_lines(results));
        group.cancel();
    });
    read.value();
    // Who reads our output may have had enough, as `head` has: then there is nothing left to do, and no error.
    if (!written && written.error() != std::errc::broken_pipe) written.value();
}

}  // namespace

int main(int argc, char** argv) {
    sample::options given(argc, argv,
                          "  --backend NAME   auto, epoll or uring (auto)\n"
                          "  --match TEXT     keep the lines that contain it (all)\n"
                          "  --upper          in capital letters\n"
                          "  --number         with their number in front\n");
    work what;
    what.upper = given.flag("--upper");
    what.number = given.flag("--number");
    rondo::loop_options options;
    options.kind = given.backend();
    what.match = given.text("--match", "");
    given.done();
    return rondo::run_main(options, app, what);
}
