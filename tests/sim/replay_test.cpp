#include <rondo/sim/replay.hpp>

#include <doctest/doctest.h>
#include <rondo/base/error.hpp>

#include <unistd.h>

#include <cstdio>
#include <set>
#include <string>
#include <vector>

using rondo::choice;
using rondo::decision_log;
using rondo::exhaustive_oracle;
using rondo::logged_choice;
using rondo::replay_oracle;

namespace {

/// A file that is gone afterwards.
struct temporary_file {
    std::string path = "/tmp/rondo_replay_test." + std::to_string(::getpid());
    ~temporary_file() { std::remove(path.c_str()); }

    std::string read() const {
        std::string all;
        if (std::FILE* f = std::fopen(path.c_str(), "rb")) {
            char part[4096];
            for (std::size_t n; (n = std::fread(part, 1, sizeof part, f)) != 0;) all.append(part, n);
            std::fclose(f);
        }
        return all;
    }
    void write(const std::string& all) const {
        std::FILE* f = std::fopen(path.c_str(), "wb");
        REQUIRE(f != nullptr);
        std::fwrite(all.data(), 1, all.size(), f);
        std::fclose(f);
    }
};

/// A run: what it asks depends on what was answered.
std::vector<std::uint32_t> ask(rondo::oracle& decides, int questions) {
    std::vector<std::uint32_t> answers;
    for (int i = 0; i < questions; ++i) {
        answers.push_back(decides.choose(choice::receive_size, 1000));
        answers.push_back(decides.choose(choice::completion_order, 1));
        answers.push_back(decides.happens(choice::packet_loss, 300'000));
        answers.push_back(decides.happens(choice::packet_copy, 0));
        if (answers[answers.size() - 2] != 0) answers.push_back(decides.choose(choice::network_delay, 32));
        answers.push_back(static_cast<std::uint32_t>(decides.bits(choice::user)));
    }
    return answers;
}

decision_log record(std::uint64_t seed, int questions, std::vector<std::uint32_t>& answers) {
    decision_log log;
    log.from = decision_log::origin::seeded;
    log.seed = seed;
    rondo::seeded_oracle seeded(seed);
    rondo::recording_oracle recording(seeded, log);
    answers = ask(recording, questions);
    return log;
}

}  // namespace

TEST_CASE("replay: recording changes no decision, and a replay gives the same ones") {
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        std::vector<std::uint32_t> recorded;
        const decision_log log = record(seed, 100, recorded);
        rondo::seeded_oracle seeded(seed);
        CHECK(ask(seeded, 100) == recorded);
        for (const auto mode : {replay_oracle::mode::exact, replay_oracle::mode::by_class}) {
            replay_oracle replay(log, mode);
            CHECK(ask(replay, 100) == recorded);
            CHECK_FALSE(replay.diverged());
            CHECK(replay.divergence().empty());
        }
    }
}

TEST_CASE("replay: a choice without an alternative, or of no chance, is not written down") {
    decision_log log;
    rondo::seeded_oracle seeded(1);
    rondo::recording_oracle recording(seeded, log);
    recording.choose(choice::accept_order, 1);
    recording.happens(choice::packet_loss, 0);
    CHECK(log.size() == 0);
    recording.choose(choice::accept_order, 2);
    CHECK(log.size() == 1);
}

TEST_CASE("replay: a log gives back what was added, whatever it is") {
    rondo::seeded_oracle dice(7);
    for (int round = 0; round < 200; ++round) {
        decision_log log;
        std::vector<logged_choice> added;
        std::uint64_t deviations = 0;
        const std::uint32_t count = dice.choose(choice::user, 60);
        for (std::uint32_t i = 0; i < count; ++i) {
            const auto point = static_cast<choice>(dice.choose(choice::user, 3));
            const std::uint32_t sizes[] = {2, 3, 127, 128, 70'000, ~0u};
            const std::uint32_t alternatives = sizes[dice.choose(choice::user, 2 + round % 5)];
            const std::uint32_t taken = dice.choose(choice::user, 3) == 0 ? dice.choose(choice::user, alternatives) : 0;
            log.add(point, alternatives, taken);
            added.push_back({point, alternatives, taken});
            deviations += taken != 0;
            if (i % 7 == 0) CHECK(log.decisions() == added);  // looking changes nothing
        }
        CHECK(log.decisions() == added);
        CHECK(log.size() == added.size());
        CHECK(log.deviations() == deviations);
        const temporary_file file;
        log.save(file.path);
        CHECK(decision_log::load(file.path).decisions() == added);
    }
}

TEST_CASE("replay: benign choices cost next to nothing in a file") {
    decision_log log;
    for (int i = 0; i < 1'000'000; ++i) log.add(choice::network_delay, 32, 0);
    const temporary_file file;
    log.save(file.path);
    CHECK(file.read().size() < 100);
    CHECK(decision_log::load(file.path).size() == 1'000'000);
}

TEST_CASE("replay: the first question that is not the log's is told, with both sides") {
    std::vector<std::uint32_t> answers;
    const decision_log log = record(3, 10, answers);
    const std::vector<logged_choice> all = log.decisions();
    replay_oracle replay(log);
    CHECK(replay.choose(choice::receive_size, 1000) == all[0].taken);
    CHECK(replay.choose(choice::receive_size, 1000) == 0);
    CHECK(replay.diverged());
    CHECK(replay.divergence() == "choice 2: the log has packet_loss of 2, the program asked for receive_size of 1000");
    CHECK(replay.choose(choice::receive_size, 1000) == 0);  // benign from there on
    CHECK(replay.divergence().find("choice 2:") == 0);

    decision_log short_one;
    short_one.add(choice::scenario, 5, 3);
    replay_oracle over(short_one);
    CHECK(over.choose(choice::scenario, 5) == 3);
    CHECK(over.choose(choice::scenario, 5) == 0);
    CHECK(over.divergence() == "choice 2: the log is at its end, the program asked for scenario of 5");
}

TEST_CASE("replay: by class, a question too many in one class does not shift the others") {
    decision_log log;
    for (std::uint32_t i = 1; i < 5; ++i) {
        log.add(choice::scenario, 10, i);
        log.add(choice::buggify, 10, i + 4);
    }
    replay_oracle replay(log, replay_oracle::mode::by_class);
    for (std::uint32_t i = 1; i < 5; ++i) CHECK(replay.choose(choice::buggify, 10) == i + 4);
    CHECK(replay.choose(choice::buggify, 10) == 0);
    CHECK(replay.choose(choice::scenario, 10) == 1);
    CHECK(replay.choose(choice::scenario, 2) == 1);  // 2 is none of its alternatives
    CHECK_FALSE(replay.diverged());
}

TEST_CASE("replay: a file keeps all that a run needs") {
    std::vector<std::uint32_t> answers;
    decision_log log = record(0xfeed'0000'0000'0001, 1000, answers);
    log.mode = rondo::order::chaos;
    log.event_hash = 0x8000'0000'0000'0001;
    log.name = "a name";
    const temporary_file file;
    log.save(file.path);
    const decision_log again = decision_log::load(file.path);
    CHECK(again.from == log.from);
    CHECK(again.mode == log.mode);
    CHECK(again.seed == log.seed);
    CHECK(again.event_hash == log.event_hash);
    CHECK(again.name == "a name");
    CHECK(again.size() == log.size());
    CHECK(again.deviations() == log.deviations());
    replay_oracle replay(again);
    CHECK(ask(replay, 1000) == answers);
}

TEST_CASE("replay: what is no log, or a damaged one, is refused") {
    const temporary_file file;
    CHECK_THROWS_AS(decision_log::load(file.path), rondo::io_error);  // there is none
    std::vector<std::uint32_t> answers;
    record(1, 20, answers).save(file.path);
    const std::string good = file.read();
    for (std::size_t size = 0; size < good.size(); ++size) {
        CAPTURE(size);
        file.write(good.substr(0, size));
        CHECK_THROWS_AS(decision_log::load(file.path), rondo::io_error);
    }
    file.write(good + "x");
    CHECK_THROWS_AS(decision_log::load(file.path), rondo::io_error);
    // Any byte may be wrong: then it is refused, or it is another log, and reading it is harmless.
    for (std::size_t i = 0; i < good.size(); ++i) {
        for (const int flip : {1, 0x80, 0xff}) {
            std::string bad = good;
            bad[i] = static_cast<char>(bad[i] ^ flip);
            file.write(bad);
            try {
                const decision_log log = decision_log::load(file.path);
                CHECK(log.decisions().size() == log.size());
            } catch (const rondo::io_error&) {
            }
        }
    }
    CHECK_THROWS_AS(record(1, 1, answers).save("/nowhere/at/all"), rondo::io_error);
}

TEST_CASE("replay: an exhaustive search decides in every way, once each") {
    exhaustive_oracle search({.choices = 100, .alternatives = 3, .deviations = 100});
    std::set<std::vector<std::uint32_t>> seen;
    int runs = 0;
    do {
        std::vector<std::uint32_t> run;
        run.push_back(search.choose(choice::scenario, 3));
        if (run[0] == 1) run.push_back(search.choose(choice::scenario, 2));  // the tree is not regular
        run.push_back(search.happens(choice::packet_loss, 1) ? 1 : 0);
        run.push_back(search.choose(choice::receive_size, 1000));
        CHECK(search.choose(choice::receive_size, 1) == 0);
        seen.insert(run);
        ++runs;
    } while (search.next());
    CHECK(runs == (1 + 2 + 1) * 2 * 3);
    CHECK(seen.size() == static_cast<std::size_t>(runs));
    bool last_of_many = false;
    for (const auto& run : seen) last_of_many |= run.back() == 999;
    CHECK(last_of_many);
}

TEST_CASE("replay: an exhaustive search keeps its limits") {
    const auto count = [](const rondo::search_limits& limits) {
        exhaustive_oracle search(limits);
        int runs = 0;
        do {
            std::uint32_t deviations = 0;
            for (int i = 0; i < 6; ++i) deviations += search.choose(choice::scenario, 2);
            CHECK(deviations <= limits.deviations);
            ++runs;
        } while (search.next());
        return runs;
    };
    CHECK(count({.choices = 6, .alternatives = 2, .deviations = 6}) == 64);
    CHECK(count({.choices = 6, .alternatives = 2, .deviations = 2}) == 1 + 6 + 15);
    CHECK(count({.choices = 3, .alternatives = 2, .deviations = 6}) == 8);
    CHECK(count({.choices = 6, .alternatives = 2, .deviations = 0}) == 1);
}
