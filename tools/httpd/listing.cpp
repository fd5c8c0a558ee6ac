// SPDX-License-Identifier: MIT
#include "listing.hpp"

#include "path.hpp"

#include <algorithm>
#include <dirent.h>
#include <fmt/format.h>
#include <iterator>
#include <memory>
#include <vector>

namespace httpd {

namespace {
/// Bounds the memory that one request can ask for.
constexpr std::size_t names_limit = 4096;

struct close_directory {
    void operator()(DIR *directory) const { ::closedir(directory); }
};
using directory = std::unique_ptr<DIR, close_directory>;

std::string name_of(const dirent &entry) {
    return std::string(entry.d_name) + (entry.d_type == DT_DIR ? "/" : "");
}

std::vector<std::string> names_in(DIR *opened) {
    std::vector<std::string> names;
    while (const dirent *entry = ::readdir(opened)) {
        if (entry->d_name[0] == '.')
            continue;
        names.push_back(name_of(*entry));
        if (names.size() == names_limit)
            break;
    }
    std::sort(names.begin(), names.end());
    return names;
}
} // namespace

std::optional<std::string> list_directory(descriptor opened,
                                          std::string_view title) {
    const directory reader(::fdopendir(opened.get()));
    if (!reader)
        return std::nullopt;
    static_cast<void>(opened.release());
    const auto names = names_in(reader.get());
    auto page = fmt::format("<!DOCTYPE html>\n<title>{0}</title>\n"
                            "<h1>{0}</h1>\n<ul>\n",
                            html_escape(title));
    auto to = std::back_inserter(page);
    if (title != "/")
        fmt::format_to(to, "<li><a href=\"../\">../</a>\n");
    for (const auto &name : names)
        fmt::format_to(to, "<li><a href=\"./{}\">{}</a>\n",
                       percent_encode(name), html_escape(name));
    fmt::format_to(to, "</ul>\n");
    if (names.size() == names_limit)
        fmt::format_to(to, "<p>There are more.</p>\n");
    return page;
}

} // namespace httpd
