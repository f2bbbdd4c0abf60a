// Peer: libuv echo. Tries to write at once; only what is left goes through a write request.
#include <uv.h>

#include "support.hpp"

namespace {

constexpr std::size_t buffer_size = 16 * 1024;
char buffer[buffer_size];

struct pending_write {
    uv_write_t request;
    char* rest;
};

void closed(uv_handle_t* handle) { delete reinterpret_cast<uv_tcp_t*>(handle); }
void lend_buffer(uv_handle_t*, std::size_t, uv_buf_t* out) { *out = uv_buf_init(buffer, buffer_size); }

void received(uv_stream_t* stream, ssize_t size, const uv_buf_t* data) {
    if (size < 0) return uv_close(reinterpret_cast<uv_handle_t*>(stream), closed);
    if (size == 0) return;
    auto out = uv_buf_init(data->base, static_cast<unsigned>(size));
    int written = uv_try_write(stream, &out, 1);
    if (written == size) return;
    if (written < 0) written = 0;
    auto rest = static_cast<std::size_t>(size - written);
    auto* pending = new pending_write{{}, new char[rest]};
    std::memcpy(pending->rest, data->base + written, rest);
    out = uv_buf_init(pending->rest, static_cast<unsigned>(rest));
    uv_write(&pending->request, stream, &out, 1, [](uv_write_t* request, int) {
        auto* done = reinterpret_cast<pending_write*>(request);
        delete[] done->rest;
        delete done;
    });
}

void connected(uv_stream_t* listener, int status) {
    if (status < 0) return;
    auto* peer = new uv_tcp_t;
    uv_tcp_init(listener->loop, peer);
    auto* stream = reinterpret_cast<uv_stream_t*>(peer);
    if (uv_accept(listener, stream) != 0) return uv_close(reinterpret_cast<uv_handle_t*>(peer), closed);
    uv_tcp_nodelay(peer, 1);
    uv_read_start(stream, lend_buffer, received);
}

}  // namespace

int main(int argc, char** argv) {
    bench::prepare_server();
    auto* loop = uv_default_loop();
    uv_tcp_t listener;
    uv_tcp_init(loop, &listener);
    auto address = bench::loopback(static_cast<int>(bench::option(argc, argv, "--port", 0)));
    bench::must(uv_tcp_bind(&listener, reinterpret_cast<sockaddr*>(&address), 0), "bind");
    bench::must(uv_listen(reinterpret_cast<uv_stream_t*>(&listener), 4096, connected), "listen");
    int length = sizeof address;
    uv_tcp_getsockname(&listener, reinterpret_cast<sockaddr*>(&address), &length);
    bench::announce_port(ntohs(address.sin_port));
    uv_run(loop, UV_RUN_DEFAULT);
}
