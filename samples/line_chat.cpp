// A chat for nc: your first line names a room, each further one goes to everybody in it. --port N (0: any).
#include <rondo/rondo.hpp>
#include <rondo/io.hpp>

#include <cstdio>
#include <map>
#include <set>
#include <string>

#include "options.hpp"

using namespace std::chrono_literals;

namespace {

constexpr std::size_t longest_line = 4096;
constexpr std::size_t most_unread = 1 << 20;

struct member {
    rondo::buffered_writer<rondo::tcp_stream> out;
    rondo::task_group* tasks = nullptr;

    /// A client that does not read is shown out; nobody waits for it.
    void say(std::string_view line) {
        if (!out.try_write(line)) tasks->cancel();
    }
};

std::map<std::string, std::set<member*>> rooms;
std::uint64_t lines = 0, deliveries = 0;

/// In a room for as long as this lives.
class presence {
 public:
    presence(member& who, const std::string& room) : who_(who), at_(rooms.try_emplace(room).first) {
        at_->second.insert(&who_);
    }
    ~presence() {
        at_->second.erase(&who_);
        if (at_->second.empty()) rooms.erase(at_);
    }
    presence(const presence&) = delete;
    presence& operator=(const presence&) = delete;

    void say(const std::string& line) {
        ++lines;
        for (member* each : at_->second) {
            each->say(line);
            ++deliveries;
        }
    }

 private:
    member& who_;
    std::map<std::string, std::set<member*>>::iterator at_;
};

rondo::task<> talk(rondo::tcp_stream& peer, member& me) {
    rondo::buffered_reader in(peer);
    std::string line;
    const bool named = co_await in.read_line(line, longest_line);
    if (!named) co_return;
    presence here(me, line);
    for (;;) {
        const bool more = co_await in.read_line(line, longest_line);
        if (!more) co_return;
        line += '\n';
        here.say(line);
    }
}

rondo::task<> session(rondo::tcp_stream& peer) {
    member me{rondo::buffered_writer(peer, {.high = most_unread, .low = 0})};
    auto both = [&](rondo::task_group& tasks) -> rondo::task<> {
        me.tasks = &tasks;
        auto writes = [&me]() -> rondo::task<> { co_await me.out.run(); };
        tasks.spawn(writes).discard();
        co_await talk(peer, me);
        me.out.end();  // what others have said meanwhile goes out
    };
    co_await rondo::with_task_group(both);
}

rondo::task<> app(std::uint16_t port) {
    auto listener = rondo::tcp_listener::bind("127.0.0.1", port);
    std::printf("listening on %s\n", listener.local().to_string().c_str());
    std::fflush(stdout);
    co_await rondo::serve(listener, session, {.grace = 1s});  // until SIGINT or SIGTERM
    std::printf("%llu lines, %llu deliveries\n", static_cast<unsigned long long>(lines),
                static_cast<unsigned long long>(deliveries));
}

}  // namespace

int main(int argc, char** argv) {
    sample::options given(argc, argv, "  --port N   0 to 65535; 0 takes a free one (7000)\n");
    const std::uint16_t port = given.port("--port", 7000, 0);
    given.done();
    return rondo::run_main(app, port);
}
