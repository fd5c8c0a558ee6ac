// SPDX-License-Identifier: MIT
/// @file
/// A response, and the bytes of its head.
#pragma once

#include "descriptor.hpp"
#include "range.hpp"

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

namespace httpd {

/// What is sent for a request.  The body is text, or a part of a file.
struct response {
    unsigned status = 200;
    bool head = false; ///< send no body, but say how long it is
    std::string_view type;
    std::optional<std::time_t> modified;
    std::string fields; ///< more header fields, each with its line end
    std::string text;
    descriptor file;
    extent part;

    /// Length of the body that GET gets.
    [[nodiscard]] std::uint64_t length() const {
        return file ? part.length : text.size();
    }
};

/// A page that says what the status means.
response error_page(unsigned status);

/// The head of a response as it goes over the wire.
std::string head_of(const response &what, bool keep_alive);

} // namespace httpd
