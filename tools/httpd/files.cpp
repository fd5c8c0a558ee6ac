// SPDX-License-Identifier: MIT
#include "files.hpp"

#include "listing.hpp"
#include "path.hpp"
#include "range.hpp"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <system_error>
#include <utility>

namespace httpd {

namespace {
/// Opens below @p root and nowhere else, whatever links and dots say.  A FIFO
/// does not block.
descriptor open_beneath(int root, const std::string &path) {
    open_how how{};
    how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    return descriptor(static_cast<int>(
        ::syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how))));
}

unsigned status_of(int error) {
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
        return 404;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return 503;
    case EIO:
        return 500;
    default:
        return 403;
    }
}

bool not_modified(const request &what, std::time_t modified) {
    if (what.if_modified_since.empty())
        return false;
    const auto since = parse_date(what.if_modified_since);
    return since && modified <= *since;
}

/// Is the Range field to be heeded?
bool range_applies(const request &what, std::time_t modified) {
    return !what.head && !what.range.empty() &&
           (what.if_range.empty() || parse_date(what.if_range) == modified);
}

response unsatisfiable(std::uint64_t size) {
    auto page = error_page(416);
    page.fields = fmt::format("Content-Range: bytes */{}\r\n", size);
    return page;
}

void apply_range(response &made, std::string_view field, std::uint64_t size) {
    const auto asked = parse_range(field, size);
    if (asked.asked == range::kind::unsatisfiable) {
        made = unsatisfiable(size);
    } else if (asked.asked == range::kind::part) {
        made.status = 206;
        made.part = asked.part;
        made.fields +=
            fmt::format("Content-Range: bytes {}-{}/{}\r\n", asked.part.first,
                        asked.part.first + asked.part.length - 1, size);
    }
}

response file_response(const request &what, const std::string &path,
                       descriptor file, const struct stat &about) {
    response made;
    made.modified = about.st_mtim.tv_sec;
    if (not_modified(what, about.st_mtim.tv_sec)) {
        made.status = 304;
        return made;
    }
    const auto size = static_cast<std::uint64_t>(about.st_size);
    made.type = type_of(path);
    made.fields = "Accept-Ranges: bytes\r\n";
    made.file = std::move(file);
    made.part = {0, size};
    if (range_applies(what, about.st_mtim.tv_sec))
        apply_range(made, what.range, size);
    return made;
}

response moved_to(const std::string &path) {
    auto page = error_page(301);
    page.fields = fmt::format("Location: /{}/\r\n", percent_encode(path));
    return page;
}
} // namespace

site::site(const std::string &root)
    : root_(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)) {
    if (!root_)
        throw std::system_error(errno, std::generic_category(), root);
}

response site::answer(const request &what) const {
    auto made = what.status == 200 ? get(what) : error_page(what.status);
    made.head = what.head;
    return made;
}

response site::get(const request &what) const {
    const auto path = path_of(what.target);
    if (!path)
        return error_page(400);
    auto opened = open_beneath(root_.get(), *path);
    struct stat about {};
    if (!opened || ::fstat(opened.get(), &about) != 0)
        return error_page(status_of(errno));
    return serve(what, *path, std::move(opened), about);
}

response site::serve(const request &what, const std::string &path,
                     descriptor opened, const struct stat &about) const {
    if (S_ISREG(about.st_mode))
        return file_response(what, path, std::move(opened), about);
    if (!S_ISDIR(about.st_mode))
        return error_page(403);
    if (path != "." && !path.ends_with('/'))
        return moved_to(path);
    return directory(what, path, std::move(opened));
}

response site::directory(const request &what, const std::string &path,
                         descriptor opened) const {
    const auto index = path == "." ? "index.html" : path + "index.html";
    auto page = open_beneath(root_.get(), index);
    struct stat about {};
    if (page && ::fstat(page.get(), &about) == 0 && S_ISREG(about.st_mode))
        return file_response(what, index, std::move(page), about);
    auto text =
        list_directory(std::move(opened), path == "." ? "/" : "/" + path);
    if (!text)
        return error_page(status_of(errno));
    response made;
    made.type = "text/html; charset=utf-8";
    made.text = std::move(*text);
    return made;
}

std::string_view type_of(std::string_view path) {
    using entry = std::pair<std::string_view, std::string_view>;
    static constexpr std::array types{
        entry{".css", "text/css; charset=utf-8"},
        entry{".gif", "image/gif"},
        entry{".gz", "application/gzip"},
        entry{".htm", "text/html; charset=utf-8"},
        entry{".html", "text/html; charset=utf-8"},
        entry{".ico", "image/vnd.microsoft.icon"},
        entry{".jpeg", "image/jpeg"},
        entry{".jpg", "image/jpeg"},
        entry{".js", "text/javascript; charset=utf-8"},
        entry{".json", "application/json"},
        entry{".md", "text/markdown; charset=utf-8"},
        entry{".pdf", "application/pdf"},
        entry{".png", "image/png"},
        entry{".svg", "image/svg+xml"},
        entry{".txt", "text/plain; charset=utf-8"},
        entry{".wasm", "application/wasm"},
        entry{".webp", "image/webp"},
        entry{".xml", "application/xml"},
    };
    const auto name = path.substr(path.rfind('/') + 1);
    const auto dot = name.rfind('.');
    if (dot == std::string_view::npos)
        return "text/plain; charset=utf-8"; // README, copyright
    for (const auto &[ending, type] : types)
        if (name.substr(dot) == ending)
            return type;
    return "application/octet-stream";
}

} // namespace httpd
