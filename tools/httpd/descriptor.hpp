// SPDX-License-Identifier: MIT
/// @file
/// A descriptor that is closed when it goes out of scope.
#pragma once

#include <unistd.h>
#include <utility>

namespace httpd {

/// Move-only.
class descriptor {
public:
    descriptor() noexcept = default;
    explicit descriptor(int fd) noexcept : fd_(fd) {}
    descriptor(descriptor &&other) noexcept : fd_(other.release()) {}
    descriptor &operator=(descriptor &&other) noexcept {
        descriptor(std::move(other)).swap(*this);
        return *this;
    }
    ~descriptor() {
        if (fd_ >= 0)
            ::close(fd_);
    }

    [[nodiscard]] int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }
    int release() noexcept { return std::exchange(fd_, -1); }
    void reset() noexcept { *this = descriptor(); }

private:
    void swap(descriptor &other) noexcept { std::swap(fd_, other.fd_); }

    int fd_ = -1;
};

} // namespace httpd
