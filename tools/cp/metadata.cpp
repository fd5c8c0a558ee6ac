// SPDX-License-Identifier: MIT
#include "metadata.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string_view>
#include <sys/xattr.h>
#include <unistd.h>
#include <vector>

namespace cp {

namespace {
bool optional_here(int error) {
    return error == EOPNOTSUPP || error == EPERM || error == EACCES ||
           error == EINVAL;
}

/// Calls a function that says how large its answer is.  Empty: none, or an
/// error in errno.
template <class Get>
std::vector<char> answer(Get get) {
    std::vector<char> buffer;
    errno = 0;
    for (ssize_t size = get(nullptr, 0); size > 0;) {
        buffer.resize(static_cast<std::size_t>(size));
        size = get(buffer.data(), buffer.size());
        if (size >= 0) {
            buffer.resize(static_cast<std::size_t>(size));
            return buffer;
        }
        size = errno == ERANGE ? get(nullptr, 0) : -1;
    }
    return {};
}

/// Their list is names, each with a zero at its end.
std::error_code copy_attributes(int from, int to) {
    const auto names = answer([=](char *out, std::size_t size) {
        return ::flistxattr(from, out, size);
    });
    for (const char *name = names.data(), *end = name + names.size();
         name != end; name += std::strlen(name) + 1) {
        const auto value = answer([=](char *out, std::size_t size) {
            return ::fgetxattr(from, name, out, size);
        });
        if (value.empty() && errno != 0)
            continue; // it has gone, or is not ours to read
        if (::fsetxattr(to, name, value.data(), value.size(), 0) < 0 &&
            !optional_here(errno))
            return last_error();
    }
    return {};
}

/// The mode that is right after @p change_owner(uid, gid).
template <class Change>
mode_t give_owner(const struct stat &meta, Change change_owner) {
    const auto mode = meta.st_mode & 07777;
    if (change_owner(meta.st_uid, meta.st_gid) == 0)
        return mode;
    static_cast<void>(change_owner(static_cast<uid_t>(-1), meta.st_gid));
    return mode & ~mode_t{S_ISUID | S_ISGID};
}
} // namespace

std::error_code restore(int from, int to, const struct stat &meta) {
    const auto mode = give_owner(meta, [=](uid_t user, gid_t group) {
        return ::fchown(to, user, group);
    });
    if (const auto error = copy_attributes(from, to))
        return error;
    const timespec times[] = {meta.st_atim, meta.st_mtim};
    if (::fchmod(to, mode) < 0 || ::futimens(to, times) < 0)
        return last_error();
    return {};
}

std::error_code restore(int directory, const std::string &name,
                        const struct stat &meta) {
    const auto mode = give_owner(meta, [&](uid_t user, gid_t group) {
        return ::fchownat(directory, name.c_str(), user, group,
                          AT_SYMLINK_NOFOLLOW);
    });
    const timespec times[] = {meta.st_atim, meta.st_mtim};
    if ((!S_ISLNK(meta.st_mode) &&
         ::fchmodat(directory, name.c_str(), mode, 0) < 0) ||
        ::utimensat(directory, name.c_str(), times, AT_SYMLINK_NOFOLLOW) < 0)
        return last_error();
    return {};
}

} // namespace cp
