// SPDX-License-Identifier: MIT
/// @file
/// A bounded number of buffers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace httpd {

/// Buffers of one size, so many at the most.  What was given back last is taken
/// first, while it is in the cache; a few are kept, the others freed.  Used by
/// one thread; outlives its buffers.
class buffer_pool {
    struct give_back {
        buffer_pool *to;
        void operator()(char *memory) const noexcept { to->put(memory); }
    };

public:
    static constexpr std::size_t size = 64 << 10; ///< of a buffer

    using buffer = std::unique_ptr<char[], give_back>;

    explicit buffer_pool(std::size_t most) : most_(most) {
        free_.reserve(std::min(most, keep));
    }

    /// Null if all are in use.
    buffer take() noexcept {
        char *memory = nullptr;
        if (!free_.empty()) {
            memory = free_.back().release();
            free_.pop_back();
        } else if (used_ < most_) {
            memory = new (std::nothrow) char[size];
        }
        used_ += memory != nullptr;
        return buffer(memory, {this});
    }

    /// Is it so little that is in use that one may have two?
    [[nodiscard]] bool plenty() const noexcept { return used_ < most_ / 2; }
    [[nodiscard]] std::size_t used() const noexcept { return used_; }

private:
    static constexpr std::size_t keep = 64;

    void put(char *memory) noexcept {
        std::unique_ptr<char[]> owned(memory);
        if (free_.size() < free_.capacity())
            free_.push_back(std::move(owned));
        used_--;
    }

    std::size_t most_;
    std::size_t used_ = 0;
    std::vector<std::unique_ptr<char[]>> free_;
};

} // namespace httpd
