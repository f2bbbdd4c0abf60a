#include "scenario.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <span>

namespace replay {
namespace {

using nlohmann::json;

constexpr int deepest = 1000;  // levels of nesting; more would be hard on the stack

/// A JSON value as an error message shows it.
std::string shown(const json& j) {
    std::string text = j.dump();
    constexpr std::size_t enough = 60;
    if (text.size() > enough) {
        std::size_t cut = enough;
        while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) --cut;
        text.resize(cut);
        text += "...";
    }
    return text;
}

struct statement_word {
    const char* name;
    verb what;
    std::size_t least, most;  // how many operands
    const char* usage;
    bool async = false;
};

constexpr statement_word statement_words[] = {
    {"log", verb::log, 1, 1, R"(["log", LABEL])"},
    {"tick", verb::tick, 1, 1, R"(["tick", BLOCK])"},
    {"micro", verb::micro, 1, 1, R"(["micro", BLOCK])"},
    {"imm", verb::imm, 1, 2, R"(["imm", BLOCK, handle?])"},
    {"timer", verb::timer, 2, 3, R"(["timer", ms, BLOCK, handle?])"},
    {"every", verb::every, 4, 4, R"(["every", ms, times, BLOCK, handle])"},
    {"clear", verb::clear, 1, 1, R"(["clear", handle])"},
    {"unref", verb::unref, 1, 1, R"(["unref", handle])"},
    {"ref", verb::ref, 1, 1, R"(["ref", handle])"},
    {"io", verb::io, 1, 1, R"(["io", BLOCK])"},
    {"close", verb::close, 1, 1, R"(["close", BLOCK])"},
    {"spin", verb::spin, 1, 1, R"(["spin", ms])"},
    {"do", verb::evaluate, 1, 1, R"(["do", P])"},
    {"let", verb::let, 2, 2, R"(["let", name, P])"},
    {"new", verb::make, 1, 1, R"(["new", name])"},
    {"resolve", verb::resolve, 1, 2, R"(["resolve", name, P?])"},
    {"reject", verb::reject, 1, 2, R"(["reject", name, message])"},
    {"await", verb::await, 1, 1, R"(["await", P])", true},
    {"try", verb::attempt, 2, 3, R"(["try", ABLOCK, ABLOCK or null, ABLOCK or null])", true},
    {"throw", verb::raise, 0, 1, R"(["throw", message])", true},
    {"ret", verb::give_back, 0, 1, R"(["ret", P?])", true},
};

struct expression_word {
    const char* name;
    form what;
    std::size_t least, most;
    const char* usage;
};

constexpr expression_word expression_words[] = {
    {"val", form::value, 0, 0, R"(["val"])"},
    {"res", form::resolved, 0, 0, R"(["res"])"},
    {"rej", form::rejected, 0, 1, R"(["rej", message])"},
    {"p", form::named, 1, 1, R"(["p", name])"},
    {"call", form::call, 1, 1, R"(["call", ABLOCK])"},
    {"thenable", form::thenable, 0, 0, R"(["thenable"])"},
    {"via", form::via, 1, 2, R"(["via", "tick"] or ["via", "timer", ms])"},
    {"then", form::then, 2, 2, R"(["then", P, BLOCK])"},
    {"thenret", form::then_return, 2, 2, R"(["thenret", P, Q])"},
    {"catch", form::on_error, 2, 2, R"(["catch", P, BLOCK])"},
    {"finally", form::at_end, 2, 2, R"(["finally", P, BLOCK])"},
    {"all", form::all, 1, 1, R"(["all", [P...]])"},
    {"race", form::race, 1, 1, R"(["race", [P...]])"},
    {"any", form::any, 1, 1, R"(["any", [P...]])"},
    {"settled", form::settled, 1, 1, R"(["settled", [P...]])"},
};

constexpr std::pair<const char*, source> sources[] = {
    {"tick", source::tick},   {"micro", source::micro}, {"imm", source::imm},
    {"timer", source::timer}, {"io", source::io},       {"close", source::close},
};

/// Turns the JSON of one scenario into a scenario, or says where and why it cannot.
class reader {
 public:
    scenario read(const json& j) {
        if (!j.is_object()) fail("a scenario is a JSON object, not " + shown(j));
        scenario made;
        made_ = &made;
        made.id = text_of(j, "id", true);
        made.note = text_of(j, "note", false);
        if (const std::string clock = text_of(j, "clock", false); clock == "real") {
            made.real_clock = true;
        } else if (!clock.empty() && clock != "virtual") {
            fail("\"clock\" is \"real\" or \"virtual\", not " + json_quote(clock));
        }
        made.start = start_of(text_of(j, "start", false));
        check_features(j);
        if (!j.contains("prog")) fail("it has no \"prog\"");
        made.program = read_block(j["prog"], false);
        if (const auto it = j.find("expect"); it != j.end()) made.expect = read_labels(*it);
        check_names();
        return made;
    }

 private:
    [[noreturn]] void fail(const std::string& why) const {
        std::string text;
        if (!path_.empty()) {
            text = "prog";
            for (const std::size_t i : path_) text += "[" + std::to_string(i) + "]";
            text += ": ";
        }
        throw malformed(text + why);
    }

    /// Notes on the way down at which element we are.
    class at_element {
     public:
        at_element(reader& r, std::size_t index) : reader_(r) {
            r.path_.push_back(index);
            if (r.path_.size() > deepest) r.fail_too_deep();
        }
        ~at_element() { reader_.path_.pop_back(); }
        at_element(const at_element&) = delete;
        at_element& operator=(const at_element&) = delete;

     private:
        reader& reader_;
    };

    [[noreturn]] void fail_too_deep() const {
        throw malformed("prog: it is nested more than " + std::to_string(deepest) + " levels deep");
    }

    std::string text_of(const json& j, const char* key, bool needed) const {
        const auto it = j.find(key);
        if (it == j.end()) {
            if (needed) fail("it has no " + json_quote(key));
            return {};
        }
        if (!it->is_string()) fail(json_quote(key) + " is a string, not " + shown(*it));
        return it->get<std::string>();
    }

    start_in start_of(const std::string& name) const {
        if (name.empty() || name == "main") return start_in::main;
        if (name == "check") return start_in::check;
        if (name == "poll") return start_in::poll;
        if (name == "timer") return start_in::timer;
        fail("\"start\" is \"main\", \"check\", \"poll\" or \"timer\", not " + json_quote(name));
    }

    // They only repeat what the program uses; whatever it cannot use is found there.
    void check_features(const json& j) const {
        const auto it = j.find("features");
        if (it == j.end()) return;
        const bool fine =
            it->is_array() && std::all_of(it->begin(), it->end(), [](const json& f) { return f.is_string(); });
        if (!fine) fail("\"features\" is an array of strings, not " + shown(*it));
    }

    static label label_of(const json& j) { return {j.is_string() ? j.get<std::string>() : j.dump(), j.dump()}; }

    std::vector<label> read_labels(const json& j) const {
        if (!j.is_array()) fail("\"expect\" is an array of labels, not " + shown(j));
        std::vector<label> labels;
        for (const json& each : j) labels.push_back(label_of(each));
        return labels;
    }

    // --- names -----------------------------------------------------------------------------------

    std::string name_of(const json& j, const char* whose) const {
        if (!j.is_string()) fail(std::string("the name of a ") + whose + " is a string, not " + shown(j));
        const std::string& name = j.get_ref<const std::string&>();
        const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
        const auto inner = [&](char c) { return letter(c) || (c >= '0' && c <= '9') || c == '_'; };
        if (name.empty() || !letter(name[0]) || !std::all_of(name.begin(), name.end(), inner))
            fail("a name is a letter, then letters, digits and _, not " + shown(j));
        return name;
    }

    static int index_in(std::vector<std::string>& names, const std::string& name) {
        const auto it = std::find(names.begin(), names.end(), name);
        if (it != names.end()) return static_cast<int>(it - names.begin());
        names.push_back(name);
        return static_cast<int>(names.size() - 1);
    }

    int handle_of(const json& j) { return index_in(made_->handles, name_of(j, "handle")); }

    enum : std::uint8_t { made_by_let = 1, made_by_new = 2, looked_up = 4, settled = 8 };

    int promise_of(const json& j, std::uint8_t use) {
        const auto index = static_cast<std::size_t>(index_in(made_->promises, name_of(j, "promise")));
        uses_.resize(made_->promises.size());
        uses_[index] |= use;
        return static_cast<int>(index);
    }

    // A name that nothing makes is a slip of the pen, whatever Node would do with it.
    void check_names() const {
        for (std::size_t i = 0; i < uses_.size(); ++i) {
            const std::string name = json_quote(made_->promises[i]);
            if ((uses_[i] & settled) && !(uses_[i] & made_by_new))
                fail("prog: " + name + " is resolved or rejected, but no \"new\" makes it");
            if ((uses_[i] & looked_up) && !(uses_[i] & (made_by_let | made_by_new)))
                fail("prog: the promise " + name + " is used, but no \"let\" or \"new\" makes it");
        }
    }

    // --- statements ------------------------------------------------------------------------------

    /// The word an element begins with; complains about the number of operands.
    template <class Word>
    const Word& word_of(const json& j, std::span<const Word> words, const std::string& kind) const {
        if (!j.is_array() || j.empty() || !j[0].is_string())
            fail((kind[0] == 'e' ? "an " : "a ") + kind + " is an array that begins with a word, not " + shown(j));
        const std::string& name = j[0].get_ref<const std::string&>();
        for (const Word& word : words) {
            if (name != word.name) continue;
            const std::size_t operands = j.size() - 1;
            if (operands < word.least || operands > word.most)
                fail(std::string(word.usage) + " is how it is written, not " + shown(j));
            return word;
        }
        std::string known;
        for (const Word& word : words) known += std::string(known.empty() ? "" : " ") + word.name;
        fail("there is no " + kind + " " + shown(j[0]) + " (there are: " + known + ")");
    }

    block read_block(const json& j, bool async) {
        if (!j.is_array()) fail("a block is an array of statements, not " + shown(j));
        block made;
        made.reserve(j.size());
        for (std::size_t i = 0; i < j.size(); ++i) {
            const at_element here(*this, i);
            made.push_back(read_statement(j[i], async));
        }
        return made;
    }

    block block_at(const json& j, std::size_t i, bool async) {
        const at_element here(*this, i);
        return read_block(j[i], async);
    }

    double number_at(const json& j, std::size_t i, const char* what) {
        const at_element here(*this, i);
        if (!j[i].is_number()) fail(std::string(what) + " is a number, not " + shown(j[i]));
        const double number = j[i].get<double>();
        if (!std::isfinite(number)) fail(std::string(what) + " is out of range");
        return number;
    }

    std::unique_ptr<expression> operand_at(const json& j, std::size_t i) {
        return std::make_unique<expression>(expression_at(j, i));
    }

    static bool has(const json& j, std::size_t i) { return i < j.size() && !j[i].is_null(); }

    statement read_statement(const json& j, bool async) {
        const auto& word = word_of<statement_word>(j, statement_words, "statement");
        if (word.async && !async) fail(std::string("\"") + word.name + "\" stands only in async functions (\"call\")");
        statement s;
        s.what = word.what;
        switch (word.what) {
            case verb::log: s.text = label_of(j[1]); break;
            case verb::tick:
            case verb::micro:
            case verb::io:
            case verb::close: s.body = block_at(j, 1, false); break;
            case verb::imm:
                s.body = block_at(j, 1, false);
                if (has(j, 2)) s.name = handle_of(j[2]);
                break;
            case verb::timer:
                s.ms = number_at(j, 1, "ms");
                s.body = block_at(j, 2, false);
                if (has(j, 3)) s.name = handle_of(j[3]);
                break;
            case verb::every:
                s.ms = number_at(j, 1, "ms");
                s.times = number_at(j, 2, "times");
                s.body = block_at(j, 3, false);
                s.name = handle_of(j[4]);
                break;
            case verb::clear:
            case verb::unref:
            case verb::ref: s.name = handle_of(j[1]); break;
            case verb::spin: {
                s.ms = std::trunc(number_at(j, 1, "ms"));
                if (s.ms < 0 || s.ms > 2147483647) fail("ms of a spin is 0 to 2147483647, not " + shown(j[1]));
                break;
            }
            case verb::evaluate:
            case verb::await: s.operand = operand_at(j, 1); break;
            case verb::let:
                s.operand = operand_at(j, 2);
                s.name = promise_of(j[1], made_by_let);
                break;
            case verb::make: s.name = promise_of(j[1], made_by_new); break;
            case verb::resolve:
                s.name = promise_of(j[1], settled);
                if (has(j, 2)) s.operand = operand_at(j, 2);
                break;
            case verb::reject:
                s.name = promise_of(j[1], settled);
                if (has(j, 2)) s.text = label_of(j[2]);
                break;
            case verb::raise:
                if (has(j, 1)) s.text = label_of(j[1]);
                break;
            case verb::give_back:
                if (has(j, 1)) s.operand = operand_at(j, 1);
                break;
            case verb::attempt:
                s.body = block_at(j, 1, true);
                if (has(j, 2)) s.on_error = block_at(j, 2, true);
                if (has(j, 3)) s.at_end = block_at(j, 3, true);
                if (!s.on_error && !s.at_end) fail("a \"try\" has a catch block, a finally block, or both");
                break;
        }
        return s;
    }

    // --- expressions -----------------------------------------------------------------------------

    expression expression_at(const json& j, std::size_t i) {
        const at_element here(*this, i);
        return read_expression(j[i]);
    }

    expression read_expression(const json& j) {
        const auto& word = word_of<expression_word>(j, expression_words, "expression");
        expression e;
        e.what = word.what;
        switch (word.what) {
            case form::value:
            case form::resolved:
            case form::thenable: break;
            case form::rejected:
                if (has(j, 1)) e.message = label_of(j[1]).text;
                break;
            case form::named: e.name = promise_of(j[1], looked_up); break;
            case form::call: e.body = block_at(j, 1, true); break;
            case form::via: read_via(j, e); break;
            case form::then:
            case form::on_error:
            case form::at_end:
                read_receiver(j, e);
                e.body = block_at(j, 2, false);
                break;
            case form::then_return:
                read_receiver(j, e);
                e.operands.push_back(expression_at(j, 2));
                break;
            case form::all:
            case form::race:
            case form::any:
            case form::settled: {
                const at_element here(*this, 1);
                if (!j[1].is_array()) fail("it takes an array of expressions, not " + shown(j[1]));
                e.operands.reserve(j[1].size());
                for (std::size_t i = 0; i < j[1].size(); ++i) e.operands.push_back(expression_at(j[1], i));
                break;
            }
        }
        return e;
    }

    void read_receiver(const json& j, expression& e) {
        e.operands.push_back(expression_at(j, 1));
        if (e.operands[0].what == form::value)
            fail("a plain value has no " + json_quote(j[0].get_ref<const std::string&>()));
    }

    void read_via(const json& j, expression& e) {
        const auto* it =
            std::find_if(std::begin(sources), std::end(sources), [&](const auto& each) { return j[1] == each.first; });
        if (it == std::end(sources))
            fail("\"via\" is followed by tick, micro, imm, timer, io or close, not " + shown(j[1]));
        e.from = it->second;
        const bool with_delay = e.from == source::timer;
        if (with_delay != (j.size() == 3))
            fail(with_delay ? R"(["via", "timer", ms] is how it is written, not )" + shown(j)
                            : "only [\"via\", \"timer\", ms] has a third element, not " + shown(j));
        if (with_delay) e.ms = number_at(j, 2, "ms");
    }

    scenario* made_ = nullptr;
    std::vector<std::size_t> path_;
    std::vector<std::uint8_t> uses_;
};

/// The library's message without its own labels.
std::string reason(const json::exception& e) {
    std::string text = e.what();
    if (text.starts_with('[')) text.erase(0, std::min(text.find("] ") + 2, text.size()));
    if (const auto at = text.find("syntax error"); at != std::string::npos) text.erase(0, at);
    return text;
}

std::string not_json(const json::exception& e) {
    const auto* where = dynamic_cast<const json::parse_error*>(&e);
    const std::string at = where == nullptr ? "" : " (byte " + std::to_string(where->byte) + ")";
    return "this is no JSON" + at + ": " + reason(e);
}

entry interpret(const json& j, std::string where) {
    entry e{std::move(where), {}, {}, {}};
    if (const auto id = j.is_object() ? j.find("id") : j.end(); id != j.end() && id->is_string()) {
        e.id = id->get<std::string>();
        e.where += ": " + id->dump();
    }
    try {
        e.found = reader().read(j);
    } catch (const malformed& why) {
        e.error = why.what();
    } catch (const json::exception& why) {
        e.error = reason(why);
    }
    return e;
}

std::string contents(const std::string& path) {
    if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    if (!file) throw malformed(path + ": " + std::strerror(errno != 0 ? errno : ENOENT));
    try {  // libstdc++ opens directories, too, and then throws when it reads them
        return {std::istreambuf_iterator<char>(file), {}};
    } catch (const std::ios_base::failure& e) {
        throw malformed(path + ": " + e.code().message());
    }
}

bool blank(std::string_view line) { return line.find_first_not_of(" \t\r\n") == line.npos; }

void read_lines(const std::string& path, std::string_view text, const std::function<void(entry)>& take) {
    std::size_t number = 0, found = 0;
    while (!text.empty()) {
        const std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        ++number;
        if (blank(line)) continue;
        ++found;
        std::string where = path + ":" + std::to_string(number);
        json parsed;
        try {
            parsed = json::parse(line);
        } catch (const json::exception& e) {
            take({std::move(where), {}, {}, not_json(e)});
            continue;
        }
        take(interpret(parsed, std::move(where)));
    }
    if (found == 0) throw malformed(path + ": there is no scenario in it");
}

/// Whether a text that is no JSON as a whole has lines that are.
bool looks_like_lines(std::string_view text) {
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    if (first == text.npos) return false;
    const std::size_t end = text.find('\n', first);
    return end != text.npos && !blank(text.substr(end)) && json::accept(text.substr(first, end - first));
}

}  // namespace

void read_scenarios(const std::string& path, const std::function<void(entry)>& take) {
    const std::string text = contents(path);
    const std::string name = path == "-" ? "standard input" : path;
    if (path.ends_with(".jsonl")) return read_lines(name, text, take);
    if (blank(text)) throw malformed(name + ": there is no scenario in it");
    json parsed;
    try {
        parsed = json::parse(text);
    } catch (const json::exception& e) {
        if (looks_like_lines(text)) return read_lines(name, text, take);
        std::size_t line = 1;
        if (const auto* at = dynamic_cast<const json::parse_error*>(&e))
            line += static_cast<std::size_t>(std::count(
                text.begin(), text.begin() + static_cast<std::ptrdiff_t>(std::min(at->byte, text.size())), '\n'));
        throw malformed(name + ":" + std::to_string(line) + ": " + not_json(e));
    }
    if (!parsed.is_array()) return take(interpret(parsed, name));
    if (parsed.empty()) throw malformed(name + ": there is no scenario in it");
    for (std::size_t i = 0; i < parsed.size(); ++i) take(interpret(parsed[i], name + "[" + std::to_string(i) + "]"));
}

std::string json_quote(std::string_view text) { return json(text).dump(); }

std::string printable(std::string_view text) {
    std::string made;
    for (std::size_t i = 0; i < text.size(); ++i) {
        auto byte = static_cast<unsigned char>(text[i]);
        // U+0080 to U+009f are C2 80 to C2 9f in UTF-8.
        if (byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0) {
            byte = static_cast<unsigned char>(text[++i]);
        } else if (byte >= 0x20 && byte != 0x7f) {
            made += text[i];
            continue;
        }
        char code[8];
        std::snprintf(code, sizeof code, "\\u%04x", byte);
        made += byte == '\n' ? "\\n" : code;
    }
    return made;
}

}  // namespace replay
