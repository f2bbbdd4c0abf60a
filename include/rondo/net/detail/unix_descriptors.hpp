// The waits that move bytes of a stream together with descriptors.
#pragma once

#include <rondo/io/owned_descriptor.hpp>
#include <rondo/io/stream.hpp>

#include <cstddef>
#include <span>

namespace rondo {

/// What came with a read: so many bytes, 0 at the end of the stream, and so many descriptors.
struct received_with_descriptors {
    std::size_t size = 0;
    std::size_t descriptors = 0;
};

namespace detail {

/// What is wrong with sending these; null if nothing is.
RONDO_API const char* fault_of_descriptors(std::span<const int> descriptors) noexcept;
/// What an error of a receive says of descriptors, if it is about them; else empty.
RONDO_API const char* lost_descriptors(std::int32_t result) noexcept;

/// The failure of a send with a descriptor that is not simulated, in a world that is.
RONDO_API rondo::failure not_passed_on(std::error_code code) noexcept;

class RONDO_API send_descriptors_awaiter : public stream_awaiter, public awaits_io<send_descriptors_awaiter> {
 public:
    send_descriptors_awaiter(descriptor_stream& stream, bytes_view bytes, std::span<const int> descriptors,
                             std::size_t* written) noexcept;

    bool start() noexcept;
    rondo::result<std::size_t> finish();
    std::size_t await_resume() { return *finish(); }

 private:
    raw_message what_;
    std::span<const int> descriptors_;
    std::size_t* written_;
    const char* fault_ = nullptr;
};

class RONDO_API receive_descriptors_awaiter : public stream_awaiter, public awaits_io<receive_descriptors_awaiter> {
 public:
    receive_descriptors_awaiter(descriptor_stream& stream, writable_bytes into,
                                std::span<owned_descriptor> places) noexcept;

    bool start() noexcept;
    void give_back() noexcept;
    rondo::result<received_with_descriptors> finish();
    received_with_descriptors await_resume() { return *finish(); }

 private:
    raw_message what_;
    std::span<owned_descriptor> places_;
};

}  // namespace detail
}  // namespace rondo
