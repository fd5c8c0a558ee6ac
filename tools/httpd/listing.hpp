// SPDX-License-Identifier: MIT
/// @file
/// A page that lists a directory.
#pragma once

#include "descriptor.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace httpd {

/// Lists a directory, up to a few thousand names, sorted.  @p title is its
/// path.  Nothing, and errno, if it cannot be read.
std::optional<std::string> list_directory(descriptor opened,
                                          std::string_view title);

} // namespace httpd
