// SPDX-License-Identifier: MIT
/// @file
/// HTTP/1.1 requests, as Boost.Beast's parser understands them.
#pragma once

#include <cstddef>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

namespace httpd {

/// The largest request head; a connection buffers no more than that.
constexpr std::size_t head_limit = 8192;

/// What the server needs of a request.  The views point into what was parsed.
struct request {
    unsigned status = 200; ///< or the error that the request line deserves
    bool head = false;     ///< HEAD, or GET
    bool keep_alive = false;
    bool has_body = false; ///< which nobody reads
    std::string_view target;
    std::string_view range;
    std::string_view if_range;
    std::string_view if_modified_since;
};

/// What parse() found at the start of the input.
struct parsed {
    enum class state {
        incomplete, ///< more is needed
        complete,   ///< a request of @p length bytes
        bad         ///< what.status says why; the rest makes no sense
    };
    state found = state::incomplete;
    std::size_t length = 0;
    request what;
};

/// Looks for a request at the start of @p input.  Input of head_limit bytes
/// that holds none is bad.
parsed parse(std::string_view input);

/// The words of a status.
std::string_view reason(unsigned status);

/// A time as HTTP writes it.
std::string http_date(std::time_t time);

/// A time in any of HTTP's three formats.
std::optional<std::time_t> parse_date(std::string_view text);

} // namespace httpd
