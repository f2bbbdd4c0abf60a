// A chat that is restarted unnoticed: the new process gets all sockets of the old one. --path NAME, --take-over.
#include <rondo/os/signal.hpp>
#include <rondo/net.hpp>
#include <rondo/rondo.hpp>

#include <array>
#include <csignal>
#include <cstdio>
#include <list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <unistd.h>

#include "options.hpp"

namespace {

struct member {
    rondo::unix_seqpacket peer;
    std::string name;  // what its first packet says
};

struct room {
    rondo::unix_seqpacket_listener listener;
    std::list<member> members;
    rondo::unix_seqpacket successor;  // the process that has asked to take over
    rondo::task_group* tasks = nullptr;

    /// Who reads so little that there is no room misses it.
    void say(const std::string& line) {
        for (member& each : members) static_cast<void>(each.peer.try_send(line));
    }
};

/// When it is cancelled, its member stays: what nobody has received yet waits in the socket for the next process.
rondo::task<> session(room& here, std::list<member>::iterator me) {
    std::array<char, 4096> place;
    for (;;) {
        const auto got = co_await rondo::attempt(me->peer.receive(place));
        if (!got || got->end) break;
        std::string text(place.data(), got->size);
        if (text.ends_with('\n')) text.pop_back();
        if (text == "/take-over" && me->peer.credentials().user == ::getuid()) {
            here.successor = std::move(me->peer);
            here.tasks->cancel();
            break;
        }
        const bool is_new = me->name.empty();
        if (is_new) me->name = text + ":";
        here.say(me->name + " " + (is_new ? "here I am" : text) + "\n");
    }
    here.members.erase(me);
}

rondo::task<> talk(room& here, rondo::signals& ends) {
    auto all = [&](rondo::task_group& tasks) -> rondo::task<> {
        here.tasks = &tasks;
        for (auto each = here.members.begin(); each != here.members.end(); ++each)
            tasks.spawn(session, std::ref(here), each);
        auto accepts = [&]() -> rondo::task<> {
            for (;;) {
                rondo::unix_seqpacket peer = co_await here.listener.accept();
                here.members.emplace_front().peer = std::move(peer);
                tasks.spawn(session, std::ref(here), here.members.begin());
            }
        };
        tasks.spawn(accepts);
        co_await ends.next();
        tasks.cancel();
    };
    co_await rondo::with_task_group(all);
}

/// A descriptor that is sent is a copy: here nothing changes until the other process says that it has all of them.
rondo::task<> hand_over(room& here) {
    const int listener[] = {here.listener.native_handle()};
    co_await here.successor.send("listener", listener);
    for (const member& each : here.members) {
        const int descriptor[] = {each.peer.native_handle()};
        co_await here.successor.send("member " + each.name, descriptor);
    }
    co_await here.successor.send("end");
    std::array<char, 16> answer;
    const rondo::received_packet got = co_await here.successor.receive(answer);
    if (got.end) throw std::runtime_error("the successor has gone");
    const int ours = co_await here.listener.release();  // not close(), which would remove the file
    rondo::owned_descriptor closed(ours);
}

rondo::task<> take_over(room& here, std::string path) {
    rondo::unix_seqpacket predecessor = co_await rondo::unix_seqpacket::connect(path);
    co_await predecessor.send("/take-over");
    std::array<char, 4200> place;
    for (;;) {
        rondo::owned_descriptor came[1];
        const rondo::received_packet got = co_await predecessor.receive(place, came);
        const std::string_view what(place.data(), got.size);
        if (what == "end") {
            co_await predecessor.send("taken");
            co_return;
        }
        if (got.descriptors != 1) throw std::runtime_error("nobody hands over at " + path);
        if (what == "listener") {
            here.listener = rondo::unix_seqpacket_listener::from_fd(came[0].release());
        } else {
            here.members.push_back({rondo::unix_seqpacket::from_fd(came[0].release()), std::string(what.substr(7))});
        }
    }
}

rondo::task<> app(std::string path, bool takes_over) {
    room here;
    if (takes_over) co_await take_over(here, path);
    if (!takes_over) here.listener = rondo::unix_seqpacket_listener::bind(path);
    rondo::signals ends(SIGINT, SIGTERM);
    std::printf("listening on %s, with %zu members\n", path.c_str(), here.members.size());
    std::fflush(stdout);
    for (;;) {
        co_await talk(here, ends);
        if (!here.successor) co_return;
        try {
            co_await hand_over(here);
            co_return;
        } catch (const std::exception&) {
            here.successor = {};  // it has gone, and we go on
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    sample::options given(argc, argv,
                          "  --path NAME   a file, or @NAME for an abstract name (/tmp/rondo-chat)\n"
                          "  --take-over   from the process that serves there\n");
    const bool takes_over = given.flag("--take-over");
    const std::string path = given.text("--path", "/tmp/rondo-chat");
    given.done();
    return rondo::run_main(app, path, takes_over);
}
