// SPDX-License-Identifier: MIT
#include "names.hpp"

#include "tree.hpp"

#include <algorithm>
#include <fmt/format.h>

namespace cp {

std::string_view without_slashes(std::string_view path) {
    while (path.size() > 1 && path.back() == '/')
        path.remove_suffix(1);
    return path;
}

std::string_view last_name(std::string_view path) {
    path = without_slashes(path);
    path.remove_prefix(path.rfind('/') + 1);
    return path == "." || path == ".." ? std::string_view() : path;
}

target split(std::string_view path) {
    const auto name = last_name(path);
    if (name.empty())
        return {std::string(path), "."};
    path = without_slashes(path);
    path.remove_suffix(name.size());
    return {path.empty() ? "." : std::string(without_slashes(path)),
            std::string(name)};
}

target target_of(std::string_view source, std::string_view destination,
                 bool is_directory) {
    const auto name = last_name(source);
    if (!is_directory || name.empty())
        return split(destination);
    return {std::string(destination), std::string(name)};
}

std::string joined(std::string_view directory, std::string_view name) {
    if (directory.empty() || directory == ".")
        return std::string(name);
    return fmt::format("{}{}{}", directory, directory.back() == '/' ? "" : "/",
                       name);
}

std::string hidden_name(int process, std::uint64_t number) {
    return fmt::format(".kevent-cp.{}.{}", process, number);
}

unsigned affordable_depth(unsigned depth, std::uint64_t descriptors) {
    const std::uint64_t own = 2 * walker::max_open + 64;
    const auto left = descriptors > own ? (descriptors - own) / 4 : 0;
    return static_cast<unsigned>(std::clamp<std::uint64_t>(left, 1, depth));
}

std::string place::path(std::string place::*side) const {
    std::size_t size = 0;
    for (const auto *each = this; each != nullptr; each = each->above.get())
        size += (each->*side).size() + 1;
    std::string all(size, '/');
    for (const auto *each = this; each != nullptr; each = each->above.get()) {
        size -= (each->*side).size() + 1;
        std::ranges::copy(each->*side, all.data() + size);
    }
    all.pop_back();
    return all;
}

} // namespace cp
