#include "story.hpp"

#include <algorithm>
#include <unordered_map>

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
        index woken_by = nothing;
        time_point ready = never;
    };
    std::unordered_map<std::uint32_t, task> tasks;
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
            if (e.what == kind::mark) return s_.moments.push_back({e.host, e.when, e.text});
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
                t.life = new_life(e, h.step);
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
                s_.waits.push_back({{e.host, e.when, never}, t.life, e.place, e.text});
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
            case kind::mark: return;
        }
    }

    index new_life(const recorded_event& e, index parent) {
        s_.lives.push_back({{e.host, e.when, never}, e.task, e.spawned, e.text, life_span::fate::lives, parent});
        return static_cast<index>(s_.lives.size()) - 1;
    }

    /// One whose spawning is not in the record lives from when it is first seen.
    open_host::task& task_of(const recorded_event& e, open_host& h) {
        open_host::task& t = h.tasks[e.task];
        if (t.life == nothing) t.life = new_life(e, nothing);
        life_span& life = s_.lives[static_cast<std::size_t>(t.life)];
        if (life.spawned.line() == 0) life.spawned = e.spawned;
        if (e.what == kind::waits && life.name == e.text) life.name = "";
        if (e.what == kind::step && *e.text != '\0') life.name = e.text;
        return t;
    }

    static void woken(open_host::task& t, const recorded_event& e, const open_host& h) {
        t.woken_by = h.step;
        t.ready = e.when;
    }

    void begin_step(const recorded_event& e, open_host& h) {
        h.step = static_cast<index>(s_.steps.size());
        s_.steps.push_back({{e.host, e.when, never}, static_cast<observer::step>(e.detail), nothing, e.place, nothing, e.when});
        if (e.task == 0) return;
        open_host::task& t = task_of(e, h);
        end_wait(t, e.when);
        step_span& step = s_.steps.back();
        step.life = t.life;
        step.woken_by = t.woken_by;
        if (t.ready != never) step.ready = t.ready;
        t.woken_by = nothing;
        t.ready = never;
    }

    void end_wait(open_host::task& t, time_point when) {
        if (t.wait != nothing) s_.waits[static_cast<std::size_t>(t.wait)].end = when;
        t.wait = nothing;
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
        using what = world_observer::packet;
        const auto way = [&](time_point until, bool copy) {
            s_.packets.push_back({e.host, e.peer, e.when, until, false, copy, static_cast<packet_info::kind>(e.sort),
                                  e.size, e.source_port, e.destination_port});
        };
        switch (static_cast<what>(e.detail)) {
            case what::sent:
                under_way_[e.number].push_back(s_.packets.size());
                return way(never, false);
            case what::copied:
                under_way_[e.number].push_back(s_.packets.size());
                return way(never, true);
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
                s_.moments.push_back({e.host, e.when, std::string("gives up: ") + rondo::name_of(static_cast<packet_info::kind>(e.sort)) +
                                                          " to " + s_.of.hosts()[e.peer]});
        }
    }

    void happened(const recorded_event& e) {
        using what = world_observer::event;
        constexpr const char* names[] = {"started", "crashed", "links cut", "links healed", "stopped", "signalled"};
        s_.moments.push_back({e.host, e.when, names[e.detail]});
        if (e.host >= hosts_.size()) return;
        if (static_cast<what>(e.detail) == what::crashed) close(hosts_[e.host], e.when, life_span::fate::crashed);
        if (static_cast<what>(e.detail) == what::stopped) close(hosts_[e.host], e.when, life_span::fate::lives);
    }

    story& s_;
    std::vector<open_host> hosts_;
    std::unordered_map<std::uint64_t, std::vector<std::size_t>> under_way_;
};

}  // namespace

story::story(const recorder& from) : of(from) { teller(*this).tell(); }

std::string label_of(const life_span& life) {
    std::string text = "task " + std::to_string(life.task);
    if (*life.name != '\0') text += std::string(" '") + life.name + "'";
    return text;
}

std::string label_of(const story& all, const step_span& step) {
    if (step.life != nothing) return label_of(all.lives[static_cast<std::size_t>(step.life)]);
    return step.what == observer::step::tick ? "tick" : step.what == observer::step::microtask ? "microtask" : "callback";
}

const char* name_of(life_span::fate how) noexcept {
    constexpr const char* names[] = {"a value", "an error", "cancelled", "lives", "its host crashed"};
    return names[static_cast<std::size_t>(how)];
}

}  // namespace rondo::observed
