// The data of the page: flat rows of numbers, and each text once. The page itself: page/timeline.js.
#include <rondo/observe/timeline.hpp>

#include "base/json.hpp"
#include "loop/places.hpp"
#include "base/write_file.hpp"
#include "page.hpp"
#include "story.hpp"

#include <string_view>
#include <unordered_map>

namespace rondo {

namespace {

using namespace observed;

class page_writer {
 public:
    page_writer(const record& seen, std::string_view title) : all_(seen), title_(title) {}

    std::string write() {
        rows("phases", all_.phases, [&](const phase_span& p) {
            numbers(p.host, static_cast<int>(p.which), p.polling, p.completions);
            lasts(p);
        });
        rows("steps", all_.steps, [&](const step_span& s) {
            numbers(s.host, static_cast<int>(s.what), s.life, text_of(s.place), s.woken_by, at(s.ready));
            lasts(s);
        });
        rows("lives", all_.lives, [&](const life_span& l) {
            numbers(l.host, l.task, text_of(l.spawned), text_of(l.name), static_cast<int>(l.how), l.parent,
                    text_of(l.error), text_of(l.failed_at), text_of(std::string(detail::function_of(l.root))));
            lasts(l);
        });
        rows("waits", all_.waits, [&](const wait_span& w) {
            numbers(w.host, w.life, text_of(w.place), text_of(w.for_what), static_cast<int>(w.how), w.result,
                    text_of(w.error));
            lasts(w);
        });
        rows("packets", all_.packets, [&](const packet_way& p) {
            numbers(p.from, p.to, text_of(rondo::name_of(p.what)), p.size, p.source_port, p.destination_port, p.arrived,
                    p.copy, at(p.sent), at(p.until));
        });
        rows("moments", all_.moments, [&](const moment& m) {
            numbers(m.host == recorded_event::no_host ? -1 : int{m.host}, text_of(m.text), m.choice, at(m.when));
        });
        std::string page(observed::page_before);
        page += "{\"title\":";
        detail::add_quoted(page, title_);
        page += all_.of.of_world() ? ",\"world\":true" : ",\"world\":false";
        page += ",\"dropped\":" + std::to_string(all_.of.dropped()) +
                ",\"begin\":" + std::to_string(all_.begin.time_since_epoch().count());
        strings(page, "hosts", all_.of.hosts());
        strings(page, "texts", texts_);
        page += rows_;
        page += "}";
        page += observed::page_after;
        return page;
    }

 private:
    long long at(time_point when) const noexcept { return (when - all_.begin).count(); }
    void lasts(const span& s) { numbers(at(s.begin), at(s.end == never ? all_.end : s.end)); }

    template <class... N>
    void numbers(N... n) {
        (add(static_cast<long long>(n)), ...);
    }
    void add(long long n) {
        if (rows_.back() != '[') rows_ += ',';
        rows_ += std::to_string(n);
    }
    template <class Rows, class Write>
    void rows(const char* name, const Rows& all, Write write) {
        rows_ += std::string(",\n\"") + name + "\":[";
        for (const auto& each : all) write(each);
        rows_ += ']';
    }
    static void strings(std::string& to, const char* name, const std::vector<std::string>& all) {
        to += std::string(",\n\"") + name + "\":[";
        for (const std::string& each : all) {
            if (to.back() != '[') to += ',';
            detail::add_quoted(to, each);
        }
        to += ']';
    }

    std::size_t text_of(const std::string& text) {
        const auto [at, fresh] = known_.try_emplace(text, texts_.size());
        if (fresh) texts_.push_back(text);
        return at->second;
    }
    /// "/path/app.cpp:31 session": the page shows less of it where there is no room.
    std::size_t text_of(const std::source_location& place) {
        if (place.line() == 0) return text_of(std::string());
        return text_of(std::string(place.file_name()) + ":" + std::to_string(place.line()) + " " +
                       std::string(detail::function_of(place)));
    }

    story all_;
    std::string_view title_;
    std::string rows_;
    std::vector<std::string> texts_;
    std::unordered_map<std::string, std::size_t> known_;
};

}  // namespace

std::string timeline_page(const record& seen, std::string_view title) { return page_writer(seen, title).write(); }

void save_timeline(const record& seen, const std::string& path, std::string_view title) {
    detail::write_file(path, {timeline_page(seen, title)}, "write the timeline to");
}

}  // namespace rondo
