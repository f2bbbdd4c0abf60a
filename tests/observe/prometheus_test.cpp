// Metrics in the text format of Prometheus.
#include "../../lib/loop/engine.hpp"
#include "support/observed.hpp"

#include <rondo/observe/prometheus.hpp>
#include <rondo/sim/world_recorder.hpp>

using namespace rondo;
using namespace std::chrono_literals;
using namespace test::observed;

namespace {

TEST_CASE("prometheus: series with labels, escaped; numbers are exact") {
    histogram h;
    for (const duration d : {duration(1024), duration(1025), duration(1'500'000'000)}) h.add(d);
    prometheus_writer to;
    to.counter("app_requests_total", "Requests,\nof all sorts \\.", 3, {{"path", "/a\"b\\c\nd"}, {"code", "200"}})
        .counter("app_requests_total", "", ~std::uint64_t{0}, {{"path", ""}})
        .gauge("app:temperature", "May be below zero.", -4)
        .seconds("app_seconds", "How long.", h, {{"of", "x"}});
    const auto all = parsed(to.text());
    CHECK(all[0].labels.at("path") == "/a\"b\\c\nd");
    CHECK(all[0].labels.at("code") == "200");
    CHECK(find(all, "app:temperature")->value == -4);
    check_histogram(all, "app_seconds");
    CHECK(to.text().find("app_requests_total{path=\"\"} 18446744073709551615\n") != std::string::npos);
    CHECK(to.text().find("app_seconds_bucket{of=\"x\",le=\"0.000001024\"} 1\n") != std::string::npos);
    CHECK(to.text().find("app_seconds_bucket{of=\"x\",le=\"0.000004096\"} 2\n") != std::string::npos);
    CHECK(to.text().find("app_seconds_sum{of=\"x\"} 1.500002049\n") != std::string::npos);
    CHECK(to.text().find("# HELP app_requests_total Requests,\\nof all sorts \\\\.\n") != std::string::npos);
}

TEST_CASE("prometheus: what Prometheus would refuse is an error") {
    prometheus_writer to;
    for (const char* name : {"", "1st", "a-b", "a b", "a{"})
        CHECK_THROWS_AS(to.gauge(name, "", 0), std::invalid_argument);
    CHECK_THROWS_AS(to.gauge("a", "", 0, {{"b:c", ""}}), std::invalid_argument);
    CHECK_THROWS_AS(to.seconds("a", "", histogram(), {{"le", "1"}}), std::invalid_argument);
    CHECK(to.text().empty());
    to.gauge("a", "", 0).gauge("b", "", 0);
    CHECK_THROWS_AS(to.gauge("a", "", 0), std::invalid_argument);
}

TEST_CASE("prometheus: what servers count, of one, and of several by their names") {
    test::run([]() -> task<> {
        server_control one, other;
        tcp_listener listener = test::listen();
        serve_options options;
        options.stop_on_signals = false;
        options.control = &one;
        options.max_connections = 1;
        options.refuse_when_full = true;
        auto server = spawn([&]() -> task<> { co_await serve(listener, test::echo_session, options); });
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        co_await client.write_all("?");
        static_cast<void>(co_await client.receive());
        tcp_stream refused = co_await tcp_stream::connect(listener.local());
        static_cast<void>(co_await attempt(refused.receive()));
        prometheus_writer alone;
        write_metrics(alone, one);
        const auto all = parsed(alone.text());
        CHECK(find(all, "rondo_serve_sessions")->value == 1);
        CHECK(find(all, "rondo_serve_accepted_total")->value == 1);
        CHECK(alone.text().find("rondo_serve_refused_total{limit=\"connections\"} 1\n") != std::string::npos);
        CHECK(alone.text().find("rondo_serve_refused_total{limit=\"peer\"} 0\n") != std::string::npos);
        CHECK(alone.text().find("rondo_serve_timed_out_total{limit=\"write_stall\"} 0\n") != std::string::npos);
        prometheus_writer both;
        write_metrics(both, {{"api", &one}, {"admin", &other}});
        static_cast<void>(parsed(both.text()));
        const std::string& text = both.text();
        CHECK(text.find("rondo_serve_sessions{server=\"api\"} 1\nrondo_serve_sessions{server=\"admin\"} 0\n") !=
              std::string::npos);
        CHECK(text.find("rondo_serve_refused_total{server=\"api\",limit=\"connections\"} 1\n") != std::string::npos);
        one.stop();
        co_await client.close();
        co_await server;
    });
}

}  // namespace
