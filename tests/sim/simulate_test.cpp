// Many worlds: finding a failure, having it again, making it small.
#define RONDO_SIM 1
#include <rondo/sim/simulate.hpp>

#include <rondo/sim/buggify.hpp>

#include "support/net.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <string_view>

using namespace std::literals;
using rondo::explore;
using rondo::simulation;
using rondo::simulation_report;
using rondo::task;
using rondo::tcp_listener;
using rondo::tcp_stream;
using rondo::world;

namespace {

/// A variable of the environment, for as long as this lives.
class variable {
 public:
    variable(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
    ~variable() { ::unsetenv(name_); }
    variable(const variable&) = delete;
    variable& operator=(const variable&) = delete;

 private:
    const char* name_;
};

/// A folder for traces that is gone afterwards.
struct folder {
    folder() {
        char name[] = "/tmp/rondo_simulate_test.XXXXXX";
        REQUIRE(::mkdtemp(name) != nullptr);
        path = name;
    }
    ~folder() {
        for (const std::string& f : files) std::remove(f.c_str());
        ::rmdir(path.c_str());
    }
    std::string path;
    std::vector<std::string> files;
};

std::string text_of(const std::string& file) {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
}

/// A server with a bug: it takes what one read gives for a whole message of ten bytes.
task<> short_reader(std::vector<std::string>& messages) {
    auto listener = tcp_listener::bind("0.0.0.0", 80);
    auto peer = co_await listener.accept();
    for (;;) {
        std::byte message[10];
        const std::size_t n = co_await peer.read_some(message);
        if (n == 0) co_return;
        messages.push_back(test::as_text(std::span(message).first(n)));
    }
}

struct split_message : std::runtime_error {
    split_message() : runtime_error("a message was split") {}
};

task<> send_messages(world& w) {
    std::vector<std::string> messages;
    w.host("srv").run(short_reader, std::ref(messages));
    auto peer = co_await tcp_stream::connect(w.address_of("srv", 80));
    for (int i = 0; i < 5; ++i) {
        co_await peer.write_all("0123456789");
        co_await rondo::sleep_for(1s);
    }
    for (const std::string& m : messages)
        if (m.size() != 10) throw split_message();
}

task<> harmless(world& w) {
    w.host("srv").run([]() -> task<> {
        auto listener = tcp_listener::bind("0.0.0.0", 80);
        auto peer = co_await listener.accept();
        for (;;) {
            auto data = co_await peer.receive();
            if (data.empty()) co_return;
            co_await peer.write_all(data);
        }
    });
    auto peer = co_await tcp_stream::connect(w.address_of("srv", 80));
    co_await peer.write_all("0123456789");
    std::byte answer[10];
    co_await peer.read_exactly(answer);
}

simulation quiet(std::uint64_t runs) {
    simulation s = rondo::seeds(runs);
    s.name = "quiet";
    s.quiet = true;
    return s;
}

/// What the process writes to standard error while this lives.
class heard {
 public:
    heard() : file_(std::tmpfile()), before_(::dup(2)) {
        REQUIRE(file_ != nullptr);
        std::fflush(stderr);
        ::dup2(::fileno(file_), 2);
    }
    ~heard() {
        ::dup2(before_, 2);
        ::close(before_);
        std::fclose(file_);
    }
    heard(const heard&) = delete;
    heard& operator=(const heard&) = delete;
    std::string text() const {
        std::string all(static_cast<std::size_t>(::lseek(::fileno(file_), 0, SEEK_END)), ' ');
        const auto n = ::pread(::fileno(file_), all.data(), all.size(), 0);
        all.resize(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
        return all;
    }

 private:
    std::FILE* file_;
    int before_;
};

std::size_t count_of(std::string_view part, std::string_view text) {
    std::size_t n = 0;
    for (std::size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) ++n;
    return n;
}

}  // namespace

TEST_CASE("simulate: worlds without a failure are all run") {
    const simulation_report report = explore(quiet(50), harmless);
    CHECK_FALSE(report.failed);
    CHECK(report.runs == 50);
    CHECK(report.counts.worlds == 51);
    CHECK(report.message.find("quiet: 50 worlds and the benign one, none failed (") == 0);
    CHECK(report.message.find(" of virtual time") != std::string::npos);
    CHECK_NOTHROW(rondo::simulate(quiet(5), harmless));
}

TEST_CASE("simulate: a success is said on standard error, in one line, unless nobody wants to know") {
    simulation s = quiet(5);
    const heard all;
    rondo::simulate(s, harmless);
    CHECK(all.text().empty());
    s.quiet = false;
    {
        const variable hush("RONDO_SIM_QUIET", "1");
        rondo::simulate(s, harmless);
        CHECK(all.text().empty());
    }
    rondo::simulate(s, harmless);
    CHECK(all.text().find("quiet: 5 worlds and the benign one, none failed (") == 0);
    CHECK(count_of("\n", all.text()) == 1);
}

TEST_CASE("simulate: a success says how many faults there were") {
    const simulation_report report = explore(quiet(20), [](world& w) -> task<> {
        w.link("test", "srv").loss(rondo::percent(10)).duplication(rondo::percent(10)).reordering(rondo::percent(10));
        co_await harmless(w);
    });
    CHECK_FALSE(report.failed);
    CHECK(report.counts.packets_lost > 0);
    CHECK(report.message.find(std::to_string(report.counts.packets_lost) + " packets lost, ") != std::string::npos);
    CHECK(report.counts.virtual_time > 1s);
    CHECK(report.message.find(" s ") != std::string::npos);
}

TEST_CASE("simulate: the benign world comes first, and what fails in it needs no fault") {
    folder traces;
    simulation s = quiet(50);
    s.shrink = true;
    s.trace_folder = traces.path.c_str();
    int runs = 0;
    const auto always = [&](world& w) -> task<> {
        ++runs;
        co_await harmless(w);
        throw split_message();
    };
    const simulation_report report = explore(s, always);
    traces.files = {report.trace_file, report.timeline_file, report.chrome_file};
    CHECK(report.failed);
    CHECK(report.benign);
    CHECK(report.runs == 1);
    CHECK(runs == 2);  // the second is recorded
    CHECK(report.decisions.deviations() == 0);
    CHECK(report.message.find("quiet: benign world: ") == 0);
    CHECK(report.message.find("fails in the benign world: no fault is needed") != std::string::npos);
    CHECK(report.message.find("shrunk") == std::string::npos);
    CHECK(report.message.find("RONDO_SIM_SEED=benign") != std::string::npos);
    CHECK(report.trace_file == traces.path + "/quiet-benign.rtrace");
    {
        const variable file("RONDO_SIM_REPLAY", report.trace_file);
        CHECK(explore(s, always).message == report.message);
    }
    {
        const variable seed("RONDO_SIM_SEED", "benign");
        CHECK(explore(quiet(50), always).benign);
        const simulation_report fine = explore(quiet(50), harmless);
        CHECK(fine.counts.worlds == 1);
        CHECK(fine.message.find("quiet: the benign world, none failed (") == 0);
    }
    {
        const variable seed("RONDO_SIM_SEED", "3");  // only that one
        CHECK(explore(quiet(50), always).message.find("quiet: seed 0x3: ") == 0);
        const simulation_report shrunk = explore(s, always);
        CHECK(shrunk.benign);
        CHECK(shrunk.message.find("fails in the benign world too, no fault is needed") != std::string::npos);
        traces.files.insert(traces.files.end(), {shrunk.trace_file, shrunk.timeline_file, shrunk.chrome_file});
    }
}

TEST_CASE("simulate: the first failing seed ends it, and is told") {
    const simulation_report report = explore(quiet(50), send_messages);
    REQUIRE(report.failed);
    CHECK(report.runs == report.seed + 1);
    CHECK(report.message.find("quiet: seed 0x") == 0);
    CHECK(report.message.find("a message was split") != std::string::npos);
    CHECK(report.message.find("RONDO_SIM_SEED=0x") != std::string::npos);
    CHECK_THROWS_AS(std::rethrow_exception(report.error), split_message);
    try {
        rondo::simulate(quiet(50), send_messages);
        FAIL("did not fail");
    } catch (const rondo::simulation_failed& e) {
        CHECK(e.what() == report.message);
        CHECK_THROWS_AS(std::rethrow_if_nested(e), split_message);
    }
}

TEST_CASE("simulate: a failure is had again from its seed, and from its file") {
    folder traces;
    simulation s = quiet(50);
    s.trace_folder = traces.path.c_str();
    const simulation_report first = explore(s, send_messages);
    REQUIRE(first.failed);
    traces.files = {first.trace_file, first.timeline_file, first.chrome_file};
    CHECK(first.message.find("look:  " + first.timeline_file) != std::string::npos);
    CHECK(first.message.find("RONDO_SIM_REPLAY=" + first.trace_file) != std::string::npos);
    {
        const variable seed("RONDO_SIM_SEED", std::to_string(first.seed));
        const simulation_report again = explore(quiet(50), send_messages);
        CHECK(again.failed);
        CHECK(again.runs == 1);
        CHECK(again.event_hash == first.event_hash);
    }
    {
        const variable file("RONDO_SIM_REPLAY", first.trace_file);
        const simulation_report again = explore(quiet(50), send_messages);
        CHECK(again.failed);
        CHECK(again.runs == 1);
        CHECK(again.event_hash == first.event_hash);
        CHECK(again.decisions.decisions() == first.decisions.decisions());

        simulation other = quiet(3);  // not the one the file is of
        other.name = "other";
        CHECK(explore(other, harmless).runs == 3);

        // The program has changed.
        const simulation_report changed = explore(quiet(50), harmless);
        CHECK(changed.failed);
        CHECK(changed.message.find("diverges from its log at choice ") != std::string::npos);
        const variable go_on("RONDO_SIM_GO_ON", "1");
        CHECK_FALSE(explore(quiet(50), harmless).failed);
    }
}

TEST_CASE("simulate: a failure is shrunk to the decisions that it needs") {
    folder traces;
    simulation s = quiet(50);
    s.shrink = true;
    s.trace_folder = traces.path.c_str();
    const simulation_report report = explore(s, send_messages);
    REQUIRE(report.failed);
    traces.files = {report.trace_file, report.timeline_file, report.chrome_file};
    CHECK(report.decisions.deviations() == 1);  // one read of fewer bytes
    CHECK(report.message.find("shrunk to 1 of ") != std::string::npos);
    CHECK(report.message.find(": receive_size 1 of 10 (a read gets only so many of the bytes") != std::string::npos);
    CHECK(report.message.find("as found: RONDO_SIM_SEED=0x") != std::string::npos);
    // The timeline shows it, too, and no other.
    const std::string page = text_of(report.timeline_file);
    const std::size_t at = page.find("\"choice ");
    REQUIRE(at != std::string::npos);
    CHECK(page.substr(at, page.find('"', at + 1) - at).ends_with(": receive_size 1 of 10"));
    CHECK(page.find("\"choice ", at + 1) == std::string::npos);

    const variable file("RONDO_SIM_REPLAY", report.trace_file);
    const simulation_report again = explore(quiet(50), send_messages);
    CHECK(again.failed);
    CHECK_THROWS_AS(std::rethrow_exception(again.error), split_message);
}

TEST_CASE("simulate: the replay of a shrunk run is one run, and says what was said of that") {
    // A replay was shrunk once more, and then the run as it had been found was recommended.
    folder traces;
    simulation s = quiet(50);
    s.shrink = true;
    s.trace_folder = traces.path.c_str();
    int runs = 0;
    const auto scenario = [&](world& w) -> task<> {
        ++runs;
        const std::uint32_t drawn = w.choose(100);
        const auto time = std::chrono::seconds(drawn);
        co_await rondo::sleep_for(time);
        if (drawn > 0) throw std::runtime_error("after " + std::to_string(drawn) + " s");
    };
    const simulation_report first = explore(s, scenario);
    traces.files = {first.trace_file, first.timeline_file, first.chrome_file};
    REQUIRE(first.failed);
    CHECK(runs > 3);
    CHECK(first.message.find("after 1 s\n") != std::string::npos);  // what the shrunk run said
    for (const char* shrinks : {"", "1"}) {                         // it is shrunk already
        const variable file("RONDO_SIM_REPLAY", first.trace_file);
        const variable shrink("RONDO_SIM_SHRINK", shrinks);
        runs = 0;
        const simulation_report again = explore(s, scenario);
        CHECK(runs == 1);
        CHECK(again.message == first.message);
        CHECK(again.event_hash == first.event_hash);
        CHECK(again.decisions.decisions() == first.decisions.decisions());
    }
}

TEST_CASE("simulate: a replay that does not fail any more says so") {
    folder traces;
    simulation s = quiet(50);
    s.trace_folder = traces.path.c_str();
    bool mended = false;
    const auto scenario = [&](world& w) -> task<> {
        if (w.choose(10) == 3 && !mended) throw split_message();
        co_return;
    };
    const simulation_report first = explore(s, scenario);
    traces.files = {first.trace_file, first.timeline_file, first.chrome_file};
    REQUIRE(first.failed);
    mended = true;
    const variable file("RONDO_SIM_REPLAY", first.trace_file);
    const simulation_report again = explore(s, scenario);
    CHECK_FALSE(again.failed);
    CHECK(again.message.find(first.trace_file + " was replayed, and did not fail") != std::string::npos);
}

TEST_CASE("simulate: a file of an unshrunk run is shrunk on request, into a file of its own") {
    folder traces;
    simulation s = quiet(50);
    s.trace_folder = traces.path.c_str();
    const simulation_report first = explore(s, send_messages);
    REQUIRE(first.failed);
    const variable file("RONDO_SIM_REPLAY", first.trace_file);
    const variable shrink("RONDO_SIM_SHRINK", "1");
    const simulation_report small = explore(s, send_messages);
    traces.files = {first.trace_file, first.timeline_file, first.chrome_file, small.trace_file};
    CHECK(small.trace_file != first.trace_file);
    CHECK(small.decisions.deviations() == 1);
    CHECK(rondo::decision_log::load(small.trace_file).shrunk_from == first.decisions.deviations());
}

namespace {
/// The library logs a warning for each session that fails.
task<> with_warnings(world& w) {
    const auto fails = [](tcp_stream&) -> task<> {
        throw std::runtime_error("bad request");
        co_return;
    };
    w.host("srv").run([fails]() -> task<> {
        auto listener = tcp_listener::bind("0.0.0.0", 80);
        co_await rondo::serve(listener, fails);
    });
    auto peer = co_await tcp_stream::connect(w.address_of("srv", 80));
    std::byte none[1];
    static_cast<void>(co_await rondo::attempt(peer.read_some(none)));
    if (w.choose(4) == 3) throw split_message();
}
}  // namespace

TEST_CASE("simulate: the log shows the run that failed as it was found, and its replay, and no other") {
    const char* const line = "bad request";
    {
        const heard log;
        CHECK_FALSE(explore(quiet(20), [](world& w) -> task<> {
                        try {
                            co_await with_warnings(w);
                        } catch (const split_message&) {
                        }
                    }).failed);
        CHECK(log.text().empty());
    }
    simulation s = quiet(50);
    {
        const heard log;
        CHECK(explore(s, with_warnings).failed);
        CHECK(count_of(line, log.text()) == 1);
        CHECK(log.text().find("--- the log of quiet: seed 0x") == 0);
    }
    s.shrink = true;
    {
        const heard log;
        CHECK(explore(s, with_warnings).failed);
        CHECK(count_of(line, log.text()) == 2);
        CHECK(count_of(", replayed\n", log.text()) == 1);
    }
    {
        const heard log;
        const variable all("RONDO_SIM_LOG", "all");
        CHECK(explore(s, with_warnings).failed);
        CHECK(count_of(line, log.text()) > 3);
    }
}

TEST_CASE("simulate: a log sink of the program hears every run") {
    static int heard_lines = 0;
    heard_lines = 0;
    rondo::set_log_sink([](const rondo::log_record&, void*) noexcept { ++heard_lines; });
    CHECK_FALSE(explore(quiet(10), [](world& w) -> task<> {
                    try {
                        co_await with_warnings(w);
                    } catch (const split_message&) {
                    }
                }).failed);
    rondo::set_log_sink(nullptr);
    CHECK(heard_lines == 11);
}

TEST_CASE("simulate: shrinking keeps decisions that are needed together") {
    const auto needs_three = [](world& w) -> task<> {
        std::uint32_t sum = 0;
        for (int i = 0; i < 200; ++i) {
            const std::uint32_t drawn = w.choose(4);
            if (i % 50 == 49) sum += drawn != 0;
            co_await rondo::yield();
        }
        if (sum >= 3) throw std::runtime_error("three of four");
    };
    const simulation_report report = explore(quiet(100), needs_three);
    REQUIRE(report.failed);
    CHECK(report.decisions.deviations() > 100);
    const rondo::decision_log small = rondo::shrink(quiet(1), report.decisions, needs_three);
    CHECK(small.deviations() == 3);
    for (const rondo::logged_choice& d : small.decisions()) CHECK(d.taken <= 1);
}

TEST_CASE("simulate: a search finds what needs two decisions, and counts all that there are") {
    int runs = 0;
    const auto narrow = [&](world& w) -> task<> {
        ++runs;
        const std::uint32_t a = w.choose(3);
        const std::uint32_t b = w.choose(3);
        if (a == 2 && b == 1) throw std::runtime_error("found");
        co_return;
    };
    const simulation_report found = explore(rondo::every_choice(), narrow);
    CHECK(found.failed);
    CHECK(found.message.find("found") != std::string::npos);
    runs = 0;
    const auto wide = [&](world& w) -> task<> {
        ++runs;
        w.choose(3);
        w.choose(3);
        co_return;
    };
    const simulation_report all = explore(rondo::every_choice(), wide);
    CHECK_FALSE(all.failed);
    CHECK(all.runs == 9);
    CHECK(runs == 9);
    CHECK(explore(rondo::every_choice({}, 4), wide).runs == 4);
}

TEST_CASE("simulate: deadlocks, live-locks and leaks are failures, and shrink") {
    const auto deadlock = [](world& w) -> task<> {
        if (w.choose(2) == 0) co_return;
        auto listener = tcp_listener::bind("0.0.0.0", 1);
        co_await listener.accept();
    };
    simulation s = quiet(20);
    s.shrink = true;
    const simulation_report stuck = explore(s, deadlock);
    CHECK(stuck.failed);
    CHECK(stuck.decisions.deviations() == 1);
    CHECK(stuck.message.find("deadlock at") != std::string::npos);

    const variable few("RONDO_SIM_STEPS", "10000");
    const simulation_report busy = explore(quiet(1), [](world&) -> task<> {
        for (;;) co_await rondo::yield();
    });
    CHECK(busy.message.find("live-lock: 10000 steps") != std::string::npos);
}

TEST_CASE("simulate: what outlives its world is a leak") {
    std::vector<rondo::timer> kept;
    const simulation_report report = explore(quiet(5), [&](world&) -> task<> {
        kept.push_back(rondo::this_loop().set_timeout(1h, [] {}));
        co_return;
    });
    CHECK(report.failed);
    CHECK(report.runs == 1);
    CHECK(report.message.find("left when the world was gone: 1 ") != std::string::npos);
}

TEST_CASE("simulate: check runs every seed twice, and finds what no seed decides") {
    simulation s = quiet(10);
    s.check = true;
    CHECK_FALSE(explore(s, harmless).failed);
    int runs = 0;
    const auto by_a_static = [&](world& w) -> task<> {
        if (++runs == 8) co_await rondo::sleep_for(1s);
        w.choose(2);
        co_await harmless(w);
        if (runs == 8) w.choose(3);
    };
    const simulation_report report = explore(s, by_a_static);
    CHECK(report.failed);
    CHECK(report.seed == 2);  // its second run, behind two of the benign world
    CHECK(report.message.find("was two different ones") != std::string::npos);
}

TEST_CASE("simulate: a test framework that has seen a failure ends the run") {
    std::uint64_t failed = 41;
    simulation s = quiet(10);
    s.failures = [](void* f) { return *static_cast<std::uint64_t*>(f); };
    s.context = &failed;
    s.command = "./tests";
    int went_on = 0;
    const auto checks = [&](world&) -> task<> {
        co_await rondo::sleep_for(1s);
        ++failed;
        co_await rondo::sleep_for(1s);
        ++went_on;
    };
    const simulation_report report = explore(s, checks);
    CHECK(report.failed);
    CHECK(report.runs == 1);
    CHECK(went_on == 0);
    CHECK(report.error == nullptr);
    CHECK(report.message.find("RONDO_SIM_SEED=benign ./tests") != std::string::npos);
}

TEST_CASE("simulate: RONDO_ALWAYS fails the run, with its words and its line") {
    const auto program = [](world& w) -> task<> {
        for (std::uint32_t i = 0; i < 10; ++i) {
            RONDO_ALWAYS(w.choose(8) != 7, "seven is never drawn");
            co_await rondo::sleep_for(1s);
        }
    };
    simulation s = quiet(100);
    s.shrink = true;
    const simulation_report report = explore(s, program);
    CHECK(report.failed);
    CHECK(report.message.find("always: seven is never drawn - not so at ") != std::string::npos);
    CHECK(report.message.find("simulate_test.cpp:") != std::string::npos);
    CHECK(report.decisions.deviations() == 1);
}

TEST_CASE("simulate: RONDO_SOMETIMES must hold in one run of many") {
    const auto program = [](world& w) -> task<> {
        RONDO_SOMETIMES(w.choose(20) == 7, "seven is drawn");
        RONDO_SOMETIMES(w.choose(20) > 20, "more than twenty is drawn");
        co_return;
    };
    const simulation_report report = explore(quiet(200), program);
    CHECK(report.failed);
    CHECK(report.runs == 200);
    CHECK(report.message.find("never in 200 runs: more than twenty is drawn") != std::string::npos);
    CHECK(report.message.find("seven is drawn") == std::string::npos);
    const auto one = [](world&) -> task<> {
        RONDO_SOMETIMES(false, "never");
        co_return;
    };
    CHECK_FALSE(explore(quiet(1), one).failed);  // one run shows nothing
}

TEST_CASE("simulate: RONDO_BUGGIFY is on in some runs and then fires sometimes; outside never") {
    CHECK_FALSE(RONDO_BUGGIFY());
    int runs_with = 0;
    int fired = 0;
    const auto program = [&](world&) -> task<> {
        int here = 0;
        for (int i = 0; i < 100; ++i) here += RONDO_BUGGIFY();
        runs_with += here != 0;
        fired += here;
        co_return;
    };
    CHECK_FALSE(explore(quiet(400), program).failed);
    CHECK(runs_with > 60);  // a quarter of 400
    CHECK(runs_with < 140);
    CHECK(fired > runs_with * 15);
    CHECK(fired < runs_with * 35);
    fired = 0;
    rondo::world w;  // benign
    w.run(program, std::ref(w));
    CHECK(fired == 0);
}

TEST_CASE("simulate: the environment has the last word, and what it says must make sense") {
    {
        const variable seeds("RONDO_SIM_SEEDS", "7");
        CHECK(explore(quiet(2), harmless).runs == 7);
    }
    for (const char* name : {"RONDO_SIM_SEEDS", "RONDO_SIM_SEED", "RONDO_SIM_STEPS", "RONDO_SIM_MODE"}) {
        const variable wrong(name, "many");
        CHECK_THROWS_AS(static_cast<void>(explore(quiet(1), harmless)), rondo::io_error);
    }
    std::set<std::string> seen;
    const auto order = [&](world&) -> task<> {
        std::string text;
        std::vector<rondo::task_handle<>> all;
        for (int i = 0; i < 3; ++i)
            all.push_back(rondo::spawn(
                [&](int n) -> task<> {
                    text += static_cast<char>('0' + n);
                    co_return;
                },
                i));
        for (auto& t : all) co_await t;
        seen.insert(text);
    };
    static_cast<void>(explore(quiet(30), order));
    CHECK(seen == std::set<std::string>{"012"});
    const variable chaos("RONDO_SIM_MODE", "chaos");
    static_cast<void>(explore(quiet(30), order));
    CHECK(seen.size() > 3);
}
