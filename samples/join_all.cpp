// Shows Rust's join_all and tokio::spawn with a result for each handle, which is looked at, not thrown.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <string>
#include <vector>

using namespace std::chrono_literals;

struct api_response {
    api_response(std::string of, int code, std::size_t length)
        : url(std::move(of)), status(code), body_length(length) {}
    std::string url;
    int status;
    std::size_t body_length;
};

rondo::task<api_response> fetch_url(std::string url) {
    co_await rondo::sleep_for(10ms);
    if (url.find("down") != url.npos) throw rondo::io_error(rondo::errno_code(ECONNREFUSED), "get", url);
    const std::size_t length = url.size() * 7;
    co_return api_response(std::move(url), 200, length);
}

void print(const rondo::task_outcome<api_response>& result) {
    try {
        const api_response& got = result.value();
        std::printf("%s: status=%d, length=%zu\n", got.url.c_str(), got.status, got.body_length);
    } catch (const std::exception& e) {
        std::printf("Error: %s\n", e.what());
    }
}

rondo::task<> app() {
    const std::vector<std::string> urls = {"httpbin.org/get", "httpbin.org/down", "httpbin.org/ip"};

    // let results = join_all(urls.iter().map(fetch_url)).await;
    std::vector<rondo::task<api_response>> futures;
    for (const std::string& url : urls) futures.push_back(fetch_url(url));
    const auto results = co_await rondo::all_settled(std::move(futures));
    for (const auto& result : results) print(result);

    // let handle = tokio::spawn(...); match handle.await { Ok(resp) => ..., Err(e) => ... }
    std::vector<rondo::task_handle<api_response>> handles;
    for (const std::string& url : urls) handles.push_back(rondo::spawn(fetch_url, url));
    for (auto& handle : handles) {
        const auto result = co_await rondo::attempt(handle);
        if (result) {
            std::printf("Fetched: %zu bytes\n", result->body_length);
        } else {
            std::printf("Error: %s\n", result.error().message().c_str());
        }
    }
}

int main() { return rondo::run_main(app); }
