#include "await_tree_text.hpp"

#include "base/json.hpp"
#include "loop/places.hpp"
#include "base/printable.hpp"
#include "base/readable.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace rondo {

namespace {

using detail::add_quoted;
using detail::readable_count;
using detail::readable_duration;
using kind = tree_node::kind;

// Whether the wait of a task is told by its own line, for want of an await that is the program's.
bool tells_its_wait(const std::vector<tree_node>& nodes, std::size_t i) noexcept {
    return i + 1 == nodes.size() || nodes[i + 1].depth <= nodes[i].depth;
}

const char* name_of(task_activity activity) noexcept {
    switch (activity) {
        case task_activity::waiting: return "waiting";
        case task_activity::ready: return "ready to run";
        case task_activity::running: return "running";
        case task_activity::not_started: return "not started yet";
        case task_activity::held_back: return "not started, its group runs no more at once";
    }
    return "";
}

// --- text ----------------------------------------------------------------------------------------------

void add_printable(std::string& to, std::string_view text) {
    char line[512];
    to.append(line, detail::write_printable(line, sizeof line, text, false));
}

void add_place(std::string& to, const std::source_location& place) {
    if (place.line() == 0) {  // a coroutine of the library that has entered a scope, for no coroutine of the program
        to += "(rondo)";
        return;
    }
    add_printable(to, detail::base_name(place));
    to += ':';
    to += std::to_string(place.line());
}

// Characters on a terminal, for what is not wider than the Latin ones.
std::size_t width_of(std::string_view text) noexcept {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

/// A line before it is known how wide the columns are.
struct line {
    std::string left;   // the branches, and who
    std::string what;   // it is in, and waits for
    std::string since;
};

class text_writer {
 public:
    explicit text_writer(const await_tree& tree) : tree_(tree) {}

    std::string write() {
        find_last_siblings();
        std::vector<line> lines;
        lines.reserve(tree_.nodes.size());
        for (std::size_t i = 0; i < tree_.nodes.size(); ++i) lines.push_back(line_of(i));

        std::size_t left = 0;
        std::size_t middle = 0;
        for (const line& l : lines) {
            if (l.what.empty()) continue;
            left = std::max(left, std::min(width_of(l.left), widest_left));
            if (!l.since.empty()) middle = std::max(middle, std::min(width_of(l.what), widest_middle));
        }
        std::string all = header();
        for (line& l : lines) {
            all += l.left;
            if (!l.what.empty()) {
                pad(all, width_of(l.left), left);
                all += l.what;
            }
            if (!l.since.empty()) {
                pad(all, width_of(l.what), middle);
                all += l.since;
            }
            all += '\n';
        }
        return all;
    }

 private:
    static constexpr std::size_t widest_left = 60;
    static constexpr std::size_t widest_middle = 60;

    static void pad(std::string& to, std::size_t width, std::size_t column) {
        to.append(column > width ? column - width + 3 : 3, ' ');
    }

    std::string header() const {
        std::string text = "rondo: ";
        text += readable_count(tree_.tasks).text;
        text += tree_.tasks == 1 ? " task on " : " tasks on ";
        text += rondo::name_of(tree_.backend);
        if (tree_.shown < tree_.tasks) {
            text += ", ";
            text += readable_count(tree_.shown).text;
            text += " of them shown";
        }
        if (tree_.next_timer != never) {
            text += ", next timer in ";
            text += readable_duration(tree_.next_timer - tree_.taken).text;
        }
        return text + '\n';
    }

    // From the last node to the first, so that each knows whether a sibling comes later.
    void find_last_siblings() {
        std::vector<bool> later;
        last_.resize(tree_.nodes.size());
        for (std::size_t i = tree_.nodes.size(); i-- > 0;) {
            const std::size_t depth = tree_.nodes[i].depth;
            later.resize(depth + 1);
            last_[i] = !later[depth];
            later[depth] = true;
        }
    }

    line line_of(std::size_t i) {
        const tree_node& n = tree_.nodes[i];
        line l;
        open_.resize(n.depth + 1);
        for (std::size_t d = 1; d < n.depth; ++d) l.left += open_[d] ? "│  " : "   ";
        if (n.depth != 0) l.left += last_[i] ? "└─ " : "├─ ";
        open_[n.depth] = !last_[i];
        switch (n.what) {
            case kind::task: write_task(l, i); break;
            case kind::await: write_await(l, n); break;
            case kind::gap: l.left += "... outer awaits are not shown"; break;
            case kind::more: write_more(l, n); break;
        }
        return l;
    }

    void write_task(line& l, std::size_t i) {
        const tree_node& n = tree_.nodes[i];
        task_ = &n;
        l.left += "task " + std::to_string(n.task);
        if (!n.name.empty()) {
            l.left += " '";
            add_printable(l.left, n.name);
            l.left += '\'';
        }
        if (n.main) {
            l.what = "the main task";
        } else if (n.place.line() != 0) {
            l.what = "spawned at ";
            add_place(l.what, n.place);
        }
        if (n.time.has_value()) add_time(l.what, *n.time);
        if (n.background) add(l.what, ", ", "background");
        if (n.cancelled) add(l.what, ", ", "cancelled");
        if (tells_its_wait(tree_.nodes, i)) add_wait(l);
    }

    static void add_time(std::string& to, const task_time& time) {
        add(to, ", ", readable_duration(time.cpu).text);
        to += " of CPU in ";
        to += readable_count(static_cast<std::size_t>(time.steps)).text;
        to += time.steps == 1 ? " step" : " steps";
        to += ", the longest ";
        to += readable_duration(time.longest).text;
        if (time.longest_from.line() == 0) return;
        to += " from ";
        add_place(to, time.longest_from);
    }

    void write_await(line& l, const tree_node& n) {
        add_place(l.left, n.place);
        const std::string_view function = n.place.line() != 0 ? detail::function_of(n.place) : std::string_view();
        if (!function.empty()) {
            l.left += "  ";
            add_printable(l.left, function);
        }
        if (n.scope != nullptr) {
            l.what = n.scope;
            if (n.count != 0 && !(n.innermost && task_->activity == task_activity::waiting)) {
                add(l.what, ", ", readable_count(n.count).text);
                l.what += n.count == 1 ? " task" : " tasks";
            }
            if (n.deadline != never && !n.cancelled) {
                add(l.what, ", ", "deadline in ");
                l.what += readable_duration(n.deadline - tree_.taken).text;
            }
            if (n.shielded) add(l.what, ", ", "shielded");
            if (n.cancelled) add(l.what, ", ", "cancelled");
            if (n.cancelled && !n.reason.empty()) {
                l.what += ": ";
                add_printable(l.what, n.reason);
            }
        }
        if (n.innermost) add_wait(l);
    }

    void add_wait(line& l) const {
        if (task_->activity != task_activity::waiting) return add(l.what, "; ", name_of(task_->activity));
        add(l.what, "; ", "waits: ");
        add_printable(l.what, task_->waits_for);
        if (task_->waited >= duration{}) l.since = readable_duration(task_->waited).text;
    }

    static void write_more(line& l, const tree_node& n) {
        l.left += "... and ";
        l.left += readable_count(n.count).text;
        if (n.task == 0) {
            l.left += n.count == 1 ? " more task" : " more tasks";
            return;
        }
        l.left += " more like task " + std::to_string(n.task);
        if (n.place.line() == 0) return;
        l.what = "spawned at ";
        add_place(l.what, n.place);
    }

    static void add(std::string& to, const char* separator, const char* text) {
        if (!to.empty()) to += separator;
        to += text;
    }

    const await_tree& tree_;
    std::vector<bool> last_;           // of each node: no sibling comes later
    std::vector<bool> open_;           // of each depth: one does
    const tree_node* task_ = nullptr;  // the latest
};

// --- JSON ----------------------------------------------------------------------------------------------

class json_writer {
 public:
    explicit json_writer(const await_tree& tree) : tree_(tree) {}

    std::string write() {
        out_ += '{';
        key("backend");
        add_quoted(out_, rondo::name_of(tree_.backend));
        number("tasks", tree_.tasks);
        number("shown", tree_.shown);
        if (tree_.next_timer != never) milliseconds("next_timer_ms", tree_.next_timer - tree_.taken);
        key("tree");
        out_ += '[';
        std::size_t open = 0;  // nodes that are not closed
        for (const tree_node& n : tree_.nodes) {
            for (; open > n.depth; --open) out_ += "]}";
            if (out_.back() == '}') out_ += ',';
            out_ += '{';
            write_node(n);
            key("below");
            out_ += '[';
            ++open;
        }
        for (; open > 0; --open) out_ += "]}";
        return std::move(out_ += "]}");
    }

 private:
    void key(const char* name) {
        if (out_.back() != '{') out_ += ',';
        add_quoted(out_, name);
        out_ += ':';
    }
    void number(const char* name, std::size_t n) {
        key(name);
        out_ += std::to_string(n);
    }
    void text(const char* name, std::string_view value) {
        key(name);
        add_quoted(out_, value);
    }
    void yes(const char* name) {
        key(name);
        out_ += "true";
    }
    void milliseconds(const char* name, duration d) {
        key(name);
        char digits[48];
        std::snprintf(digits, sizeof digits, "%lld.%03lld", static_cast<long long>(d.count() / 1'000'000),
                      static_cast<long long>(std::max(d.count(), duration::rep{0}) / 1000 % 1000));
        out_ += digits;
    }
    void place(const char* name, const std::source_location& at) {
        if (at.line() == 0) return;
        key(name);
        out_ += '{';
        text("file", at.file_name());
        number("line", at.line());
        if (const std::string_view function = detail::function_of(at); !function.empty()) text("function", function);
        out_ += '}';
    }

    void write_node(const tree_node& n) {
        switch (n.what) {
            case kind::task: return write_task(n);
            case kind::await: return write_await(n);
            case kind::gap: return text("left_out", "outer awaits");
            case kind::more:
                text("left_out", "tasks");
                number("count", n.count);
                if (n.task != 0) number("like_task", n.task);
                if (n.task != 0) place("spawned", n.place);
        }
    }

    void write_task(const tree_node& n) {
        constexpr std::array names = {"waiting", "ready", "running", "not_started", "held_back"};
        number("task", n.task);
        if (!n.name.empty()) text("name", n.name);
        if (n.main) yes("main");
        place("spawned", n.place);
        text("activity", names[static_cast<std::size_t>(n.activity)]);
        if (!n.waits_for.empty()) text("waits_for", n.waits_for);
        if (n.waited >= duration{}) milliseconds("waited_ms", n.waited);
        if (n.time.has_value()) write_time(*n.time);
        if (n.cancelled) yes("cancelled");
        if (n.background) yes("background");
    }

    void write_time(const task_time& time) {
        key("time");
        out_ += '{';
        milliseconds("cpu_ms", time.cpu);
        number("steps", static_cast<std::size_t>(time.steps));
        milliseconds("longest_ms", time.longest);
        place("longest_from", time.longest_from);
        out_ += '}';
    }

    void write_await(const tree_node& n) {
        place("await", n.place);
        if (n.innermost) yes("innermost");
        if (n.scope == nullptr) return;
        key("scope");
        out_ += '{';
        text("kind", n.scope);
        number("tasks", n.count);
        if (n.deadline != never) milliseconds("deadline_ms", n.deadline - tree_.taken);
        if (n.shielded) yes("shielded");
        if (n.cancelled) yes("cancelled");
        if (n.cancelled && !n.reason.empty()) text("reason", n.reason);
        out_ += '}';
    }

    const await_tree& tree_;
    std::string out_;
};

}  // namespace

std::string text_of(const await_tree& tree) { return text_writer(tree).write(); }

std::string json_of(const await_tree& tree) { return json_writer(tree).write(); }

}  // namespace rondo
