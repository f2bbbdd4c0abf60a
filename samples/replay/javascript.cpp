#include "javascript.hpp"

#include <cstdio>
#include <utility>

namespace replay {
namespace {

std::string quoted(std::string_view text) {
    std::string made = "'";
    for (const char c : text) {
        if (c == '\'' || c == '\\') made += '\\';
        made += c;
    }
    return printable(made) + "'";
}

std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.10g", value);
    return text;
}

class printer {
 public:
    explicit printer(scenario& s) : scenario_(s), is_immediate_(s.handles.size(), false) { find_immediates(s.program); }

    std::string print() {
        static constexpr const char* from[] = {"", "// from an immediate (check phase)\n",
                                               "// from an I/O callback (poll phase)\n",
                                               "// from a timer (timers phase)\n"};
        text_ += from[static_cast<std::size_t>(scenario_.start)];
        lines(scenario_.program);
        return std::move(text_);
    }

 private:
    // clearImmediate or clearTimeout: by what bears the name.
    void find_immediates(const block& b) {
        for (const statement& s : b) {
            if (s.what == verb::imm && s.name >= 0) is_immediate_[static_cast<std::size_t>(s.name)] = true;
            find_immediates(s.body);
            if (s.on_error) find_immediates(*s.on_error);
            if (s.at_end) find_immediates(*s.at_end);
            if (s.operand) find_immediates(*s.operand);
        }
    }
    void find_immediates(const expression& e) {
        find_immediates(e.body);
        for (const expression& each : e.operands) find_immediates(each);
    }

    std::uint32_t here() const { return static_cast<std::uint32_t>(text_.size()); }
    const std::string& handle(int name) const { return scenario_.handles[static_cast<std::size_t>(name)]; }
    const std::string& promise(int name) const { return scenario_.promises[static_cast<std::size_t>(name)]; }

    void new_line() { text_ += "\n" + std::string(static_cast<std::size_t>(depth_) * 2, ' '); }

    void lines(block& b) {
        bool first = true;
        for (statement& s : b) {
            if (!std::exchange(first, false)) new_line();
            print(s);
        }
    }

    void braces(block& b) {
        if (b.empty()) {
            text_ += "{}";
            return;
        }
        text_ += "{";
        ++depth_;
        new_line();
        lines(b);
        --depth_;
        new_line();
        text_ += "}";
    }

    static bool is_short(const block& b) {
        if (b.size() != 1) return false;
        switch (b[0].what) {
            case verb::log:
            case verb::clear:
            case verb::unref:
            case verb::ref:
            case verb::spin:
            case verb::make:
            case verb::reject: return true;
            case verb::resolve: return !b[0].operand;
            default: return false;
        }
    }

    void function(block& b, span& at) {
        at.begin = here();
        text_ += "() => ";
        if (is_short(b)) {
            print(b[0]);
            text_.pop_back();  // the semicolon
            --b[0].at.end;
        } else {
            braces(b);
        }
        at.end = here();
    }

    void call(const char* name, statement& s) {
        text_ += name;
        text_ += "(";
        function(s.body, s.callback_at);
        text_ += ")";
    }

    void timer(const char* name, statement& s) {
        call(name, s);
        text_.insert(text_.size() - 1, ", " + number(s.ms));
    }

    void print(statement& s) {
        s.at.begin = here();
        print_unended(s);
        if (s.what != verb::attempt) text_ += ";";
        s.at.end = here();
        if (s.what == verb::every) text_ += "  // " + number(s.times) + " times";
    }

    void print_unended(statement& s) {
        switch (s.what) {
            case verb::log:
                text_ += "console.log(" +
                         (s.text.json.starts_with('"') ? quoted(s.text.text) : printable(s.text.json)) + ")";
                break;
            case verb::tick: return call("process.nextTick", s);
            case verb::micro: return call("queueMicrotask", s);
            case verb::io: return call("whenReadable", s);
            case verb::close: return call("socket.close", s);
            case verb::imm:
                if (s.name >= 0) text_ += handle(s.name) + " = ";
                return call("setImmediate", s);
            case verb::timer:
                if (s.name >= 0) text_ += handle(s.name) + " = ";
                return timer("setTimeout", s);
            case verb::every: text_ += handle(s.name) + " = "; return timer("setInterval", s);
            case verb::clear:
                text_ += is_immediate_[static_cast<std::size_t>(s.name)] ? "clearImmediate(" : "clearTimeout(";
                text_ += handle(s.name) + ")";
                break;
            case verb::unref: text_ += handle(s.name) + ".unref()"; break;
            case verb::ref: text_ += handle(s.name) + ".ref()"; break;
            case verb::spin: text_ += "computeFor(" + number(s.ms) + " /* ms */)"; break;
            case verb::evaluate: return print(*s.operand);
            case verb::let: text_ += "const " + promise(s.name) + " = "; return print(*s.operand);
            case verb::make: text_ += "const " + promise(s.name) + " = Promise.withResolvers()"; break;
            case verb::resolve:
                text_ += promise(s.name) + ".resolve(";
                if (s.operand) print(*s.operand);
                text_ += ")";
                break;
            case verb::reject: text_ += promise(s.name) + ".reject(" + quoted(s.text.text) + ")"; break;
            case verb::await: text_ += "await "; return print(*s.operand);
            case verb::raise: text_ += "throw " + quoted(s.text.text); break;
            case verb::give_back:
                text_ += "return";
                if (!s.operand) break;
                text_ += " ";
                return print(*s.operand);
            case verb::attempt:
                text_ += "try ";
                braces(s.body);
                if (s.on_error) {
                    text_ += " catch ";
                    braces(*s.on_error);
                }
                if (s.at_end) {
                    text_ += " finally ";
                    braces(*s.at_end);
                }
                break;
        }
    }

    void print(expression& e) {
        e.at.begin = here();
        print_unnoted(e);
        e.at.end = here();
    }

    void print_unnoted(expression& e) {
        switch (e.what) {
            case form::value: text_ += "0"; break;
            case form::resolved: text_ += "Promise.resolve()"; break;
            case form::rejected: text_ += "Promise.reject(" + quoted(e.message) + ")"; break;
            case form::named: text_ += promise(e.name); break;
            case form::thenable: text_ += "({ then(r) { r() } })"; break;
            case form::via: return via(e);
            case form::call:
                text_ += "(async ";
                e.callback_at.begin = here();
                text_ += "() => ";
                braces(e.body);
                e.callback_at.end = here();
                text_ += ")()";
                break;
            case form::then:
            case form::then_return:
            case form::on_error:
            case form::at_end: return chain(e, links_of(e) > 2);
            case form::all: return list("Promise.all([", e);
            case form::race: return list("Promise.race([", e);
            case form::any: return list("Promise.any([", e);
            case form::settled: return list("Promise.allSettled([", e);
        }
    }

    void via(const expression& e) {
        static constexpr const char* how[] = {"process.nextTick(r)", "queueMicrotask(r)", "setImmediate(r)",
                                              "setTimeout(r, ",      "whenReadable(r)",   "socket.close(r)"};
        text_ += "new Promise(r => ";
        text_ += how[static_cast<std::size_t>(e.from)];
        if (e.from == source::timer) text_ += number(e.ms) + ")";
        text_ += ")";
    }

    static const char* method_of(const expression& e) {
        switch (e.what) {
            case form::then:
            case form::then_return: return ".then(";
            case form::on_error: return ".catch(";
            case form::at_end: return ".finally(";
            default: return nullptr;
        }
    }

    static int links_of(const expression& e) { return method_of(e) == nullptr ? 0 : 1 + links_of(e.operands[0]); }

    /// P.then(...), and so on; a long chain has a line for each link.
    void chain(expression& e, bool is_long) {
        expression& before = e.operands[0];
        before.at.begin = here();
        if (method_of(before) != nullptr) {
            chain(before, is_long);
        } else {
            print_unnoted(before);
        }
        before.at.end = here();
        depth_ += is_long;
        if (is_long) new_line();
        text_ += method_of(e);
        if (e.what == form::then_return) {
            e.callback_at.begin = here();
            text_ += "() => ";
            print(e.operands[1]);
            e.callback_at.end = here();
        } else {
            function(e.body, e.callback_at);
        }
        text_ += ")";
        depth_ -= is_long;
    }

    void list(const char* open, expression& e) {
        text_ += open;
        for (std::size_t i = 0; i < e.operands.size(); ++i) {
            if (i > 0) text_ += ", ";
            print(e.operands[i]);
        }
        text_ += "])";
    }

    scenario& scenario_;
    std::vector<bool> is_immediate_;
    std::string text_;
    int depth_ = 0;
};

}  // namespace

std::string print_javascript(scenario& s) { return printer(s).print(); }

}  // namespace replay
