// A backend that refuses some calls, as a kernel might.
#pragma once

#include <rondo/loop/forwarding_backend.hpp>

#include <memory>
#include <string>
#include <utility>

namespace test {

/// Puts one round the backend that the loop would have had. `What` says with which errno a call is refused,
/// or 0 when it is not: by error_for(sys_op), error_for(io_op), or both.
template <class What>
struct refusing : rondo::backend_factory {
    class refuses final : public rondo::forwarding_backend {
     public:
        refuses(std::unique_ptr<rondo::backend> inside, const What& what) noexcept
            : forwarding_backend(std::move(inside)), what_(what) {}
        int control(rondo::sys_op& call) noexcept override {
            if constexpr (requires { what_.error_for(std::as_const(call)); })
                if (const int error = what_.error_for(std::as_const(call)); error != 0) return -error;
            return forwarding_backend::control(call);
        }
        bool submit(rondo::io_op& operation) noexcept override {
            if constexpr (requires { what_.error_for(std::as_const(operation)); })
                if (const int error = what_.error_for(std::as_const(operation)); error != 0) {
                    operation.result = -error;
                    return true;
                }
            return forwarding_backend::submit(operation);
        }

     private:
        const What& what_;
    };
    std::unique_ptr<rondo::backend> make(const rondo::backend_options& options, std::string& why) override {
        using rondo::backend_kind;
        return std::make_unique<refuses>(rondo::choose_backend(backend_kind::automatic, options, why), what);
    }
    What what;
};

}  // namespace test
