// An error with the way it has come, as text of several lines, or of one. It is written to whatever takes text piece by
// piece, as error_text.hpp says, and needs memory only where that does.
#pragma once

#include <rondo/base/exception_group.hpp>

#include "base/error_text.hpp"
#include "base/place_text.hpp"
#include "base/trace.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

namespace rondo::detail {

/// The group that `error` is; null if it is none.
inline const exception_group* as_group(const std::exception_ptr& error) noexcept {
    try {
        std::rethrow_exception(error);
    } catch (const exception_group& group) {
        return &group;  // lives as long as `error`
    } catch (...) {
        return nullptr;
    }
}

/// What led to an error: what std::throw_with_nested has put into it, or the last failure of who gave up.
inline std::exception_ptr cause_of(const std::exception_ptr& error) noexcept {
    try {
        std::rethrow_exception(error);
    } catch (const has_cause& e) {
        return e.cause();
    } catch (...) {
        return nested_in(error);
    }
}

/// The message of an error, and of what is nested in it.
template <class To>
void write_whole_message(To& to, const std::exception_ptr& error) {
    write_message(to, error);
    std::exception_ptr inner = nested_in(error);
    for (int i = 0; inner && i < most_nested; ++i, inner = nested_in(inner)) {
        to.add("; caused by ");
        write_message(to, inner);
    }
}

// --- ways --------------------------------------------------------------------------------------------------------

template <class To>
void write_place(To& to, const std::source_location& place, bool whole_path) {
    to.add(whole_path ? std::string_view(place.file_name()) : base_name(place)).add(":");
    write_number(to, static_cast<int>(place.line()));
    if (const std::string_view name = function_of(place); !name.empty()) to.add(whole_path ? "  " : " ").add(name);
}

/// The ways of an error, and of the groups of one that are around it, follow each other: they are one way. Calls
/// `each(label, place, 0)`, or `each(nullptr, place, n)` where n places are missing.
template <class Each>
void each_place(const std::exception_ptr& error, bool through_groups, Each each) {
    constexpr std::size_t most_levels = 40;
    std::array<const std::exception_ptr*, most_levels> around;  // the innermost last
    std::size_t levels = 0;
    for (const std::exception_ptr* at = &error; at != nullptr && levels < most_levels;) {
        around[levels++] = at;
        const exception_group* const group = through_groups ? as_group(*at) : nullptr;
        at = group != nullptr && group->errors().size() == 1 ? &group->first() : nullptr;
    }
    const error_trace::place* spawned = nullptr;  // not told yet
    bool first = true;
    const auto tell = [&](const error_trace::place& p) {
        using step = error_trace::step;
        const char* const label = p.how == step::spawned    ? "spawned at"
                                  : first                   ? "at"
                                  : p.how == step::rethrown ? "rethrown"
                                                            : "awaited at";
        first = false;
        each(label, p.at, std::size_t{0});
    };
    while (levels != 0) {
        const error_trace* const trace = trace_of(*around[--levels]);
        if (trace == nullptr) continue;
        for (std::size_t i = 0; i < trace->size(); ++i) {
            const error_trace::place& p = (*trace)[i];
            // Who awaits a combinator has spawned its children in that line.
            if (spawned != nullptr && !(p.how == error_trace::step::awaited && same_line(spawned->at, p.at)))
                tell(*spawned);
            spawned = nullptr;
            if (i == error_trace::most_innermost && trace->left_out() != 0) each(nullptr, p.at, trace->left_out());
            if (p.how == error_trace::step::spawned) {
                spawned = &p;
            } else {
                tell(p);
            }
        }
    }
    if (spawned != nullptr) tell(*spawned);
}

/// A line for each place, up to `most`; gives how many.
template <class To, class Indent>
std::size_t write_way(To& to, const std::exception_ptr& error, bool through_groups, std::size_t most,
                      const Indent& indent) {
    std::size_t lines = 0;
    each_place(error, through_groups, [&](const char* label, const std::source_location& place, std::size_t missing) {
        if (lines >= most) return;
        ++lines;
        to.add("\n");
        indent();
        if (label == nullptr) {
            to.add("... and ");
            write_number(to, static_cast<int>(missing));
            to.add(" more");
            return;
        }
        const std::string_view text = label;
        to.add(text).add(std::string_view("           ").substr(std::min(text.size(), std::size_t{10})));
        write_place(to, place, true);
    });
    return lines;
}

// --- groups --------------------------------------------------------------------------------------------------------

template <class To>
void write_count_of(To& to, std::size_t n, const char* of) {
    write_number(to, static_cast<int>(n));
    to.add(" ").add(of).add(n == 1 ? "" : "s");
}

template <class To>
void write_count(To& to, const exception_group& group) {
    write_count_of(to, group.errors().size(), "error");
}

struct group_tree {
    // As the await tree does: more would bury what matters.
    static constexpr std::size_t most_lines = 100;
    static constexpr std::size_t most_levels = 40;

    struct level {
        const exception_group* group = nullptr;
        std::size_t next = 0;
    };

    /// The errors of a group, each in a line with its way below, nested groups further in.
    template <class To>
    static void write(To& to, const exception_group& root) {
        std::array<level, most_levels> open;
        std::size_t depth = 1;
        open[0] = {&root, 0};
        std::size_t lines = 0;
        std::size_t lines_of_ways = 0;
        const auto indent = [&](std::size_t levels) {
            for (std::size_t i = 0; i < levels; ++i)
                to.add(open[i].next == open[i].group->errors().size() ? "   " : "|  ");
        };
        while (depth != 0) {
            level& at = open[depth - 1];
            const auto& errors = at.group->errors();
            const std::size_t left = errors.size() - at.next;
            if (left == 0) {
                --depth;
                continue;
            }
            to.add("\n");
            indent(depth - 1);
            if (lines == most_lines) {
                to.add("`- ... and ");
                write_number(to, static_cast<int>(left));
                to.add(" more");
                at.next = errors.size();
                continue;
            }
            ++lines;
            to.add(left == 1 ? "`- " : "|- ");
            const std::exception_ptr& error = errors[at.next++];
            const exception_group* const nested = as_group(error);
            const bool too_far = nested != nullptr && depth == most_levels;
            if (nested == nullptr) {
                write_whole_message(to, error);
            } else {
                write_count(to, *nested);
            }
            if (too_far) {
                to.add(nested->errors().size() == 1 ? ": " : "; the first: ");
                nested->write_origin(to);
            }
            lines_of_ways += write_way(to, error, false, most_lines - lines_of_ways, [&] {
                indent(depth);
                if (nested == nullptr || too_far) to.add("  ");
            });
            if (nested != nullptr && !too_far) open[depth++] = {nested, 0};
        }
    }
};

// --- all of it -------------------------------------------------------------------------------------------------------

/// What it is, the way it has come, the errors it holds, and what caused it.
template <class To>
void write_report(To& to, const std::exception_ptr& error) {
    std::exception_ptr at = error;
    for (int i = 0; at && i <= most_nested; ++i) {
        if (i != 0) to.add("\n  caused by: ");
        write_message(to, at);
        write_way(to, at, true, group_tree::most_lines, [&] { to.add("  "); });
        const exception_group* group = as_group(at);
        for (std::size_t k = 0; group != nullptr && group->errors().size() == 1 && k < group_tree::most_levels; ++k) {
            at = group->first();
            group = as_group(at);
        }
        if (group != nullptr) group_tree::write(to, *group);
        at = cause_of(at);
    }
}

/// The message and the way in one line. The place where the task was spawned is left out if it is `known`.
template <class To>
void write_line(To& to, const std::exception_ptr& error, const std::source_location& known) {
    constexpr std::size_t most = 8;
    write_whole_message(to, error);
    // Of several errors the way of the first one is shown: it is the one that the message names.
    std::exception_ptr shown = error;
    const exception_group* group = as_group(shown);
    for (std::size_t k = 0; group != nullptr && group->errors().size() != 1 && k < group_tree::most_levels; ++k) {
        shown = group->first();
        group = as_group(shown);
    }
    std::size_t places = 0;
    each_place(shown, true, [&](const char* label, const std::source_location& place, std::size_t) {
        if (label == nullptr || places > most) return;
        if (std::string_view(label) == "spawned at" && same_line(place, known)) return;
        to.add(places == 0 ? "; " : ", ");
        if (++places > most) {
            to.add("...");
            return;
        }
        to.add(label).add(" ");
        write_place(to, place, false);
    });
}

}  // namespace rondo::detail

template <class To>
void rondo::exception_group::write_origin(To& to) const {
    if (levels_ != 0) {
        detail::write_count_of(to, levels_, "group");
        to.add(" further in: ");
    }
    detail::write_whole_message(to, origin_);
}
