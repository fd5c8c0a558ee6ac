// SPDX-License-Identifier: MIT
/// @file
/// Which name goes where.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace cp {

/// A name in a directory.
struct target {
    std::string parent; ///< a path, never empty
    std::string name;   ///< one component; "." for the directory itself
};

/// A path without the slashes at its end; of "/" one is left.
std::string_view without_slashes(std::string_view path);

/// The last component; empty when that names no entry: of "/", ".", "..".
std::string_view last_name(std::string_view path);

/// Takes a path apart: "a/b/" is b in a, "b" is b in ".", "a/.." is "." in
/// "a/..".
target split(std::string_view path);

/// Where a source goes: below @p destination if that is a directory, else to
/// that name.  The contents of "x/." go into the directory itself.
target target_of(std::string_view source, std::string_view destination,
                 bool is_directory);

std::string joined(std::string_view directory, std::string_view name);

/// A name for what is not complete.
std::string hidden_name(int process, std::uint64_t number);

/// Requests that can be in flight at a time with so many descriptors: each may
/// need two files and two directories, beside the walk's own.
unsigned affordable_depth(unsigned depth, std::uint64_t descriptors);

/// Where a directory is, in both trees.  The chain of those above it, so that a
/// deep tree does not hold each path in full.
struct place {
    std::shared_ptr<const place> above;
    std::string from; ///< the first: a path; others: one name
    std::string to;

    [[nodiscard]] std::string source() const { return path(&place::from); }
    [[nodiscard]] std::string destination() const { return path(&place::to); }

private:
    [[nodiscard]] std::string path(std::string place::*side) const;
};

} // namespace cp
