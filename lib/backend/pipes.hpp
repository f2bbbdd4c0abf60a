// Pipes that bytes are spliced through.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rondo::detail {

struct splice_pipe {
    int out;  // where the bytes come out
    int in;
    splice_pipe* next;
};

/// Keeps some empty pipes, so that a short transfer does not cost a pipe2(2) and two close(2), and bounds how many
/// there are: each takes two descriptors, which are then missing elsewhere, and holds memory of the kernel's.
class pipe_pool {
 public:
    pipe_pool() noexcept = default;
    pipe_pool(const pipe_pool&) = delete;
    pipe_pool& operator=(const pipe_pool&) = delete;
    ~pipe_pool();

    /// An empty pipe, or null, and then `error` is -EMFILE (also when there are as many as there may be), -ENFILE or
    /// -ENOMEM.
    splice_pipe* take(std::int32_t& error) noexcept;
    /// `left` bytes are still in it. They are read into `saved`, if that is not null; the result says how many.
    std::int32_t give_back(splice_pipe& back, void* saved, std::uint32_t left) noexcept;
    /// Closes it, with what is in there.
    void drop(splice_pipe& last) noexcept;

    /// So many are kept empty at most.
    static constexpr std::size_t most_kept = 16;
    /// So many there may be; fewer when the process may have few descriptors.
    static constexpr std::size_t most = 256;

 private:
    splice_pipe* make(std::int32_t& error) noexcept;

    splice_pipe* free_ = nullptr;
    std::size_t kept_ = 0;
    std::size_t made_ = 0;
};

}  // namespace rondo::detail
