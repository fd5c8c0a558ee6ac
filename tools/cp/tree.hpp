// SPDX-License-Identifier: MIT
/// @file
/// Walks the sources, and makes the directories of the copy on the way.
#pragma once

#include "names.hpp"
#include "report.hpp"

#include <httpd/descriptor.hpp>

#include <cstddef>
#include <deque>
#include <dirent.h>
#include <fcntl.h>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <sys/stat.h>
#include <vector>

namespace cp {

using httpd::descriptor;

/// A directory in both trees, while something in it is copied.
struct directory {
    struct closer {
        void operator()(DIR *stream) const { ::closedir(stream); }
    };

    bool argument = false; ///< what a source is in; itself not copied
    std::shared_ptr<const place> where;
    std::unique_ptr<DIR, closer> stream;
    descriptor to;
    struct stat meta {};
    struct stat copy {}; ///< identity of the other
    bool made = false;   ///< by us: nothing was in it
    unsigned busy = 1;   ///< entries in work, and the walk; see walker
    long position = 0;   ///< of the stream, when that was closed

    [[nodiscard]] int from() const {
        return stream ? ::dirfd(stream.get()) : AT_FDCWD;
    }
    [[nodiscard]] bool open() const { return stream != nullptr; }
};

/// Something to be copied, that is no directory.
struct entry {
    std::shared_ptr<directory> in;
    std::string from; ///< relative to in->from()
    std::string to;   ///< relative to in->to

    [[nodiscard]] std::string source() const {
        return joined(in->where->source(), from);
    }
    [[nodiscard]] std::string destination() const {
        return joined(in->where->destination(), to);
    }
    [[nodiscard]] std::string at_fault(const fault &how) const {
        return how.source ? source() : destination();
    }
};

/// Goes through the sources, depth first, and holds no more of them than the
/// names of the directories that it is in.  So many of these are open at a time
/// as max_open and the entries in work, however deep the tree is.
///
/// Used by one thread at a time (under the lock of its user).
class walker {
public:
    static constexpr std::size_t max_open = 64;

    walker(const std::vector<std::string> &sources, std::string destination,
           reporter &report, counters &counts);

    /// The next entry; its directory counts it as busy.  Nothing at the end, or
    /// when a directory is finished: that has to be taken first.
    std::optional<entry> next();

    /// An entry has been dealt with.
    void leave(std::shared_ptr<directory> in);

    /// A directory of which everything has been dealt with.
    std::shared_ptr<directory> finished();

private:
    std::optional<entry> next_argument();
    void descend(const entry &what, bool argument);
    fault enter(const entry &what, bool argument, directory &made);
    [[nodiscard]] std::string
    objection(const entry &what, const directory &made, bool argument) const;
    void pop();
    void close_some();
    static fault reopen(directory &parent, const directory &child);

    std::deque<std::string> sources_;
    std::string destination_;
    bool is_directory_ = false;
    reporter *report_;
    counters *counts_;
    std::vector<std::string> taken_;                 // names of arguments
    std::vector<struct stat> roots_;                 // of the copy
    std::vector<std::shared_ptr<directory>> levels_; // outermost first
    std::size_t opened_ = 0;                         // of levels_
    std::list<std::shared_ptr<directory>> finished_;
};

/// Are they one file?
inline bool same(const struct stat &one, const struct stat &other) {
    return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

} // namespace cp
