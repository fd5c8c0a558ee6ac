// SPDX-License-Identifier: MIT
/// @file
/// A directory tree that is served.
#pragma once

#include "descriptor.hpp"
#include "http.hpp"
#include "response.hpp"

#include <string>
#include <string_view>

struct stat;

namespace httpd {

/// The tree below a directory, which no request leaves.  Thread-safe: nothing
/// changes after construction.
class site {
public:
    /// Throws std::system_error when the directory cannot be opened.
    explicit site(const std::string &root);

    /// The response to a request.  Opens, and blocks for, files.
    [[nodiscard]] response answer(const request &what) const;

private:
    [[nodiscard]] response get(const request &what) const;
    [[nodiscard]] response serve(const request &what, const std::string &path,
                                 descriptor opened,
                                 const struct stat &about) const;
    [[nodiscard]] response directory(const request &what,
                                     const std::string &path,
                                     descriptor opened) const;

    descriptor root_;
};

/// The media type that a file's name suggests.
std::string_view type_of(std::string_view path);

} // namespace httpd
