// What a mailbox is apart from the type of its messages.
#pragma once

#include <rondo/actor/request.hpp>

#include <string_view>

namespace rondo {

/// What happens to a message that does not fit into the mailbox.
enum class overflow : std::uint8_t {
    wait,         // its sender waits for room: back-pressure
    drop_newest,  // it is dropped, and is a dead letter
    drop_oldest,  // the one that waits longest is
    reject,       // its sender gets the error mailbox_full
};

/// How an actor came to its end; what a watch tells.
struct actor_exit {
    enum class kind : std::uint8_t { normal, failed, cancelled, no_such_actor };
    kind how = kind::no_such_actor;
    std::exception_ptr error;  // of `failed`
};

namespace detail {

class mailbox_core;

/// Whoever starts an actor anew when it has failed: a supervisor.
struct actor_keeper {
    /// Whether the actor goes on after an error in a behaviour as if the message had never come.
    bool (*resumes_after)(const actor_keeper&, const std::exception_ptr& error) noexcept;
};

struct mailbox_options {
    const char* name;
    std::uint32_t capacity;
    overflow when_full;
};

/// A wait to get rid of a message; if it asks, also for the reply.
struct mail_wait : wait_op {
    explicit mail_wait(mailbox_core& box) noexcept : wait_op(table), to(&box) {}
    RONDO_API static const op_vtable table;
    mailbox_core* to;
    question* asks = nullptr;
};

/// The actor's wait for a message. In the actor's frame; a mailbox has one reader.
struct take_base : op {
    explicit take_base(mailbox_core& box) noexcept : op(table), from(&box) {}
    RONDO_API static const op_vtable table;
    mailbox_core* from;
};

/// Somebody who is told once of an actor's end.
struct watcher : links {
    explicit watcher(void (*f)(watcher&, const actor_exit&) noexcept) noexcept : tell(f) {}
    void (*tell)(watcher&, const actor_exit&) noexcept;
};

/// What a mailbox is apart from the type of its messages. Shared by the actor and all who have its address;
/// one thread only.
class RONDO_API mailbox_core {
 public:
    explicit mailbox_core(const mailbox_options& options) noexcept;
    mailbox_core(const mailbox_core&) = delete;
    mailbox_core& operator=(const mailbox_core&) = delete;

    void stop() noexcept;
    void kill() noexcept;
    /// An actor supervised begins anew with the mailbox it had.
    void reopen() noexcept { stopping = false; }
    void tell_watchers(const actor_exit& exit) noexcept;
    /// An error in a behaviour: whether it goes on as if the message had not been.
    bool resumes_after(const std::exception_ptr& error) const noexcept;
    const char* shown_name() const noexcept { return name[0] != '\0' ? name : "an actor"; }
    void lost(std::string_view type, const char* why) const noexcept;

    std::uint32_t shares = 0;
    std::uint32_t limit;
    std::uint32_t count = 0;  // of `slots`, those in use,
    std::uint32_t first = 0;  // from this one on
    std::uint32_t slot_count = 0;
    std::uint64_t gone = 0;   // messages that have left the slots: the one in slot `first` has this number
    overflow when_full;
    bool stopping = false;  // takes no more messages
    bool ended = false;
    take_base* taker = nullptr;    // the actor, while it waits
    fiber* body = nullptr;         // the actor, while it runs
    actor_keeper* keeper = nullptr;  // null: nobody restarts it
    const char* name;
    wait_queue<mail_wait> senders;  // who waits for room
    ring<watcher> watchers;

 protected:
    ~mailbox_core();
};

[[noreturn]] RONDO_API void throw_mail_failure(std::int32_t result, const char* operation, const mailbox_core& box);
RONDO_API rondo::result<void> mail_result(std::int32_t result, const char* operation, const mailbox_core& box);

}  // namespace detail
}  // namespace rondo
