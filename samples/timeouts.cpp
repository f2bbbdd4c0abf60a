// Shows C#'s CancellationTokenSource with a timeout and WhenAll: deadlines of scopes, nested and shielded.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <string>
#include <vector>

using namespace std::chrono_literals;

rondo::task<std::string> get_string(std::string url, std::chrono::milliseconds takes) {
    co_await rondo::sleep_for(takes);
    co_return std::string(url.size() * 10, '.');
}

rondo::task<std::string> get_or_default(std::string url, std::chrono::milliseconds takes) {
    try {
        co_return co_await rondo::with_timeout(50ms, get_string, url, takes);
    } catch (const rondo::timeout_error&) {
        std::printf("%s timed out!\n", url.c_str());
    }
    co_return "";
}

rondo::task<> log_off(const char* who) {
    co_await rondo::sleep_for(5ms);
    std::printf("%s logged off\n", who);
}

rondo::task<> session(const char* who) {
    bool cut_short = false;
    try {
        co_await rondo::sleep_for(1h);
    } catch (const rondo::cancelled&) {
        cut_short = true;
    }
    co_await rondo::shield([&] { return log_off(who); });  // needs to wait, though its time is over
    if (cut_short) throw rondo::cancelled();
}

rondo::task<> app() {
    // Task.WhenAll
    const std::vector<std::string> urls = {"/get", "/ip", "/user-agent"};
    const auto results =
        co_await rondo::map_concurrent(urls, urls.size(), [](const std::string& url) { return get_string(url, 10ms); });
    for (std::size_t i = 0; i < urls.size(); ++i)
        std::printf("URL: %s, Length: %zu\n", urls[i].c_str(), results[i].size());

    // new CancellationTokenSource(TimeSpan)
    const std::string quick = co_await get_or_default("/get", 1ms);
    std::printf("Got data: %zu chars\n", quick.size());
    const std::string slow = co_await get_or_default("/slow", 10s);
    std::printf("Got data: %zu chars\n", slow.size());

    // The same without an exception, and with a token that is handed to someone else.
    const auto maybe = co_await rondo::move_on_after(50ms, get_string, std::string("/slow"), 10s);
    std::printf("move_on_after: %s\n", maybe ? "data" : "nothing");
    const bool finished = co_await rondo::with_cancel_scope([](rondo::cancel_scope& scope) -> rondo::task<> {
        auto timer = rondo::this_loop().set_timeout(20ms, [&scope] { scope.cancel("the user pressed Escape"); });
        co_await rondo::sleep_for(1h);
    });
    std::printf("with_cancel_scope: %s\n", finished ? "finished" : "cancelled");

    // Of nested deadlines the earlier one counts; clean-up is shielded from both.
    const auto inner = [] { return rondo::with_timeout(1h, session, "Alice"); };
    const auto outer = [&inner]() -> rondo::task<> { co_await inner(); };
    const bool logged = co_await rondo::move_on_after(20ms, outer);
    std::printf("session: %s\n", logged ? "ended" : "timed out");
}

int main() { return rondo::run_main(app); }
