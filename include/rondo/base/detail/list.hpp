// Intrusive lists: waiting and queueing allocate nothing, so they cannot fail.
#pragma once

#include <rondo/base/detail/assert.hpp>

#include <cstddef>

namespace rondo::detail {

/// FIFO of nodes that carry `Node* next`. A node is in one queue at a time.
template <class Node>
class queue {
 public:
    bool empty() const noexcept { return head_ == nullptr; }
    Node* front() const noexcept { return head_; }

    void push(Node& node) noexcept {
        node.next = nullptr;
        *tail_ = &node;
        tail_ = &node.next;
    }

    /// Only when not empty.
    Node& pop() noexcept {
        Node& node = *head_;
        head_ = node.next;
        if (head_ == nullptr) tail_ = &head_;
        return node;
    }

    queue() noexcept = default;
    /// What is linked already: from `first` to `last`, both null if it is nothing.
    queue(Node* first, Node* last) noexcept : head_(first), tail_(first != nullptr ? &last->next : &head_) {}
    queue(queue&& other) noexcept { *this = static_cast<queue&&>(other); }
    /// Takes all of `other`; this queue must be empty.
    queue& operator=(queue&& other) noexcept {
        head_ = other.head_;
        tail_ = head_ ? other.tail_ : &head_;
        other.head_ = nullptr;
        other.tail_ = &other.head_;
        return *this;
    }

    /// Moves all of `other` to the end of this queue, in order. O(1).
    void append(queue& other) noexcept {
        if (other.empty()) return;
        *tail_ = other.head_;
        tail_ = other.tail_;
        other.head_ = nullptr;
        other.tail_ = &other.head_;
    }

    /// Moves the n-th node to the front. O(n). The last node if it was that one; else null.
    Node* bring_forward(std::size_t n) noexcept {
        if (n == 0) return nullptr;
        Node* before = head_;
        while (--n > 0) before = before->next;
        Node& node = *before->next;
        const bool was_last = node.next == nullptr;
        before->next = node.next;
        if (was_last) tail_ = &before->next;
        node.next = head_;
        head_ = &node;
        return was_last ? before : nullptr;
    }

    /// From the first to the last.
    template <class F>
    void for_each(F&& f) const {
        for (Node* at = head_; at != nullptr; at = at->next) f(*at);
    }

 private:
    Node* head_ = nullptr;
    Node** tail_ = &head_;
};

/// The two pointers of a node of a `ring`.
struct links {
    struct set_later {};
    links() noexcept : prev(nullptr), next_link(nullptr) {}
    explicit links(set_later) noexcept {}

    links* prev;
    links* next_link;

    bool linked() const noexcept { return next_link != nullptr; }

    void unlink() noexcept {
        unlink_for_good();
        prev = next_link = nullptr;
    }
    /// unlink() for a node that nobody asks again whether it is linked.
    void unlink_for_good() noexcept {
        prev->next_link = next_link;
        next_link->prev = prev;
    }
};

/// Circular doubly linked list of nodes derived from `links`: O(1) removal from the middle.
template <class Node>
class ring {
 public:
    ring() noexcept { head_.prev = head_.next_link = &head_; }
    ring(const ring&) = delete;
    ring& operator=(const ring&) = delete;

    bool empty() const noexcept { return head_.next_link == &head_; }
    Node& front() const noexcept { return static_cast<Node&>(*head_.next_link); }
    Node& back() const noexcept { return static_cast<Node&>(*head_.prev); }

    /// The one behind `node`; null behind the last.
    Node* after(const Node& node) const noexcept {
        links* const following = node.links::next_link;
        return following == &head_ ? nullptr : static_cast<Node*>(following);
    }

    void push_back(Node& node) noexcept { insert_before(node, head_); }
    void push_front(Node& node) noexcept { insert_before(node, *head_.next_link); }

    /// Moves `node`, which is in this list, to the place in front of `where`.
    void move_before(Node& node, Node& where) noexcept {
        node.unlink_for_good();
        insert_before(node, where);
    }

    Node& pop_front() noexcept {
        Node& node = front();
        node.unlink();
        return node;
    }

    /// Puts `node` behind the last one for which `precedes` holds, looking from the back.
    template <class F>
    void insert_ordered(Node& node, F&& precedes) noexcept {
        links* at = head_.prev;
        while (at != &head_ && !precedes(static_cast<const Node&>(*at))) at = at->prev;
        insert_before(node, *at->next_link);
    }

    /// Moves all of `other` to the end of this list, in order.
    void splice_back(ring& other) noexcept {
        if (other.empty()) return;
        links* first = other.head_.next_link;
        links* last = other.head_.prev;
        first->prev = head_.prev;
        head_.prev->next_link = first;
        last->next_link = &head_;
        head_.prev = last;
        other.head_.prev = other.head_.next_link = &other.head_;
    }

    /// The first for which `wanted` holds; null if there is none.
    template <class F>
    Node* find(F&& wanted) const {
        for (links* at = head_.next_link; at != &head_; at = at->next_link)
            if (wanted(static_cast<Node&>(*at))) return static_cast<Node*>(at);
        return nullptr;
    }

    /// Iteration; the node just visited may be unlinked only by `for_each`'s callee.
    template <class F>
    void for_each(F&& f) const {
        for (links* at = head_.next_link; at != &head_;) {
            links* following = at->next_link;
            f(static_cast<Node&>(*at));
            at = following;
        }
    }

 private:
    static void insert_before(links& node, links& where) noexcept {
        links* const before = where.prev;
        node.prev = before;
        before->next_link = &node;  // between the other two: g++ would pair those stores, dearer
        node.next_link = &where;
        where.prev = &node;
    }

    mutable links head_;
};

}  // namespace rondo::detail
