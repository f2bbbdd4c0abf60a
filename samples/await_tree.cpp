// A program that prints its own await tree: who waits for what, where, in which scope, for how long.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <string_view>

using namespace std::chrono_literals;

rondo::task<> query(const char*) { co_await rondo::sleep_for(2s); }

rondo::task<> session(const char* user) { co_await rondo::with_timeout(5s, query, user); }

rondo::task<> acceptor(rondo::tcp_listener& listener) {
    for (;;) {
        rondo::tcp_stream peer = co_await listener.accept();
        co_await peer.close();
    }
}

rondo::task<> serve_users(rondo::tcp_listener& listener) {
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        group.spawn(acceptor, std::ref(listener)).discard();
        group.spawn(session, "user=42").discard();
        for (int i = 0; i < 1000; ++i) group.spawn(session, "anyone").discard();
        co_return;
    });
}

rondo::task<> app(bool json) {
    rondo::tcp_listener listener = rondo::tcp_listener::bind("127.0.0.1", 0);
    auto server = rondo::spawn(serve_users, std::ref(listener));
    co_await rondo::sleep_for(1100ms);
    const rondo::await_tree tree;
    std::fputs(json ? (tree.json() + "\n").c_str() : tree.text().c_str(), stdout);
    server.cancel();  // it uses the listener: wait for its end
    static_cast<void>(co_await rondo::attempt(server));
}

int main(int argc, char** argv) {
    const bool json = argc == 2 && std::string_view(argv[1]) == "--json";
    if (argc != 1 && !json) {
        std::fprintf(stderr, "usage: %s [--json]; RONDO_BACKEND chooses the backend\n", argv[0]);
        return 2;
    }
    rondo::loop_options options;
    options.track_waits = true;  // "for how long" is not free
    return rondo::run_main(options, app, json);
}
