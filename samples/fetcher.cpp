// Fifty transfers, eight at a time, from a server that is sometimes busy, slow or broken: limits, retries, a summary.
#include <rondo/rondo.hpp>
#include <rondo/io.hpp>

#include <cstdio>
#include <string>
#include <variant>
#include <vector>

#include "options.hpp"

using namespace std::chrono_literals;

namespace {

// --- the server: "GET 7" is answered with a length, and so many bytes -------------------------------------------

int asked[50] = {};

rondo::task<> answer(rondo::tcp_stream& peer) {
    rondo::buffered_reader in(peer);
    const auto line = co_await in.read_line(100);
    if (!line || !line->starts_with("GET ")) co_return;
    const int file = std::stoi(line->substr(4));
    const int times = ++asked[file];
    if (file % 10 == 3 && times < 3) {  // busy: the third time it answers
        peer.reset_on_close();
        co_return;
    }
    if (file == 17) co_await rondo::sleep_for(1h);  // never answers
    if (file == 28) {                               // breaks off every time
        co_await peer.write_all("1000\nonly a part");
        co_return;
    }
    const std::string body(static_cast<std::size_t>(1000 * (file + 1)), 'x');
    const std::string head = std::to_string(body.size()) + "\n";
    co_await peer.write_all(head);
    co_await peer.write_all(body);
}

// --- the client -------------------------------------------------------------------------------------------------

rondo::task<std::string> transfer(rondo::endpoint from, int file) {
    rondo::tcp_stream peer = co_await rondo::tcp_stream::connect(from);
    const std::string question = "GET " + std::to_string(file) + "\n";
    co_await peer.write_all(question);
    rondo::buffered_reader in(peer);
    const auto length = co_await in.read_line(20);
    if (!length) throw rondo::io_error(std::make_error_code(std::errc::connection_reset), "fetch", "no answer");
    const std::size_t size = std::stoul(*length);
    std::string body = co_await in.read_exactly(size);
    if (body.size() < size) throw rondo::io_error(std::make_error_code(std::errc::bad_message), "fetch", "cut short");
    co_return body;
}

/// Each attempt has two seconds; what is only busy is tried again.
rondo::task<std::string> in_time(rondo::endpoint from, int file) {
    std::string body = co_await rondo::with_timeout(2s, transfer, from, file);
    co_return body;
}
bool is_worth_it(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const rondo::io_error& e) {
        return e.code() == std::errc::connection_reset || e.code() == std::errc::connection_refused;
    } catch (...) {
        return false;
    }
}

struct outcome {
    int file = 0;
    std::size_t bytes = 0;
    std::string error;
};

rondo::task<outcome> fetch(rondo::endpoint from, int file) {
    outcome got{file, 0, {}};
    try {
        const rondo::retry_policy policy{.attempts = 4, .first_delay = 20ms, .retries = &is_worth_it};
        const std::string body = co_await rondo::retry(policy, in_time, from, file);
        got.bytes = body.size();
    } catch (const std::exception& e) {
        got.error = e.what();
    }
    co_return got;
}

rondo::task<> app() {
    auto listener = rondo::tcp_listener::bind("127.0.0.1", 0);
    const rondo::endpoint server = listener.local();
    auto serves = [&listener]() -> rondo::task<> {
        co_await rondo::serve(listener, answer, {.stop_on_signals = false});
    };
    rondo::spawn(serves).discard();  // it ends with the main task

    std::vector<int> files;
    for (int i = 0; i < 50; ++i) files.push_back(i);
    auto one = [server](int file) { return fetch(server, file); };
    const std::vector<outcome> all = co_await rondo::map_concurrent(files, 8, one);

    std::size_t done = 0, bytes = 0;
    for (const outcome& each : all) {
        if (each.error.empty()) ++done;
        bytes += each.bytes;
        if (!each.error.empty()) std::printf("file %d: %s\n", each.file, each.error.c_str());
    }
    std::printf("%zu of %zu files, %zu bytes\n", done, all.size(), bytes);
}

}  // namespace

int main(int argc, char** argv) {
    sample::options given(argc, argv, "  --backend NAME   auto, epoll, uring or sim (auto)\n");
    rondo::loop_options options;
    options.kind = given.backend();
    given.done();
    return rondo::run_main(options, app);
}
