// The samples' command line: words, and `--name value` pairs behind them, checked, with a clear error in one line.
#pragma once

#include <rondo/loop/backend.hpp>
#include <rondo/net/endpoint.hpp>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sample {

class options {
 public:
    /// `usage` has a line for each option: what it is, in which unit, and the default. `words` names what comes before
    /// the options.
    options(int argc, char** argv, const char* usage, const char* words = "") : program_(argv[0]) {
        for (int i = 1; i < argc; ++i) {
            words_.emplace_back(argv[i]);
            if (words_.back() != "--help") continue;
            std::printf("usage: %s %s%s[OPTION VALUE]...\n%s", program_.c_str(), words, *words != 0 ? " " : "", usage);
            std::exit(0);
        }
    }

    /// The next of the words before the options; to be asked for before these. `name` is for the error.
    std::string word(std::string_view name) {
        if (words_.empty() || words_.front().starts_with("--")) fail(std::string(name) + " is missing");
        std::string value = std::move(words_.front());
        words_.erase(words_.begin());
        return value;
    }
    std::uint16_t port_word(std::string_view name, std::uint16_t least) {
        return static_cast<std::uint16_t>(number_in(name, word(name), least, 65535));
    }
    rondo::endpoint endpoint_word(std::string_view name) {
        const std::string value = word(name);
        const auto parsed = rondo::endpoint::try_parse(value);
        if (!parsed) fail(std::string(name) + " is an IP address and a port, as in [::1]:80, not '" + value + "'");
        return *parsed;
    }

    /// An option without a value; to be asked for before those that have one.
    bool flag(std::string_view name) { return std::erase(words_, name) != 0; }
    bool has(std::string_view name) const { return std::find(words_.begin(), words_.end(), name) != words_.end(); }

    std::string text(std::string_view name, std::string otherwise) {
        for (std::size_t i = 0; i < words_.size(); i += 2) {
            if (words_[i] != name) continue;
            if (i + 1 == words_.size() || words_[i + 1].starts_with("--")) fail(std::string(name) + " needs a value");
            std::string value = words_[i + 1];
            words_.erase(words_.begin() + static_cast<std::ptrdiff_t>(i),
                         words_.begin() + static_cast<std::ptrdiff_t>(i) + 2);
            return value;
        }
        return otherwise;
    }

    long number(std::string_view name, long otherwise, long least, long most) {
        return number_in(name, text(name, std::to_string(otherwise)), least, most);
    }

    /// Any number of 64 bits, as reports write seeds: 0x1f or 31.
    std::uint64_t seed(std::string_view name, std::uint64_t otherwise) {
        const std::string value = text(name, std::to_string(otherwise));
        const bool hex = value.starts_with("0x");
        std::uint64_t n = 0;
        const char* const last = value.data() + value.size();
        const auto [end, error] = std::from_chars(value.data() + (hex ? 2 : 0), last, n, hex ? 16 : 10);
        if (error != std::errc() || end != last) fail(std::string(name) + " takes a number, not '" + value + "'");
        return n;
    }

    std::uint16_t port(std::string_view name, std::uint16_t otherwise, std::uint16_t least) {
        return static_cast<std::uint16_t>(number(name, otherwise, least, 65535));
    }

    rondo::ip_address address(std::string_view name, std::string otherwise) {
        const std::string value = text(name, std::move(otherwise));
        const auto parsed = rondo::ip_address::try_parse(value);
        if (!parsed) fail(std::string(name) + " takes an IP address, not '" + value + "'");
        return *parsed;
    }

    rondo::backend_kind backend() {
        const std::string name = text("--backend", "auto");
        for (const auto kind : {rondo::backend_kind::automatic, rondo::backend_kind::epoll, rondo::backend_kind::uring,
                                rondo::backend_kind::sim})
            if (name == rondo::name_of(kind)) return kind;
        fail("--backend takes auto, epoll, uring or sim, not '" + name + "'");
    }

    /// Every word must have been asked for.
    void done() {
        if (!words_.empty()) fail("there is no option '" + words_.front() + "'");
    }

    [[noreturn]] void fail(const std::string& what) const {
        std::fprintf(stderr, "%s: %s; try --help\n", program_.c_str(), what.c_str());
        std::exit(2);
    }

 private:
    long number_in(std::string_view name, const std::string& value, long least, long most) const {
        long n = 0;
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
        if (error != std::errc() || end != value.data() + value.size() || n < least || n > most)
            fail(std::string(name) + " takes a number from " + std::to_string(least) + " to " + std::to_string(most) +
                 ", not '" + value + "'");
        return n;
    }

    std::string program_;
    std::vector<std::string> words_;
};

}  // namespace sample
