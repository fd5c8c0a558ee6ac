// SPDX-License-Identifier: MIT
/// @file
/// Byte ranges.
#pragma once

#include <cstdint>
#include <string_view>

namespace httpd {

/// A part of a file.
struct extent {
    std::uint64_t first = 0;
    std::uint64_t length = 0;
    bool operator==(const extent &) const = default;
};

/// What a Range field asks for.
struct range {
    enum class kind {
        all,          ///< no range, several, or nothing that we understand
        part,         ///< one range
        unsatisfiable ///< it lies beyond the end
    };
    kind asked = kind::all;
    extent part;
    bool operator==(const range &) const = default;
};

/// Understands "bytes=F-L", "bytes=F-" and "bytes=-N" for a file of @p size.
range parse_range(std::string_view field, std::uint64_t size);

} // namespace httpd
