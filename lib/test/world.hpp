// SPDX-License-Identifier: MIT
/// @file
/// The two worlds that the conformance tests run in.
#pragma once

#include "fake_kernel.hpp"

#include <kevent/kevent.hpp>

#include <fcntl.h>
#include <thread>
#include <unistd.h>

namespace kevent::test {

/// Everything simulated.
class fake_world {
public:
    kernel &system() { return kernel_; }
    /// A file that can become readable and hang up.
    int make_file() { return kernel_.make_file(); }
    void make_readable(int fd) { kernel_.announce(fd, EPOLLIN); }
    void drain(int fd) { kernel_.settle(fd, EPOLLIN); }
    void hang_up(int fd) { kernel_.announce_without_key(fd, EPOLLHUP); }
    void pass(nanoseconds time) { kernel_.advance(time); }

private:
    fake_kernel kernel_;
};

/// The module, and pipes.
class device_world {
public:
    device_world() = default;
    device_world(const device_world &) = delete;
    device_world &operator=(const device_world &) = delete;
    ~device_world() {
        for (const auto &each : writers_) {
            ::close(each.first);
            if (each.second >= 0)
                ::close(each.second);
        }
    }

    kernel &system() { return device::instance(); }
    int make_file() {
        int ends[2] = {-1, -1};
        if (::pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0)
            std::abort();
        writers_[ends[0]] = ends[1];
        return ends[0];
    }
    void make_readable(int fd) {
        if (::write(writers_.at(fd), "x", 1) != 1)
            std::abort();
    }
    void drain(int fd) {
        char buffer[512];
        while (::read(fd, buffer, sizeof(buffer)) > 0)
            continue;
    }
    void hang_up(int fd) { ::close(std::exchange(writers_.at(fd), -1)); }
    void pass(nanoseconds time) { std::this_thread::sleep_for(time); }

private:
    std::map<int, int> writers_;
};

} // namespace kevent::test
