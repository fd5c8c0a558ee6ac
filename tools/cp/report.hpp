// SPDX-License-Identifier: MIT
/// @file
/// Standard error: what failed, and the bar.
#pragma once

#include "progress.hpp"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <system_error>

namespace cp {

/// What was done so far.  Written by any thread.
struct counters {
    std::atomic<std::uint64_t> bytes{0}; ///< as progress::bytes
    std::atomic<std::uint64_t> files{0};
    std::atomic<std::uint64_t> directories{0};
    std::atomic<std::uint64_t> links{0};   ///< of files: hard links
    std::atomic<std::uint64_t> skipped{0}; ///< of files: existed
    std::atomic<std::uint64_t> holes{0};   ///< of bytes

    std::atomic<std::uint64_t> requests{0};
    std::atomic<std::uint64_t> inlined{0}; ///< of requests; and so on
    std::atomic<std::uint64_t> direct{0};
    std::atomic<std::uint64_t> worker{0};
    std::atomic<std::uint64_t> again{0}; ///< refused, and tried again

    std::atomic<std::uint64_t> total_bytes{0};
    std::atomic<std::uint64_t> total_files{0};
    std::atomic<bool> counted{false};
};

/// An error, and whether the source is at fault, or else the destination.
struct fault : std::error_code {
    fault() = default;
    fault(std::error_code how, bool at_source = false)
        : std::error_code(how),
          source(at_source) {}

    bool source = false;
};

/// Says what fails, each on a line of its own, whatever is drawn.  Thread-safe.
class reporter {
public:
    /// @p bar: whether draw() draws.
    explicit reporter(bool bar) : bar_(bar) {}
    ~reporter() { erase(); }

    /// A file that could not be copied; counts it.
    void failed(const std::string &path, const std::string &why);
    void failed(const std::string &path, std::error_code why) {
        failed(path, why.message());
    }
    [[nodiscard]] std::uint64_t failures() const { return failures_; }

    [[nodiscard]] bool draws() const { return bar_; }
    void draw(const progress &now);
    void erase();

private:
    const bool bar_;
    std::atomic<std::uint64_t> failures_{0};
    std::mutex lock_;
    std::string shown_; // guarded by lock_
};

} // namespace cp
