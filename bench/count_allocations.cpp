// Preloaded library that counts allocations into the file named by ALLOCATION_COUNT, mapped shared,
// so that the driver can read the count while a server runs.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}

namespace {

std::atomic<std::uint64_t> before_start;
std::atomic<std::uint64_t>* count = &before_start;

[[gnu::constructor]] void start() {
    const char* path = getenv("ALLOCATION_COUNT");
    if (!path) return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void* page = mmap(nullptr, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (page == MAP_FAILED) return;
    count = static_cast<std::atomic<std::uint64_t>*>(page);
}

void add() { count->fetch_add(1, std::memory_order_relaxed); }

}  // namespace

extern "C" {

void* malloc(size_t size) {
    add();
    return __libc_malloc(size);
}

void* calloc(size_t number, size_t size) {
    add();
    return __libc_calloc(number, size);
}

void* realloc(void* block, size_t size) {
    add();
    return __libc_realloc(block, size);
}

void* memalign(size_t alignment, size_t size) {
    add();
    return __libc_memalign(alignment, size);
}

void* aligned_alloc(size_t alignment, size_t size) {
    add();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void** out, size_t alignment, size_t size) {
    add();
    *out = __libc_memalign(alignment, size);
    return *out ? 0 : 12;
}

}  // extern "C"
