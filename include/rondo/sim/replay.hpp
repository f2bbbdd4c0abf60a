// What an oracle has decided: writing it down, saving it, having it decided again.
//
// A log holds every choice {class, alternatives, decision} of a run in its order, benign ones run-length
// coded. That is enough to have the run again, as long as the program asks the same questions; the file
// survives what a seed does not, a change of the oracle. Raw randomness is not in it: it is drawn from the
// seed again.
#pragma once

#include <rondo/loop/oracle.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace rondo {

/// What the oracle may touch. `spec` keeps every promise of docs/order.md. `chaos` also lets ready tasks
/// run in any order: it finds programs that rely on more than they should.
enum class order : std::uint8_t { spec, chaos };

/// "completion_order", "packet_loss", ...
[[nodiscard]] RONDO_API const char* name_of(choice point) noexcept;

/// One choice of a log.
struct logged_choice {
    choice point;
    std::uint32_t alternatives;
    std::uint32_t taken;
    friend bool operator==(const logged_choice&, const logged_choice&) = default;
};

/// The choices of a run, and where they came from: what replays it.
class RONDO_API decision_log {
 public:
    /// Where its decisions come from. Recordings of real backends will have a value of their own.
    enum class origin : std::uint8_t { benign, seeded };

    origin from = origin::benign;
    order mode = order::spec;      // in which order ready tasks ran
    std::uint64_t seed = 0;        // of seeded ones; also what raw randomness comes from
    std::uint64_t event_hash = 0;  // world::hash() at the end of the run
    std::uint64_t shrunk_from = 0;  // how many decisions were not benign when it was found; 0: it was not shrunk
    std::string name;              // of the simulation; another one does not replay it

    /// About two bytes each. Without memory it is cut there: complete() says so.
    void add(choice point, std::uint32_t alternatives, std::uint32_t taken) noexcept;
    bool complete() const noexcept { return complete_; }
    /// Choices with more than one alternative, and those of them that were not benign.
    std::uint64_t size() const noexcept { return size_; }
    std::uint64_t deviations() const noexcept { return deviations_; }
    std::vector<logged_choice> decisions() const;

    /// The file format is described in docs/sim.md. Both throw system_error: io_error of the file,
    /// or invalid_argument when what it holds is no log.
    void save(const std::string& path) const;
    static decision_log load(const std::string& path);

    /// From the first to the last.
    class RONDO_API reader {
     public:
        explicit reader(const decision_log& log) noexcept;
        /// False at the end.
        bool next(logged_choice& d) noexcept;

     private:
        const decision_log& log_;
        std::size_t at_ = 0;
        logged_choice run_{};
        std::uint64_t left_ = 0;  // of a run of benign ones
    };

 private:
    void grow();
    std::uint8_t* write_run(std::uint8_t* at) const noexcept;

    std::vector<std::uint8_t> records_;  // the first `used_`, but for the run that is still growing:
    std::size_t used_ = 0;
    choice run_point_{};
    std::uint32_t run_alternatives_ = 0;
    std::uint64_t run_ = 0;
    std::uint64_t size_ = 0;
    std::uint64_t deviations_ = 0;
    bool complete_ = true;
};

/// Has another oracle decide, and writes it down. Both must outlive it.
class RONDO_API recording_oracle final : public oracle {
 public:
    recording_oracle(oracle& decides, decision_log& into) noexcept : decides_(decides), log_(into) {}
    std::uint32_t choose(choice point, std::uint32_t alternatives) noexcept override;
    bool happens(choice point, std::uint32_t per_million) noexcept override;
    std::uint64_t bits(choice point) noexcept override { return decides_.bits(point); }

    /// So many decisions of this class were not benign.
    std::uint64_t deviations(choice point) const noexcept { return deviations_[static_cast<std::size_t>(point)]; }

 private:
    std::uint32_t note(choice point, std::uint32_t alternatives, std::uint32_t taken) noexcept;

    oracle& decides_;
    decision_log& log_;
    std::uint64_t deviations_[choice_count] = {};
};

/// Decides as a log says, which must outlive it.
class RONDO_API replay_oracle final : public oracle {
 public:
    /// What happens where the run asks something else than the log tells.
    enum class mode : std::uint8_t {
        exact,     // each question must be the one of the log; from the first other one on, 0
        by_class,  // each class of choices goes its own way through the log, whatever is asked; then 0
    };

    explicit replay_oracle(const decision_log& log, mode how = mode::exact);
    std::uint32_t choose(choice point, std::uint32_t alternatives) noexcept override;
    bool happens(choice point, std::uint32_t per_million) noexcept override;
    std::uint64_t bits(choice point) noexcept override;

    /// Whether a question was not the one of the log.
    bool diverged() const noexcept { return diverged_; }
    /// Where, what the log says, and what was asked: "choice 1076: the log has receive_size of 7, the
    /// program asked for packet_loss of 2". Empty if it did not.
    std::string divergence() const;

 private:
    std::uint32_t of_class(choice point, std::uint32_t alternatives) noexcept;

    mode mode_;
    decision_log::reader reader_;
    std::vector<std::uint32_t> by_class_[choice_count];
    std::size_t next_of_class_[choice_count] = {};
    bool seeded_;
    seeded_oracle bits_;
    benign_oracle benign_bits_;
    std::uint64_t asked_ = 0;
    bool diverged_ = false;
    bool at_end_ = false;
    logged_choice expected_{};
    logged_choice instead_{};
};

/// How far an exhaustive search goes: the number of runs grows with the product.
struct search_limits {
    std::uint32_t choices = 1000;    // only the first ones of a run are varied
    std::uint32_t alternatives = 3;  // of more: the first ones, and the last
    std::uint32_t deviations = 2;    // at most so many in one run are not benign
};

/// Decides in every possible way, one run after the other: for small tests.
///
///     do run(oracle); while (oracle.next());
class RONDO_API exhaustive_oracle final : public oracle {
 public:
    explicit exhaustive_oracle(const search_limits& limits = {}) noexcept : limits_(limits) {}
    std::uint32_t choose(choice point, std::uint32_t alternatives) noexcept override;
    bool happens(choice point, std::uint32_t per_million) noexcept override;
    /// The same sequence in every run.
    std::uint64_t bits(choice point) noexcept override { return bits_.bits(point); }

    /// Prepares the next run; false when there was the last.
    bool next() noexcept;

 private:
    struct step {
        std::uint32_t alternatives;  // that are tried
        std::uint32_t taken;
    };
    search_limits limits_;
    std::vector<step> path_;
    std::size_t at_ = 0;
    benign_oracle bits_;
};

}  // namespace rondo
