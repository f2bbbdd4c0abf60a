// Treiber's lock-free stack, the ABA problem that it has where memory is used again, and the counter that cures it.
#include <rondo/rondo.hpp>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

// In Java the collector keeps a node that somebody still looks at from being used again. Without one, a thread may read
// the top A and what lies below it, B, and sleep; others take A and B, and put A back. The sleeper finds A on top as
// before, and makes B the top, which is not in the stack any more. So the top is exchanged together with a counter
// that every exchange counts up. Nodes are numbered, so that both fit into one word.
class stack {
 public:
    static constexpr std::uint32_t none = 0xffff'ffff;

    explicit stack(std::size_t size) : below_(size) {}

    void push(std::uint32_t node) {
        std::uint64_t top = top_.load();
        do {
            below_[node].store(static_cast<std::uint32_t>(top));
        } while (!top_.compare_exchange_weak(top, after(top, node)));
    }
    std::uint32_t pop() {
        for (;;) {
            const view seen = look();
            if (seen.node() == none || take(seen)) return seen.node();
        }
    }

    // The two halves of a pop, for who wants to sleep in between.
    struct view {
        std::uint64_t top;  // the counter, and the node
        std::uint32_t below;
        std::uint32_t node() const { return static_cast<std::uint32_t>(top); }
    };
    view look() const {
        const std::uint64_t top = top_.load();
        const auto node = static_cast<std::uint32_t>(top);
        return {top, node == none ? none : below_[node].load()};
    }
    bool take(view seen) { return top_.compare_exchange_strong(seen.top, after(seen.top, seen.below)); }

 private:
    static std::uint64_t after(std::uint64_t top, std::uint32_t node) { return ((top >> 32) + 1) << 32 | node; }

    std::vector<std::atomic<std::uint32_t>> below_;
    std::atomic<std::uint64_t> top_{none};
};

void a_sleeper() {
    stack s(2);
    const std::uint32_t a = 0, b = 1;
    s.push(b);
    s.push(a);
    const stack::view seen = s.look();  // A on top and B below it; and the sleeper sleeps
    s.pop();
    s.pop();
    s.push(a);
    const bool same = s.look().node() == seen.node();
    const bool taken = s.take(seen);
    std::printf("the sleeper finds %s on top; its exchange %s\n", same ? "the same node" : "another node",
                taken ? "succeeds, and B is in use and in the stack" : "fails: the counter has moved on");
}

// Each thread takes and puts back nodes; nobody may ever have the one that another has.
void take_and_put_back(stack& s, std::vector<std::atomic<int>>& owners, rondo::thread_channel<int>::sender done) {
    int clashes = 0;
    for (int i = 0; i < 10'000; ++i) {
        const std::uint32_t node = s.pop();
        if (node == stack::none) continue;
        if (owners[node].fetch_add(1) != 0) ++clashes;
        owners[node].fetch_sub(1);
        s.push(node);
    }
    done.send(clashes);
}

rondo::task<> app() {
    a_sleeper();

    // The stack's threads are not the loop's. What they have to say comes through a thread_channel, whose free places
    // are such a stack: a sender pops one, the loop pushes it back.
    constexpr std::uint32_t nodes = 4;
    stack s(nodes);
    for (std::uint32_t n = 0; n < nodes; ++n) s.push(n);
    std::vector<std::atomic<int>> owners(nodes);
    rondo::thread_channel<int> results(2);
    std::vector<std::thread> threads;
    {
        const auto out = results.make_sender();  // the channel ends with the last sender: not before all are made
        for (int i = 0; i < 4; ++i) threads.emplace_back(take_and_put_back, std::ref(s), std::ref(owners), out);
    }
    int reports = 0, clashes = 0;
    while (auto each = co_await results.receive()) ++reports, clashes += *each;
    for (std::thread& each : threads) each.join();
    int left = 0;
    while (s.pop() != stack::none) ++left;
    std::printf("%d threads, %d clashes, %d of %u nodes left\n", reports, clashes, left, nodes);
}

int main() { return rondo::run_main(app); }
