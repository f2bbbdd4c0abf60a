#include <rondo/sim/replay.hpp>

#include "base/write_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace rondo {

const char* name_of(choice point) noexcept {
    constexpr const char* names[] = {
        "completion_order", "receive_size", "send_size",    "network_delay", "accept_order", "cancel_race",
        "resource_error",   "user",         "select_order", "host_order",    "packet_loss",  "packet_copy",
        "packet_order",     "scenario",     "buggify",      "ready_order",   "slow_host",    "slow_step"};
    static_assert(std::size(names) == choice_count);
    const auto index = static_cast<std::size_t>(point);
    return index < choice_count ? names[index] : "?";
}

// --- the log: bytes -------------------------------------------------------------------------------
//
// A record is {class * 2 + deviates, alternatives, decision or length of the run - 1}, each a varint: seven
// bits a byte, the low ones first, with the eighth bit set in all but the last.

namespace {

inline std::uint8_t* put(std::uint8_t* at, std::uint64_t value) noexcept {
    for (; value >= 0x80; value >>= 7) *at++ = static_cast<std::uint8_t>(value | 0x80);
    *at++ = static_cast<std::uint8_t>(value);
    return at;
}

/// Two records of the longest varints: what one add() may write.
constexpr std::size_t most_of_add = 2 * (1 + 5 + 10);

void put(std::vector<std::uint8_t>& into, std::uint64_t value) {
    std::uint8_t bytes[10];
    into.insert(into.end(), bytes, put(bytes, value));
}

/// False when there is none at `at`.
bool get(const std::vector<std::uint8_t>& from, std::size_t& at, std::uint64_t& value) noexcept {
    value = 0;
    for (unsigned shift = 0; shift < 64 && at < from.size(); shift += 7) {
        const std::uint8_t byte = from[at++];
        value |= std::uint64_t{byte & 0x7fu} << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

}  // namespace

void decision_log::add(choice point, std::uint32_t alternatives, std::uint32_t taken) noexcept {
    const bool benign = taken == 0;
    if (benign && run_ != 0 && point == run_point_ && alternatives == run_alternatives_) {
        ++run_;
        ++size_;
        return;
    }
    if (records_.size() - used_ < most_of_add) [[unlikely]]
        grow();
    if (!complete_) [[unlikely]]
        return;
    std::uint8_t* at = write_run(records_.data() + used_);
    run_ = benign;
    if (benign) {
        run_point_ = point;
        run_alternatives_ = alternatives;
    } else {
        at = put(at, static_cast<std::uint64_t>(point) * 2 + 1);
        at = put(at, alternatives);
        at = put(at, taken);
        ++deviations_;
    }
    ++size_;
    used_ = static_cast<std::size_t>(at - records_.data());
}

[[gnu::noinline]] void decision_log::grow() {
    try {
        records_.resize(2 * records_.size() + 4096);
    } catch (const std::bad_alloc&) {
        complete_ = false;
    }
}

/// Writes down the run that was growing, if there is one.
inline std::uint8_t* decision_log::write_run(std::uint8_t* at) const noexcept {
    if (run_ == 0) return at;
    at = put(at, static_cast<std::uint64_t>(run_point_) * 2);
    at = put(at, run_alternatives_);
    return put(at, run_ - 1);
}

std::vector<logged_choice> decision_log::decisions() const {
    std::vector<logged_choice> all;
    all.reserve(size_);
    reader records(*this);
    for (logged_choice d{}; records.next(d);) all.push_back(d);
    return all;
}

decision_log::reader::reader(const decision_log& log) noexcept : log_(log) {}

bool decision_log::reader::next(logged_choice& d) noexcept {
    if (left_ == 0) {
        std::uint64_t head = 0;
        std::uint64_t alternatives = 0;
        std::uint64_t last = 0;
        if (at_ < log_.used_) {
            get(log_.records_, at_, head);
            get(log_.records_, at_, alternatives);
            get(log_.records_, at_, last);
        } else if (at_ == log_.used_ && log_.run_ != 0) {
            ++at_;
            head = static_cast<std::uint64_t>(log_.run_point_) * 2;
            alternatives = log_.run_alternatives_;
            last = log_.run_ - 1;
        } else {
            return false;
        }
        const bool deviates = (head & 1) != 0;
        run_ = {static_cast<choice>(head / 2), static_cast<std::uint32_t>(alternatives),
                deviates ? static_cast<std::uint32_t>(last) : 0};
        left_ = deviates ? 1 : last + 1;
    }
    --left_;
    d = run_;
    return true;
}

// --- the log: file --------------------------------------------------------------------------------

namespace {

constexpr char magic[8] = {'R', 'T', 'R', 'A', 'C', 'E', '\r', '\n'};  // text mode would show
constexpr std::uint64_t version = 2;

/// What has to be the same for a log to have its meaning: which choices there are.
std::uint64_t configuration() noexcept {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (int i = 0; i < choice_count; ++i)
        for (const char* c = name_of(static_cast<choice>(i)); *c != '\0'; ++c)
            hash = (hash ^ static_cast<std::uint8_t>(*c)) * 0x100000001b3;
    return hash;
}

struct closing {
    void operator()(std::FILE* f) const noexcept { std::fclose(f); }
};
using file = std::unique_ptr<std::FILE, closing>;

[[noreturn]] void no_log(const std::string& path, const char* why) {
    throw io_error(errno_code(EINVAL), "read the decisions in", path + ": " + why);
}

}  // namespace

void decision_log::save(const std::string& path) const {
    std::vector<std::uint8_t> records(used_ + most_of_add);
    std::copy_n(records_.begin(), used_, records.begin());
    records.resize(static_cast<std::size_t>(write_run(records.data() + used_) - records.data()));
    std::vector<std::uint8_t> head;
    put(head, version);
    put(head, static_cast<std::uint64_t>(from));
    put(head, static_cast<std::uint64_t>(mode));
    put(head, configuration());
    put(head, seed);
    put(head, event_hash);
    put(head, shrunk_from);
    put(head, name.size());
    head.insert(head.end(), name.begin(), name.end());
    put(head, size_);
    put(head, deviations_);
    put(head, records.size());
    const auto text = [](const auto& bytes) {
        return std::string_view(reinterpret_cast<const char*>(std::data(bytes)), std::size(bytes));
    };
    detail::write_file(path, {text(magic), text(head), text(records)}, "write the decisions to");
}

decision_log decision_log::load(const std::string& path) {
    const file in(std::fopen(path.c_str(), "rb"));
    if (!in) throw io_error(errno_code(errno), "read the decisions in", path);
    std::vector<std::uint8_t> all;
    std::uint8_t part[4096];
    for (std::size_t n; (n = std::fread(part, 1, sizeof part, in.get())) != 0;) all.insert(all.end(), part, part + n);
    if (std::ferror(in.get()) != 0) throw io_error(errno_code(EIO), "read the decisions in", path);
    if (all.size() < sizeof magic || std::memcmp(all.data(), magic, sizeof magic) != 0)
        no_log(path, "not a file of decisions");
    std::size_t at = sizeof magic;
    const auto number = [&] {
        std::uint64_t value;
        if (!get(all, at, value)) no_log(path, "it is cut short");
        return value;
    };
    if (number() != version) no_log(path, "of another version");
    decision_log log;
    const std::uint64_t source = number();
    const std::uint64_t how = number();
    if (source > static_cast<std::uint64_t>(origin::seeded)) no_log(path, "a recording of another kind");
    if (how > static_cast<std::uint64_t>(order::chaos)) no_log(path, "of an unknown mode");
    log.from = static_cast<origin>(source);
    log.mode = static_cast<order>(how);
    if (number() != configuration()) no_log(path, "its classes of choices are not those of this library");
    log.seed = number();
    log.event_hash = number();
    log.shrunk_from = number();
    const std::uint64_t name_size = number();
    if (name_size > all.size() - at) no_log(path, "it is cut short");
    log.name.assign(reinterpret_cast<const char*>(all.data()) + at, name_size);
    at += name_size;
    log.size_ = number();
    log.deviations_ = number();
    const std::uint64_t size = number();
    if (size != all.size() - at) no_log(path, "it is cut short");
    log.records_.assign(all.begin() + static_cast<std::ptrdiff_t>(at), all.end());
    log.used_ = log.records_.size();
    // What says how much follows is not trusted: the records must give as many choices.
    std::uint64_t count = 0;
    std::uint64_t deviations = 0;
    for (std::size_t i = 0; i < log.records_.size();) {
        std::uint64_t head, alternatives, last;
        if (!get(log.records_, i, head) || !get(log.records_, i, alternatives) || !get(log.records_, i, last))
            no_log(path, "it is cut short");
        const bool deviates = (head & 1) != 0;
        if (head / 2 >= choice_count || alternatives < 2 || alternatives > ~0u ||
            (deviates ? last == 0 || last >= alternatives : last >= log.size_))
            no_log(path, "a record makes no sense");
        count += deviates ? 1 : last + 1;
        deviations += deviates;
    }
    if (count != log.size_ || deviations != log.deviations_) no_log(path, "its numbers do not agree");
    return log;
}

// --- recording ------------------------------------------------------------------------------------

inline std::uint32_t recording_oracle::note(choice point, std::uint32_t alternatives, std::uint32_t taken) noexcept {
    log_.add(point, alternatives, taken);
    deviations_[static_cast<std::size_t>(point)] += taken != 0;
    return taken;
}

std::uint32_t recording_oracle::choose(choice point, std::uint32_t alternatives) noexcept {
    const std::uint32_t taken = decides_.choose(point, alternatives);
    return alternatives > 1 ? note(point, alternatives, taken) : taken;
}

bool recording_oracle::happens(choice point, std::uint32_t per_million) noexcept {
    if (per_million == 0) return false;
    return note(point, 2, decides_.happens(point, per_million)) != 0;
}

// --- replay ---------------------------------------------------------------------------------------

replay_oracle::replay_oracle(const decision_log& log, mode how)
    : mode_(how), reader_(log), seeded_(log.from == decision_log::origin::seeded), bits_(log.seed) {
    if (how != mode::by_class) return;
    decision_log::reader all(log);
    for (logged_choice d{}; all.next(d);) by_class_[static_cast<std::size_t>(d.point)].push_back(d.taken);
}

std::uint32_t replay_oracle::choose(choice point, std::uint32_t alternatives) noexcept {
    if (alternatives == 1 || diverged_) return 0;
    if (mode_ == mode::by_class) return of_class(point, alternatives);
    logged_choice d{};
    at_end_ = !reader_.next(d);
    if (!at_end_ && d.point == point && d.alternatives == alternatives) [[likely]] {
        ++asked_;
        return d.taken;
    }
    diverged_ = true;
    expected_ = d;
    instead_ = {point, alternatives, 0};
    return 0;
}

bool replay_oracle::happens(choice point, std::uint32_t per_million) noexcept {
    return per_million != 0 && choose(point, 2) != 0;
}

std::uint32_t replay_oracle::of_class(choice point, std::uint32_t alternatives) noexcept {
    const std::vector<std::uint32_t>& taken = by_class_[static_cast<std::size_t>(point)];
    std::size_t& next = next_of_class_[static_cast<std::size_t>(point)];
    if (next == taken.size()) return 0;
    return std::min(taken[next++], alternatives - 1);
}

std::uint64_t replay_oracle::bits(choice point) noexcept {
    return seeded_ ? bits_.bits(point) : benign_bits_.bits(point);
}

std::string replay_oracle::divergence() const {
    if (!diverged_) return {};
    const auto written = [](const logged_choice& d) {
        return std::string(name_of(d.point)) + " of " + std::to_string(d.alternatives);
    };
    return "choice " + std::to_string(asked_ + 1) + ": the log " +
           (at_end_ ? "is at its end" : "has " + written(expected_)) + ", the program asked for " + written(instead_);
}

// --- exhaustive search ----------------------------------------------------------------------------

std::uint32_t exhaustive_oracle::choose(choice, std::uint32_t alternatives) noexcept {
    if (alternatives == 1) return 0;
    const std::uint32_t tried = std::min(alternatives, std::max(limits_.alternatives, 1u));
    if (at_ == path_.size()) {
        if (at_ >= limits_.choices) return 0;
        try {
            path_.push_back({tried, 0});
        } catch (const std::bad_alloc&) {
            return 0;
        }
    }
    const std::uint32_t taken = path_[at_++].taken;
    return taken != 0 && taken + 1 == tried ? alternatives - 1 : taken;
}

bool exhaustive_oracle::happens(choice point, std::uint32_t per_million) noexcept {
    return per_million != 0 && choose(point, 2) != 0;
}

/// The deepest choice of the last run that has an alternative left takes it; those behind begin anew.
bool exhaustive_oracle::next() noexcept {
    path_.resize(std::min(at_, path_.size()));
    at_ = 0;
    bits_ = {};
    std::uint32_t deviations = 0;
    for (const step& s : path_) deviations += s.taken != 0;
    while (!path_.empty()) {
        step& last = path_.back();
        deviations -= last.taken != 0;
        if (last.taken + 1 < last.alternatives && deviations < limits_.deviations) {
            ++last.taken;
            return true;
        }
        path_.pop_back();
    }
    return false;
}

}  // namespace rondo
