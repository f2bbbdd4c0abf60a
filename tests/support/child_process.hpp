// A child of the test that is no test any more: what it writes, and how it ends.
#pragma once

#include "test.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>

namespace test {

class child_process {
 public:
    /// Runs `body(descriptor)`, which gives the exit code; what it writes to the descriptor comes out here, and what it
    /// writes to `captured` as well. It ends when it is stuck, and leaves no core.
    template <class Body>
    explicit child_process(Body body, int captured = -1) {
        REQUIRE(::pipe(ends_) == 0);
        std::fflush(nullptr);
        pid_ = ::fork();
        REQUIRE(pid_ >= 0);
        if (pid_ == 0) {
            ::close(ends_[0]);
            if (captured >= 0) ::dup2(ends_[1], captured);
            for (const int signal : {SIGABRT, SIGINT, SIGTERM}) std::signal(signal, SIG_DFL);  // the test framework's
            const rlimit no_core{0, 0};
            ::setrlimit(RLIMIT_CORE, &no_core);
            ::alarm(20);
            ::_exit(body(ends_[1]));
        }
        ::close(ends_[1]);
    }
    ~child_process() { ::close(ends_[0]); }
    child_process(const child_process&) = delete;
    child_process& operator=(const child_process&) = delete;

    void signal(int number) const { ::kill(pid_, number); }
    /// What it writes until the next space, without that; empty at the end.
    std::string word() const {
        std::string text;
        for (char c = 0; ::read(ends_[0], &c, 1) == 1 && c != ' ';) text += c;
        return text;
    }
    /// What it writes until the end.
    std::string rest() const {
        std::string text;
        char piece[8192];
        for (ssize_t n; (n = ::read(ends_[0], piece, sizeof piece)) > 0;)
            text.append(piece, static_cast<std::size_t>(n));
        return text;
    }
    /// Waits for its end, and gives it as wait(2) does.
    int ended() const {
        int status = 0;
        ::waitpid(pid_, &status, 0);
        return status;
    }

 private:
    int ends_[2] = {};
    pid_t pid_ = -1;
};

}  // namespace test
