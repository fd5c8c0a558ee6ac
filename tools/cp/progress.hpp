// SPDX-License-Identifier: MIT
/// @file
/// How far it is, in numbers and in one line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace cp {

/// "1.5 MiB"
std::string human(std::uint64_t bytes);

/// "1:02:03", "2:03"
std::string clock(double seconds);

/// Bytes a second, of which the last seconds weigh most.
class meter {
public:
    /// So many bytes in all, at a time in seconds.
    void sample(double now, std::uint64_t bytes);
    [[nodiscard]] double rate() const { return rate_; }

private:
    static constexpr double memory = 3; // seconds

    std::optional<double> before_;
    std::uint64_t bytes_ = 0;
    double rate_ = 0;
    double weight_ = 0; // of all samples so far, up to 1
};

/// What is shown.
struct progress {
    std::uint64_t bytes = 0; ///< holes and what was left out count as copied
    std::uint64_t files = 0; ///< everything but directories
    std::uint64_t errors = 0;
    double rate = 0;
    bool counted = false; ///< the totals are known
    std::uint64_t total_bytes = 0;
    std::uint64_t total_files = 0;
};

/// Seconds that are left; nothing when nobody can know.
std::optional<double> time_left(const progress &now);

/// The line for a terminal of so many columns, without a control character.
std::string line_of(const progress &now, unsigned columns);

} // namespace cp
