// Tests with Catch2 that are coroutines: on the backend that RONDO_BACKEND names, or simulated in many worlds:
//
//     RONDO_TEST("client: says hello", "[client]") {
//         const std::string answer = co_await ask("hello");
//         CHECK(answer == "pong");
//     }
//     RONDO_SIM_TEST("client: reconnects after a partition", rondo::seeds(200)) {   // `w` is its world
//         w.host("srv").run(app);
//         ...
//         CHECK(answer == "pong");
//     }
//
// The first simulated run in which a check fails ends the test, writes its decisions to a file in the working directory
// (or RONDO_SIM_TRACE_DIR), with a timeline and a Chrome trace next to it, and says how to have that run again.
// Checks in programs of other hosts count as well. Catch2 is for one thread: check on the loop's. Await into a variable
// first: CHECK(co_await x) does not work on g++ 12. For Catch2 2, of one header; 3 has other interfaces.
#pragma once

#include <rondo/sim/simulate.hpp>
#include <rondo/task/run.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#if !__has_include(<catch2/catch.hpp>) && __has_include(<catch2/catch_all.hpp>)
#error "rondo/testing/catch2.hpp is for Catch2 2; in a TEST_CASE of Catch2 3, call rondo::run() or rondo::simulate()"
#endif
#include <catch2/catch.hpp>

namespace rondo::testing {

/// Stands between the asserts of Catch2 and who hears of them, for as long as it lives: counts those that fail, and
/// while a run is made again, keeps what fails to itself.
class catch_failures final : public Catch::IResultCapture {
 public:
    catch_failures() : inside_(Catch::getResultCapture()) { Catch::getCurrentMutableContext().setResultCapture(this); }
    ~catch_failures() override { Catch::getCurrentMutableContext().setResultCapture(&inside_); }
    catch_failures(const catch_failures&) = delete;
    catch_failures& operator=(const catch_failures&) = delete;

    std::uint64_t count() const noexcept { return count_; }
    void silence(bool begins) noexcept { silent_ = begins; }

 private:
    using reaction = Catch::AssertionReaction;
    using info = Catch::AssertionInfo;

    // What asserts say.
    void handleExpr(const info& of, const Catch::ITransientExpression& is, reaction& what) override {
        if (silent_) return judge(of, is.getResult() != Catch::isFalseTest(of.resultDisposition), what);
        inside_.handleExpr(of, is, what);
        note();
    }
    void handleMessage(const info& of, Catch::ResultWas::OfType type, const Catch::StringRef& message,
                       reaction& what) override {
        if (silent_) return judge(of, Catch::isOk(type), what);
        inside_.handleMessage(of, type, message, what);
        note();
    }
    void handleUnexpectedExceptionNotThrown(const info& of, reaction& what) override {
        if (silent_) return judge(of, false, what);
        inside_.handleUnexpectedExceptionNotThrown(of, what);
        note();
    }
    void handleUnexpectedInflightException(const info& of, const std::string& message, reaction& what) override {
        if (silent_) return judge(of, false, what);
        inside_.handleUnexpectedInflightException(of, message, what);
        note();
    }
    void handleIncomplete(const info& of) override {
        reaction none;
        if (silent_) return judge(of, false, none);
        inside_.handleIncomplete(of);
        note();
    }
    void handleNonExpr(const info& of, Catch::ResultWas::OfType type, reaction& what) override {
        if (silent_) return judge(of, Catch::isOk(type), what);
        inside_.handleNonExpr(of, type, what);
        note();
    }

    // What it only passes on.
    bool sectionStarted(const Catch::SectionInfo& section, Catch::Counts& asserts) override {
        return inside_.sectionStarted(section, asserts);
    }
    void sectionEnded(const Catch::SectionEndInfo& section) override { inside_.sectionEnded(section); }
    void sectionEndedEarly(const Catch::SectionEndInfo& section) override { inside_.sectionEndedEarly(section); }
    auto acquireGeneratorTracker(Catch::StringRef name, const Catch::SourceLineInfo& at)
        -> Catch::IGeneratorTracker& override {
        return inside_.acquireGeneratorTracker(name, at);
    }
#if defined(CATCH_CONFIG_ENABLE_BENCHMARKING)
    void benchmarkPreparing(const std::string& name) override { inside_.benchmarkPreparing(name); }
    void benchmarkStarting(const Catch::BenchmarkInfo& of) override { inside_.benchmarkStarting(of); }
    void benchmarkEnded(const Catch::BenchmarkStats<>& of) override { inside_.benchmarkEnded(of); }
    void benchmarkFailed(const std::string& error) override { inside_.benchmarkFailed(error); }
#endif
    void pushScopedMessage(const Catch::MessageInfo& message) override { inside_.pushScopedMessage(message); }
    void popScopedMessage(const Catch::MessageInfo& message) override { inside_.popScopedMessage(message); }
    void emplaceUnscopedMessage(const Catch::MessageBuilder& message) override {
        inside_.emplaceUnscopedMessage(message);
    }
    void handleFatalErrorCondition(Catch::StringRef message) override { inside_.handleFatalErrorCondition(message); }
    bool lastAssertionPassed() override { return silent_ ? last_passed_ : inside_.lastAssertionPassed(); }
    void assertionPassed() override {
        last_passed_ = true;
        if (!silent_) inside_.assertionPassed();
    }
    std::string getCurrentTestName() const override { return inside_.getCurrentTestName(); }
    const Catch::AssertionResult* getLastResult() const override { return inside_.getLastResult(); }
    void exceptionEarlyReported() override { inside_.exceptionEarlyReported(); }

    void note() { count_ += !inside_.lastAssertionPassed(); }
    void judge(const info& of, bool passed, reaction& what) noexcept {
        last_passed_ = passed || Catch::shouldSuppressFailure(of.resultDisposition);
        if (last_passed_) return;
        ++count_;
        what.shouldThrow = (of.resultDisposition & Catch::ResultDisposition::Normal) != 0;
    }

    Catch::IResultCapture& inside_;
    std::uint64_t count_ = 0;
    bool silent_ = false;
    bool last_passed_ = true;
};

/// What RONDO_SIM_TEST does with its body.
template <class F>
void simulate_in_catch2(const char* file, int line, const char* name, simulation what, F&& scenario) {
    std::string filter;
    for (const char* at = name; *at != '\0'; ++at) {  // these mean something in a filter
        if (*at == ',' || *at == '[' || *at == '"' || *at == '\\') filter += '\\';
        filter += *at;
    }
    const std::string command = std::string(program_invocation_name) + " \"" + filter + "\"";
    what.name = name;
    what.command = command.c_str();
    if (what.trace_folder[0] == '\0') what.trace_folder = ".";
    simulation_report report;
    {
        catch_failures failed;
        what.context = &failed;
        what.failures = [](void* of) { return static_cast<catch_failures*>(of)->count(); };
        what.again = [](bool begins, void* of) { static_cast<catch_failures*>(of)->silence(begins); };  // said before
        report = explore(what, scenario);
    }
    if (!report.failed) return;
    std::fprintf(stderr, "\n%s\n", report.message.c_str());  // where nobody breaks the lines that one may paste
    Catch::AssertionHandler failure("RONDO_SIM_TEST", Catch::SourceLineInfo(file, static_cast<std::size_t>(line)), name,
                                    Catch::ResultDisposition::ContinueOnFailure);
    failure.handleMessage(Catch::ResultWas::ExplicitFailure, report.message);
    failure.complete();
}

}  // namespace rondo::testing

#define RONDO_TEST_AS(function, ...)                   \
    static ::rondo::task<> function();                 \
    TEST_CASE(__VA_ARGS__) { ::rondo::run(function); } \
    static ::rondo::task<> function()

/// RONDO_TEST(name, tags) { body }; the tags may be left out.
#define RONDO_TEST(...) RONDO_TEST_AS(INTERNAL_CATCH_UNIQUE_NAME(rondo_test_), __VA_ARGS__)

#define RONDO_SIM_TEST_AS(function, name, ...)                                                                 \
    static ::rondo::task<> function(::rondo::world& w);                                                        \
    TEST_CASE(name) { ::rondo::testing::simulate_in_catch2(__FILE__, __LINE__, name, __VA_ARGS__, function); } \
    static ::rondo::task<> function([[maybe_unused]] ::rondo::world& w)

/// RONDO_SIM_TEST(name, simulation) { body }
#define RONDO_SIM_TEST(name, ...) RONDO_SIM_TEST_AS(INTERNAL_CATCH_UNIQUE_NAME(rondo_simulated_), name, __VA_ARGS__)
