// How the events look to Perfetto. Slices of one track must nest, so what may overlap, the lives of tasks, is
// asynchronous; and a flow begins and ends in the slice that is open on its track at that time.
#include <rondo/observe/chrome_trace.hpp>

#include "base/json.hpp"
#include "base/write_file.hpp"
#include "story.hpp"

#include <cinttypes>
#include <cstdio>

namespace rondo {

namespace {

using namespace observed;

enum track : int { phases_track = 1, steps_track = 2, network_track = 3 };

class chrome_writer {
 public:
    explicit chrome_writer(const record& seen) : all_(seen) {}

    std::string write() {
        out_ = "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"by\":\"rondo\",\"dropped\":" +
               std::to_string(all_.of.dropped()) + "},\"traceEvents\":[";
        names();
        for (const phase_span& p : all_.phases) write_phase(p);
        for (const step_span& s : all_.steps) write_step(s);
        // A wait lies within the life, also when both end at once: their order here decides.
        for (std::size_t i = 0; i < all_.lives.size(); ++i) begin_life(all_.lives[i], i);
        for (const wait_span& w : all_.waits) write_wait(w);
        for (std::size_t i = 0; i < all_.lives.size(); ++i) end_life(all_.lives[i], i);
        for (std::size_t i = 0; i < all_.packets.size(); ++i) write_packet(all_.packets[i], i);
        for (const moment& m : all_.moments) write_moment(m);
        return std::move(out_ += "\n]}\n");
    }

 private:
    /// Begins an event; what is particular to it follows, and then end().
    void begin(const char* type, std::string_view name, const char* category, unsigned host, int track,
               time_point when) {
        out_ += first_ ? "\n{\"ph\":\"" : ",\n{\"ph\":\"";
        first_ = false;
        out_ += type;
        out_ += "\",\"name\":";
        detail::add_quoted(out_, name);
        out_ += ",\"cat\":\"";
        out_ += category;
        char text[96];
        std::snprintf(text, sizeof text, "\",\"pid\":%u,\"tid\":%d,\"ts\":", host + 1, track);
        out_ += text;
        microseconds(when - all_.begin);
    }
    void end() { out_ += '}'; }
    void microseconds(duration d) {
        char text[48];
        const std::int64_t ns = d.count();
        std::snprintf(text, sizeof text, "%" PRId64 ".%03" PRId64, ns / 1000, ns % 1000);
        out_ += text;
    }
    void lasts(const span& s) {
        out_ += ",\"dur\":";
        microseconds((s.end == never ? all_.end : s.end) - s.begin);
    }
    void id(const char* kind, std::size_t n) { out_ += std::string(",\"id\":\"") + kind + std::to_string(n) + "\""; }
    void argument(const char* name, std::string_view text) {
        out_ += arguments_++ == 0 ? ",\"args\":{\"" : ",\"";
        out_ += name;
        out_ += "\":";
        detail::add_quoted(out_, text);
    }
    void end_arguments() {
        if (arguments_ != 0) out_ += '}';
        arguments_ = 0;
    }
    void place(const char* name, const std::source_location& at) {
        if (at.line() != 0) argument(name, std::string(at.file_name()) + ":" + std::to_string(at.line()));
    }

    void name(const char* what, unsigned host, int track, std::string_view text) {
        begin("M", what, "", host, track, all_.begin);
        argument("name", text);
        end_arguments();
        end();
    }
    void names() {
        for (unsigned h = 0; h < all_.of.hosts().size(); ++h) {
            name("process_name", h, 0, all_.of.hosts()[h]);
            name("thread_name", h, phases_track, "phases");
            name("thread_name", h, steps_track, "steps");
            if (all_.of.hosts().size() > 1) name("thread_name", h, network_track, "packets");
        }
    }

    void write_phase(const phase_span& p) {
        begin("X", p.polling ? "wait in poll" : rondo::name_of(p.which), "phase", p.host, phases_track, p.begin);
        lasts(p);
        if (p.polling) argument("completions", std::to_string(p.completions));
        end_arguments();
        end();
    }

    void write_step(const step_span& s) {
        begin("X", label_of(all_, s), "step", s.host, steps_track, s.begin);
        lasts(s);
        place("place", s.place);
        if (s.life != nothing) place("spawned", all_.lives[static_cast<std::size_t>(s.life)].spawned);
        end_arguments();
        end();
        if (s.woken_by == nothing) return;
        begin("s", "wakes", "wake", s.host, steps_track, s.ready);
        id("w", ++flows_);
        end();
        begin("f", "wakes", "wake", s.host, steps_track, s.begin);
        id("w", flows_);
        out_ += ",\"bp\":\"e\"";
        end();
    }

    void begin_life(const life_span& l, std::size_t number) {
        begin("b", label_of(l), "task", l.host, steps_track, l.begin);
        id("t", number);
        place("spawned", l.spawned);
        argument("end", observed::name_of(l.how));
        if (!l.error.empty()) argument("error", l.error);
        place("failed at", l.failed_at);
        end_arguments();
        end();
    }
    void end_life(const life_span& l, std::size_t number) {
        begin("e", label_of(l), "task", l.host, steps_track, l.end == never ? all_.end : l.end);
        id("t", number);
        end();
    }

    void write_wait(const wait_span& w) {
        if (w.life == nothing) return;
        const std::string_view what = *w.for_what != '\0' ? w.for_what : "waits";
        begin("b", what, "task", w.host, steps_track, w.begin);
        id("t", static_cast<std::size_t>(w.life));
        place("place", w.place);
        if (w.how != life_span::fate::lives) argument("result", w.error.empty() ? observed::name_of(w.how) : w.error);
        end_arguments();
        end();
        begin("e", what, "task", w.host, steps_track, w.end == never ? all_.end : w.end);
        id("t", static_cast<std::size_t>(w.life));
        end();
    }

    void write_packet(const packet_way& p, std::size_t number) {
        const auto& hosts = all_.of.hosts();
        std::string label = rondo::name_of(p.what);
        if (p.size != 0) label += " " + std::to_string(p.size);
        const auto ports = [&] {
            argument("from", hosts[p.from] + ":" + std::to_string(p.source_port));
            argument("to", hosts[p.to] + ":" + std::to_string(p.destination_port));
            end_arguments();
        };
        const char* const fate = p.arrived ? "" : " (lost)";
        begin("X", label + (p.copy ? " (copy)" : "") + fate, "packet", p.from, network_track, p.sent);
        out_ += ",\"dur\":0.001";
        ports();
        end();
        if (!p.arrived) return;
        begin("s", "packet", "packet", p.from, network_track, p.sent);
        id("p", number);
        end();
        begin("X", label, "packet", p.to, network_track, p.until);
        out_ += ",\"dur\":0.001";
        ports();
        end();
        begin("f", "packet", "packet", p.to, network_track, p.until);
        id("p", number);
        out_ += ",\"bp\":\"e\"";
        end();
    }

    void write_moment(const moment& m) {
        const bool everywhere = m.host == recorded_event::no_host;
        begin("i", m.text, "event", everywhere ? 0 : m.host, steps_track, m.when);
        out_ += everywhere ? ",\"s\":\"g\"" : ",\"s\":\"p\"";
        end();
    }

    story all_;
    std::string out_;
    bool first_ = true;
    int arguments_ = 0;
    std::size_t flows_ = 0;
};

}  // namespace

std::string chrome_trace(const record& seen) { return chrome_writer(seen).write(); }

void save_chrome_trace(const record& seen, const std::string& path) {
    detail::write_file(path, {chrome_trace(seen)}, "write the Chrome trace to");
}

}  // namespace rondo
