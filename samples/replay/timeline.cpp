#include "timeline.hpp"

#include <cstdio>
#include <ostream>

namespace replay {
namespace {

/// Where each byte of a UTF-8 text stands when JavaScript counts in UTF-16.
std::vector<std::uint32_t> utf16_positions(std::string_view text) {
    std::vector<std::uint32_t> at;
    at.reserve(text.size() + 1);
    std::uint32_t count = 0;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        at.push_back(count);
        if ((byte & 0xc0) != 0x80) count += byte >= 0xf0 ? 2 : 1;
    }
    at.push_back(count);
    return at;
}

/// As part of a page: nothing in it may look like a tag.
std::string quote(std::string_view text) {
    std::string made;
    for (const char c : json_quote(text)) {
        if (c == '<') {
            made += "\\u003c";
        } else {
            made += c;
        }
    }
    return made;
}

std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.10g", value);
    return text;
}

template <class Labels, class Text>
std::string array(const Labels& labels, Text text) {
    std::string made = "[";
    for (const auto& each : labels) {
        if (made.size() > 1) made += ',';
        made += quote(text(each));
    }
    return made + "]";
}

/// What page.js expects of an event.
std::string to_json(const event& e, const std::vector<std::uint32_t>& at) {
    using kind = event::kind;
    const std::string item = std::to_string(e.item), count = std::to_string(e.number);
    const std::string where = std::to_string(at[e.at.begin]) + "," + std::to_string(at[e.at.end]);
    std::string rest;
    switch (e.what) {
        case kind::phase: rest = count + "," + number(e.time); break;
        case kind::queued: rest = item + "," + count + "," + quote(e.text) + "," + where + "," + number(e.time); break;
        case kind::removed: rest = item; break;
        case kind::referenced: rest = item + "," + count; break;
        case kind::begun: rest = item + "," + number(e.time); break;
        case kind::statement: rest = where; break;
        case kind::logged: rest = quote(e.text); break;
        case kind::time_passed: rest = number(e.time); break;
        case kind::ended: break;
    }
    return "[" + std::to_string(static_cast<int>(e.what)) + (rest.empty() ? "" : ",") + rest + "]";
}

}  // namespace

void timeline::add(const scenario& s, std::string_view javascript, const recording& run,
                   const std::vector<const label*>& labels, const std::string& error, const char* backend) {
    static constexpr const char* starts[] = {"main", "check", "poll", "timer"};
    const std::vector<std::uint32_t> at = utf16_positions(javascript);
    std::string json = "{\"id\":" + quote(s.id) + ",\"note\":" + quote(s.note) + ",\"start\":\"" +
                       starts[static_cast<std::size_t>(s.start)] + "\",\"backend\":\"" + backend +
                       "\",\"error\":" + quote(error) + ",\"source\":" + quote(javascript) +
                       ",\"labels\":" + array(labels, [](const label* l) { return l->text; }) +
                       ",\"expect\":" + (s.expect ? array(*s.expect, [](const label& l) { return l.text; }) : "null") +
                       ",\"events\":[";
    bool first = true;
    for (const event& e : run.events()) {
        if (!first) json += ',';
        first = false;
        json += to_json(e, at);
    }
    runs_.push_back(json + "]}");
}

void timeline::write(std::ostream& out) const {
    out << page_before << "[";
    for (std::size_t i = 0; i < runs_.size(); ++i) out << (i > 0 ? ",\n" : "\n") << runs_[i];
    out << "\n]" << page_after;
}

}  // namespace replay
