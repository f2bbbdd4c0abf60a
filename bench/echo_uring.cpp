// The io_uring limit, written by hand: multishot accept and receive, one small ring of provided
// buffers (it has to stay within the cache), sends straight from the received buffer.
#include <liburing.h>
#include <sys/mman.h>

#include "support.hpp"

namespace {

constexpr unsigned buffer_count = 128;
constexpr unsigned buffer_size = 16 * 1024;
constexpr unsigned ring_entries = 4096;
constexpr int none = -1;

enum class kind : std::uint64_t { accept, receive, send };

/// Received buffers form a queue per connection; one send is under way at a time.
struct connection {
    int head = none, tail = none;
    unsigned sent = 0;
    bool receiving = false, starved = false, ended = false;
};

io_uring ring;
io_uring_buf_ring* buffers;
char* memory;
int next_buffer[buffer_count];
unsigned length_of[buffer_count];
std::vector<connection> connections;
std::vector<int> starved;

io_uring_sqe* entry() {
    io_uring_sqe* sqe;
    while (!(sqe = io_uring_get_sqe(&ring))) io_uring_submit(&ring);
    return sqe;
}

/// After the prep function, which resets it.
void set_data(io_uring_sqe* sqe, kind what, int fd) {
    io_uring_sqe_set_data64(sqe, static_cast<std::uint64_t>(what) << 32 | unsigned(fd));
}

void accept_more(int listener) {
    auto* sqe = entry();
    io_uring_prep_multishot_accept(sqe, listener, nullptr, nullptr, SOCK_CLOEXEC);
    set_data(sqe, kind::accept, listener);
}

void receive_more(int fd) {
    auto* sqe = entry();
    io_uring_prep_recv_multishot(sqe, fd, nullptr, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    set_data(sqe, kind::receive, fd);
    connections[std::size_t(fd)].receiving = true;
}

void send_head(int fd) {
    auto& c = connections[std::size_t(fd)];
    auto* sqe = entry();
    io_uring_prep_send(sqe, fd, memory + unsigned(c.head) * buffer_size + c.sent, length_of[c.head] - c.sent,
                       MSG_NOSIGNAL);
    set_data(sqe, kind::send, fd);
}

void give_back(int buffer) {
    io_uring_buf_ring_add(buffers, memory + unsigned(buffer) * buffer_size, buffer_size,
                          static_cast<unsigned short>(buffer), io_uring_buf_ring_mask(buffer_count), 0);
    io_uring_buf_ring_advance(buffers, 1);
    if (starved.empty()) return;
    int fd = starved.back();
    starved.pop_back();
    connections[std::size_t(fd)].starved = false;
    receive_more(fd);
}

void close_if_done(int fd) {
    auto& c = connections[std::size_t(fd)];
    if (!c.ended || c.receiving || c.starved || c.head != none) return;
    c = {};
    close(fd);
}

void received(int fd, const io_uring_cqe& cqe) {
    auto& c = connections[std::size_t(fd)];
    bool more = cqe.flags & IORING_CQE_F_MORE;
    if (!more) c.receiving = false;
    if (cqe.res > 0) {
        int buffer = static_cast<int>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
        length_of[buffer] = static_cast<unsigned>(cqe.res);
        next_buffer[buffer] = none;
        if (c.head == none) {
            c.head = c.tail = buffer;
            send_head(fd);
        } else {
            c.tail = next_buffer[c.tail] = buffer;
        }
        if (!more) receive_more(fd);
        return;
    }
    if (cqe.res == -ENOBUFS) {
        c.starved = true;
        starved.push_back(fd);
        return;
    }
    c.ended = true;
    close_if_done(fd);
}

void sent(int fd, int result) {
    auto& c = connections[std::size_t(fd)];
    bool failed = result <= 0;
    if (!failed) c.sent += static_cast<unsigned>(result);
    if (failed) shutdown(fd, SHUT_RDWR);
    if (failed || c.sent == length_of[c.head]) {
        int done = c.head;
        c.sent = 0;
        c.head = next_buffer[done];
        give_back(done);
    }
    if (c.head != none) return send_head(fd);
    close_if_done(fd);
}

}  // namespace

int main(int argc, char** argv) {
    bench::prepare_server();
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                   IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
    params.cq_entries = 4 * ring_entries;
    errno = -io_uring_queue_init_params(ring_entries, &ring, &params);
    bench::must(-errno, "io_uring");
    io_uring_register_ring_fd(&ring);

    auto map = [](std::size_t size) {
        void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) bench::must(-1, "mmap");
        return at;
    };
    memory = static_cast<char*>(map(std::size_t{buffer_count} * buffer_size));
    buffers = static_cast<io_uring_buf_ring*>(map(buffer_count * sizeof(io_uring_buf)));
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uint64_t>(buffers);
    registration.ring_entries = buffer_count;
    errno = -io_uring_register_buf_ring(&ring, &registration, 0);
    bench::must(-errno, "buffer ring");
    io_uring_buf_ring_init(buffers);
    for (unsigned i = 0; i < buffer_count; ++i) give_back(static_cast<int>(i));

    int listener = bench::listen_on(static_cast<int>(bench::option(argc, argv, "--port", 0)), 0);
    accept_more(listener);
    for (;;) {
        io_uring_submit_and_wait(&ring, 1);
        io_uring_cqe* cqe;
        unsigned head, seen = 0;
        io_uring_for_each_cqe(&ring, head, cqe) {
            ++seen;
            int fd = static_cast<int>(cqe->user_data & 0xffffffff);
            switch (static_cast<kind>(cqe->user_data >> 32)) {
                case kind::accept:
                    if (!(cqe->flags & IORING_CQE_F_MORE)) accept_more(listener);
                    if (cqe->res < 0) break;
                    bench::set_nodelay(cqe->res);
                    if (connections.size() <= std::size_t(cqe->res)) connections.resize(std::size_t(cqe->res) * 2);
                    receive_more(cqe->res);
                    break;
                case kind::receive: received(fd, *cqe); break;
                case kind::send: sent(fd, cqe->res); break;
            }
        }
        io_uring_cq_advance(&ring, seen);
    }
}
