// Runs ordering scenarios on the loop: what Node prints, in the order in which Node prints it.
//
// A scenario is a small program over an event loop, written as JSON. This tool plays it on a loop
// of its own, in virtual time unless told otherwise, and prints the labels it logged; --expect
// compares them with what real Node 20 printed, --timeline shows the run step by step in a browser.
#include <rondo/base/error.hpp>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "javascript.hpp"
#include "player.hpp"
#include "scenario.hpp"
#include "timeline.hpp"

namespace {

constexpr const char* usage =
    R"(replay [OPTION...] FILE...

Runs ordering scenarios (.json, .jsonl; - is standard input) and prints the labels in their order.

  --expect               compare with what the scenarios expect; exit code 1 if any differs
  --score                the same, for all that the backend can promise, in one line
  --backend sim|epoll|uring   where to run them; sim, the default, is in virtual time
  --json                 print one line {"id": ..., "labels": [...]} per scenario, nothing else
  --timeline OUT.html    write a page that shows the runs step by step
  --print                print the JavaScript the scenarios stand for, and run nothing
  --id ID                only the scenario of that id

For example, from the top of the source tree:
  replay --expect samples/scenarios/classic.jsonl
  replay --id classic-main-fast --timeline classic.html samples/scenarios/classic.jsonl

Exit code: 0 fine, 1 a difference, 2 something could not be run.
)";

struct options {
    std::vector<std::string> files;
    rondo::backend_kind backend = rondo::backend_kind::sim;
    bool expect = false, score = false, json = false, print = false;
    std::string timeline;
    std::optional<std::string> id;
};

struct wrong_usage {
    std::string why;
};

rondo::backend_kind backend_of(std::string_view name) {
    for (const auto kind : {rondo::backend_kind::sim, rondo::backend_kind::epoll, rondo::backend_kind::uring})
        if (name == rondo::name_of(kind)) return kind;
    throw wrong_usage{"--backend takes sim, epoll or uring, not \"" + std::string(name) + "\""};
}

options read_arguments(const std::vector<std::string>& arguments) {
    options o;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string& a = arguments[i];
        const auto value = [&]() -> const std::string& {
            if (++i == arguments.size()) throw wrong_usage{a + " needs a value"};
            return arguments[i];
        };
        if (a == "--expect") {
            o.expect = true;
        } else if (a == "--score") {
            o.expect = o.score = true;
        } else if (a == "--json") {
            o.json = true;
        } else if (a == "--print") {
            o.print = true;
        } else if (a == "--backend") {
            o.backend = backend_of(value());
        } else if (a == "--timeline") {
            o.timeline = value();
        } else if (a == "--id") {
            o.id = value();
        } else if (a.starts_with("-") && a != "-") {
            throw wrong_usage{"there is no option " + a};
        } else {
            o.files.push_back(a);
        }
    }
    if (o.files.empty()) throw wrong_usage{"which scenarios? name a file"};
    return o;
}

// --- text ---------------------------------------------------------------------------------------

/// Columns of a terminal that UTF-8 text takes, roughly: East Asian letters take two.
std::size_t width_of(std::string_view text) {
    std::size_t columns = 0;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if ((byte & 0xc0) != 0x80) columns += byte >= 0xe1 ? 2 : 1;
    }
    return columns;
}

/// A label among others in one line: as it is, or quoted where one could not tell where it ends.
std::string shown(const replay::label& l) {
    const std::string text = replay::printable(l.text);
    const bool plain = !text.empty() && text.find_first_of(" \"") == text.npos && text == l.text;
    return plain ? text : replay::printable(l.json);
}

std::string one_line(const std::string& id, const replay::outcome& o) {
    std::string line = replay::printable(id) + ":";
    for (const replay::label* l : o.labels) line += " " + shown(*l);
    return line + "\n";
}

std::string json_line(const std::string& id, const replay::outcome& o) {
    std::string line = "{\"id\": " + replay::json_quote(id) + ", \"labels\": [";
    for (std::size_t i = 0; i < o.labels.size(); ++i) line += (i > 0 ? ", " : "") + o.labels[i]->json;
    return line + "]}\n";
}

bool as_expected(const std::vector<replay::label>& want, const replay::outcome& o) {
    return std::equal(want.begin(), want.end(), o.labels.begin(), o.labels.end(),
                      [](const replay::label& w, const replay::label* got) { return w.json == got->json; });
}

/// Both orders side by side; an arrow marks the first difference, and a bar those that follow.
std::string side_by_side(const std::string& id, const std::vector<replay::label>& want, const replay::outcome& o) {
    std::size_t column = std::strlen("expected");
    for (const auto& l : want) column = std::max(column, width_of(shown(l)));
    const auto row = [&](const char* mark, const std::string& left, const std::string& right) {
        const std::size_t gap = right.empty() ? 0 : column - width_of(left) + 3;
        return "  " + std::string(mark) + " " + left + std::string(gap, ' ') + right + "\n";
    };
    std::string text = replay::printable(id) + ": not in the expected order\n" + row("  ", "expected", "got");
    bool differed = false;
    for (std::size_t i = 0; i < std::max(want.size(), o.labels.size()); ++i) {
        const std::string left = i < want.size() ? shown(want[i]) : "-";
        const std::string right = i < o.labels.size() ? shown(*o.labels[i]) : "-";
        const bool same = left == right;
        text += row(same ? "  " : differed ? " |" : "->", left, right);
        differed = differed || !same;
    }
    return text;
}

// --- the run ------------------------------------------------------------------------------------

class session {
 public:
    explicit session(options o) : options_(std::move(o)) {}

    int run() {
        if (options_.score && !available()) return 0;
        for (const std::string& file : options_.files) {
            try {
                replay::read_scenarios(file, [this](replay::entry e) { take(std::move(e)); });
            } catch (const replay::malformed& e) {
                complain(e.what());
            }
        }
        if (options_.id && count_ == 0 && !failed_) complain("there is no scenario \"" + *options_.id + "\"");
        if (!options_.timeline.empty()) write_timeline();
        if (options_.expect && !options_.print) summarize();
        if (!std::cout.flush()) complain("standard output cannot be written");
        return failed_ ? 2 : different_ > 0 ? 1 : 0;
    }

 private:
    /// A machine without io_uring has no score on it, and that is no failure.
    bool available() {
        std::string why;
        if (rondo::make_backend(options_.backend, {}, why)) return true;
        comparison() << "   " << rondo::name_of(options_.backend) << ": skipped here: " << why << "\n";
        return false;
    }

    void complain(const std::string& why) {
        failed_ = true;
        std::cout.flush();
        std::cerr << "replay: " << replay::printable(why) << std::endl;
    }

    void take(replay::entry e) {
        if (options_.id && e.id != options_.id) return;
        // Real time passes as it likes, so those written for a virtual clock have no certain order.
        if (options_.score && options_.backend != rondo::backend_kind::sim && e.found && !e.found->real_clock) {
            ++left_out_;
            return;
        }
        ++count_;
        if (!e.found) return complain(e.where + ": " + e.error);
        replay::scenario& s = *e.found;
        const bool record = !options_.timeline.empty();
        std::string javascript;
        if (record || options_.print) javascript = replay::print_javascript(s);
        if (options_.print) {
            std::cout << "// " << replay::printable(s.id) << (s.note.empty() ? "" : ": ") << replay::printable(s.note)
                      << "\n"
                      << javascript << "\n\n";
            return;
        }
        replay::recording recording;
        const replay::outcome o = replay::play(s, options_.backend, record ? &recording : nullptr);
        if (record) timeline_.add(s, javascript, recording, o.labels, o.error, rondo::name_of(options_.backend));
        if (!o.error.empty()) return complain(e.where + ": " + o.error);
        report(s, o);
    }

    void report(const replay::scenario& s, const replay::outcome& o) {
        if (options_.json) {
            std::cout << json_line(s.id, o);
        } else if (!options_.expect) {
            std::cout << one_line(s.id, o);
        }
        if (!options_.expect) return;
        if (!s.expect) {
            ++unexpected_;
        } else if (!as_expected(*s.expect, o)) {
            ++different_;
            comparison() << side_by_side(s.id, *s.expect, o);
        }
    }

    void summarize() {
        std::ostream& out = comparison();
        const std::size_t fine = count_ - different_ - unexpected_;
        if (options_.score) {
            out << "   " << rondo::name_of(options_.backend) << ": " << fine << " of " << count_ << " as expected";
            if (left_out_ > 0) out << " (" << left_out_ << " others need the virtual clock of sim)";
        } else {
            out << count_ << (count_ == 1 ? " scenario: " : " scenarios: ") << fine << " as expected, " << different_
                << " different";
            if (unexpected_ > 0) out << ", " << unexpected_ << " without an expectation";
        }
        out << "\n";
    }

    // With --json, standard output is for the machine that reads it.
    std::ostream& comparison() const { return options_.json ? std::cerr : std::cout; }

    void write_timeline() {
        if (timeline_.empty()) return;
        std::ofstream out(options_.timeline, std::ios::binary);
        timeline_.write(out);
        if (!out.flush()) complain(options_.timeline + ": " + std::strerror(errno));
    }

    options options_;
    replay::timeline timeline_;
    std::size_t count_ = 0, different_ = 0, unexpected_ = 0, left_out_ = 0;
    bool failed_ = false;
};

}  // namespace

int main(int argc, char** argv) {
    std::ios::sync_with_stdio(false);
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    if (arguments.empty()) {
        std::fprintf(stderr, "replay: which scenarios? name a file\n\n%s", usage);
        return 2;
    }
    if (arguments.size() == 1 && (arguments[0] == "--help" || arguments[0] == "-h")) {
        std::fputs(usage, stdout);
        return 0;
    }
    try {
        return session(read_arguments(arguments)).run();
    } catch (const wrong_usage& e) {
        std::fprintf(stderr, "replay: %s; try --help\n", replay::printable(e.why).c_str());
    } catch (const std::exception& e) {
        std::cout.flush();
        std::fprintf(stderr, "replay: %s\n", e.what());
    }
    return 2;
}
