// SPDX-License-Identifier: MIT
/// @file
/// From request targets to paths and back.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace httpd {

/// The path that a target names, relative to the root and decoded: "." for the
/// root itself.  Nothing if it is malformed.  It may contain "..", which
/// opening it must refuse to follow out of the root.
std::optional<std::string> path_of(std::string_view target);

/// The inverse of decoding, for one name or a whole path.
std::string percent_encode(std::string_view path);

/// Text that is safe inside HTML and its attributes.
std::string html_escape(std::string_view text);

} // namespace httpd
