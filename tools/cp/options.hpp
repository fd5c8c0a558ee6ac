// SPDX-License-Identifier: MIT
/// @file
/// The command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cp {

struct options {
    std::vector<std::string> sources;
    std::string destination;
    bool no_clobber = false;
    bool direct = false;
    bool sync = false;
    bool progress = true; ///< if there is a terminal
    bool stats = false;
    unsigned depth = 64;
    std::uint64_t buffer = 128 << 10;
    unsigned threads = 1;
    unsigned rings = 0;
};

/// What direct transfers are aligned to; buffers are multiples of it.
constexpr std::uint64_t page = 4096;

/// Nothing: @p status is the exit status.
std::optional<options> parse_options(int argc, char **argv, int &status);

} // namespace cp
