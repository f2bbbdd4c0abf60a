#include "story.hpp"

#include <rondo/base/error.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <unordered_map>
#include <utility>

namespace rondo::observed {

namespace {

using kind = recorded_event::kind;

/// What is open while the events of one host go by.
struct open_host {
    index phase = nothing;
    index step = nothing;
    index began_waiting = nothing;  // in that step
    struct task {
        index life = nothing;
        index wait = nothing;
        index ended_wait = nothing;  // until it goes on, and its result is known
        index woken_by = nothing;
        time_point ready = never;
    };
    std::unordered_map<std::uint32_t, task> tasks;
    std::unordered_map<std::uint32_t, index> latest_lives;  // also of tasks that have ended
};

class teller {
 public:
    explicit teller(story& s) : s_(s), hosts_(s.of.hosts().size()) {}

    void tell() {
        s_.of.for_each([&](const recorded_event& e) {
            s_.begin = std::min(s_.begin, e.what == kind::polled ? e.when - waited(e) : e.when);
            s_.end = std::max(s_.end, e.when);
            if (e.what == kind::packet) return packet(e);
            if (e.what == kind::host) return happened(e);
            if (e.what == kind::decided)
                return s_.moments.push_back(
                    {e.host, e.when, "choice " + std::to_string(e.number) + ": " + e.text, e.number});
            if (e.what == kind::mark) return s_.moments.push_back({e.host, e.when, e.text, 0});
            event(e, hosts_[e.host]);
        });
        if (s_.begin == never) s_.begin = s_.end = {};
        for (open_host& h : hosts_) close(h, s_.end, life_span::fate::lives);
        for (packet_way& p : s_.packets)
            if (p.until == never) p.until = s_.end;
    }

 private:
    static duration waited(const recorded_event& e) { return duration(static_cast<duration::rep>(e.number)); }

    void event(const recorded_event& e, open_host& h) {
        switch (e.what) {
            case kind::phase:
                h.phase = static_cast<index>(s_.phases.size());
                s_.phases.push_back({{e.host, e.when, e.when}, static_cast<phase>(e.detail), false, 0});
                return;
            case kind::polled:
                h.phase = nothing;
                s_.phases.push_back({{e.host, e.when - waited(e), e.when}, phase::poll, true, e.size});
                return;
            case kind::spawned: {
                if (const auto old = h.tasks.find(e.task); old != h.tasks.end()) end_task(old->second, e.when);
                open_host::task& t = h.tasks[e.task] = {};
                t.life = new_life(e, h, h.step);
                woken(t, e, h);
                return;
            }
            case kind::ready: {
                open_host::task& t = task_of(e, h);
                end_wait(t, e.when);
                return woken(t, e, h);
            }
            case kind::step: return begin_step(e, h);
            case kind::waits: {
                open_host::task& t = task_of(e, h);
                t.wait = h.began_waiting = static_cast<index>(s_.waits.size());
                t.ended_wait = nothing;
                s_.waits.push_back(
                    {{e.host, e.when, never}, t.life, e.place, e.text, life_span::fate::lives, 0, std::string()});
                life_span& life = s_.lives[static_cast<std::size_t>(t.life)];
                if (life.root.line() == 0) life.root = e.root;
                return;
            }
            case kind::failed: {
                life_span& life = s_.lives[static_cast<std::size_t>(task_of(e, h).life)];
                life.error += e.text;
                life.failed_at = e.place;
                return;
            }
            case kind::ended: {
                open_host::task& t = task_of(e, h);
                life_span& life = s_.lives[static_cast<std::size_t>(t.life)];
                life.how = static_cast<life_span::fate>(e.detail);
                if (*e.text != '\0') life.name = e.text;
                end_wait(t, e.when);
                life.end = e.when;
                h.tasks.erase(e.task);
                return;
            }
            case kind::step_end:
                if (h.step != nothing) s_.steps[static_cast<std::size_t>(h.step)].end = e.when;
                if (h.phase != nothing) s_.phases[static_cast<std::size_t>(h.phase)].end = e.when;
                if (h.began_waiting != nothing) {  // it is shown beside the step, not over it
                    wait_span& w = s_.waits[static_cast<std::size_t>(h.began_waiting)];
                    w.begin = std::min(e.when, w.end);
                }
                h.step = h.began_waiting = nothing;
                return;
            case kind::packet:
            case kind::host:
            case kind::mark:
            case kind::decided: return;
        }
    }

    index new_life(const recorded_event& e, open_host& h, index parent) {
        s_.lives.push_back({{e.host, e.when, never},
                            e.task,
                            e.spawned,
                            e.text,
                            life_span::fate::lives,
                            parent,
                            std::string(),
                            std::source_location(),
                            std::source_location()});
        return h.latest_lives[e.task] = static_cast<index>(s_.lives.size()) - 1;
    }

    /// One whose spawning is not in the record lives from when it is first seen.
    open_host::task& task_of(const recorded_event& e, open_host& h) {
        open_host::task& t = h.tasks[e.task];
        if (t.life == nothing) t.life = new_life(e, h, nothing);
        life_span& life = s_.lives[static_cast<std::size_t>(t.life)];
        if (life.spawned.line() == 0) life.spawned = e.spawned;
        if ((e.what == kind::waits || e.what == kind::failed) && life.name == e.text) life.name = "";
        if (e.what == kind::step && *e.text != '\0') life.name = e.text;
        return t;
    }

    static void woken(open_host::task& t, const recorded_event& e, const open_host& h) {
        t.woken_by = h.step;
        t.ready = e.when;
    }

    void begin_step(const recorded_event& e, open_host& h) {
        h.step = static_cast<index>(s_.steps.size());
        s_.steps.push_back(
            {{e.host, e.when, never}, static_cast<step_kind>(e.detail), nothing, e.place, nothing, e.when});
        if (e.task == 0) return;
        open_host::task& t = task_of(e, h);
        end_wait(t, e.when);
        step_span& step = s_.steps.back();
        step.life = t.life;
        step.woken_by = t.woken_by;
        if (t.ready != never) step.ready = t.ready;
        if (t.ended_wait != nothing)
            give_result(s_.waits[static_cast<std::size_t>(t.ended_wait)], static_cast<std::int32_t>(e.number), h);
        t.ended_wait = nothing;
        t.woken_by = nothing;
        t.ready = never;
    }

    void end_wait(open_host::task& t, time_point when) {
        if (t.wait == nothing) return;
        s_.waits[static_cast<std::size_t>(t.wait)].end = when;
        t.ended_wait = std::exchange(t.wait, nothing);
    }

    /// A wait for another task ends as that one has.
    void give_result(wait_span& w, std::int32_t result, const open_host& h) const {
        using fate = life_span::fate;
        w.how = result >= 0 ? fate::value : result == -ECANCELED ? fate::cancelled : fate::error;
        w.result = result;
        if (w.how == fate::error) w.error = errno_code(-result).message() + " (errno " + std::to_string(-result) + ")";
        unsigned task = 0;
        int size = 0;
        if (result < 0 || std::sscanf(w.for_what, "task %u%n", &task, &size) != 1) return;
        if (w.for_what[size] != '\0' && std::string_view(w.for_what + size).substr(0, 2) != " '") return;
        const auto of = h.latest_lives.find(task);
        if (of == h.latest_lives.end()) return;
        const life_span& life = s_.lives[static_cast<std::size_t>(of->second)];
        if (life.how != fate::error && life.how != fate::cancelled) return;
        w.how = life.how;
        w.error = life.error;
    }

    void end_task(open_host::task& t, time_point when) {
        end_wait(t, when);
        if (t.life != nothing) s_.lives[static_cast<std::size_t>(t.life)].end = when;
        t.life = nothing;
    }

    void close(open_host& h, time_point when, life_span::fate how) {
        if (h.step != nothing) s_.steps[static_cast<std::size_t>(h.step)].end = when;
        for (auto& [number, t] : h.tasks) {
            if (t.life != nothing) s_.lives[static_cast<std::size_t>(t.life)].how = how;
            end_task(t, when);
        }
        h = {};
    }

    void packet(const recorded_event& e) {
        using what = recorded_event::packet_fate;
        const auto way = [&](time_point until, bool copy) {
            s_.packets.push_back({e.host, e.peer, e.when, until, false, copy,
                                  static_cast<recorded_event::packet_kind>(e.sort), e.size, e.source_port,
                                  e.destination_port});
        };
        switch (static_cast<what>(e.detail)) {
            case what::sent: under_way_[e.number].push_back(s_.packets.size()); return way(never, false);
            case what::copied: under_way_[e.number].push_back(s_.packets.size()); return way(never, true);
            case what::arrived:
            case what::lost: {
                const auto at = under_way_.find(e.number);
                if (at == under_way_.end()) return;  // its sending is not in the record any more
                packet_way& p = s_.packets[at->second.front()];
                p.until = std::max(e.when, p.sent);
                p.arrived = static_cast<what>(e.detail) == what::arrived;
                at->second.erase(at->second.begin());
                if (at->second.empty()) under_way_.erase(at);
                return;
            }
            case what::gave_up:
                s_.moments.push_back({e.host, e.when,
                                      std::string("gives up: ") +
                                          rondo::name_of(static_cast<recorded_event::packet_kind>(e.sort)) + " to " +
                                          s_.of.hosts()[e.peer],
                                      0});
        }
    }

    void happened(const recorded_event& e) {
        using what = recorded_event::host_fate;
        constexpr const char* names[] = {"started", "crashed",   "links cut", "links healed",
                                         "stopped", "signalled", "slow"};
        s_.moments.push_back({e.host, e.when, names[e.detail], 0});
        if (e.host >= hosts_.size()) return;
        if (static_cast<what>(e.detail) == what::crashed) close(hosts_[e.host], e.when, life_span::fate::crashed);
        if (static_cast<what>(e.detail) == what::stopped) close(hosts_[e.host], e.when, life_span::fate::lives);
    }

    story& s_;
    std::vector<open_host> hosts_;
    std::unordered_map<std::uint64_t, std::vector<std::size_t>> under_way_;
};

}  // namespace

story::story(const record& from) : of(from) { teller(*this).tell(); }

std::string label_of(const life_span& life) {
    std::string text = "task " + std::to_string(life.task);
    if (*life.name != '\0') text += std::string(" '") + life.name + "'";
    return text;
}

std::string label_of(const story& all, const step_span& step) {
    if (step.life != nothing) return label_of(all.lives[static_cast<std::size_t>(step.life)]);
    return step.what == step_kind::tick ? "tick" : step.what == step_kind::microtask ? "microtask" : "callback";
}

const char* name_of(life_span::fate how) noexcept {
    constexpr const char* names[] = {"a value", "an error", "cancelled", "lives", "its host crashed"};
    return names[static_cast<std::size_t>(how)];
}

}  // namespace rondo::observed
