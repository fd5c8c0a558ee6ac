// SPDX-License-Identifier: MIT
/// @file
/// What belongs to a file beside its contents.
#pragma once

#include <kevent/result.hpp>

#include <cerrno>
#include <string>
#include <system_error>

#include <sys/stat.h>

namespace cp {

/// errno, as it is now.
inline std::error_code last_error() noexcept {
    return kevent::errno_code(errno);
}

/// Gives @p to the attributes of @p from, then owner, mode and times of
/// @p meta.  Attributes and owners that the caller may not give, or the file
/// system does not know, are left out; without its owner a file is not setuid.
std::error_code restore(int from, int to, const struct stat &meta);

/// The same for one that cannot be opened, without attributes.  A symbolic link
/// is not followed.
std::error_code restore(int directory, const std::string &name,
                        const struct stat &meta);

} // namespace cp
