// SPDX-License-Identifier: MIT
#include "tree.hpp"

#include "metadata.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <utility>

namespace cp {

namespace {
constexpr int reading = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

bool is_dots(const char *name) {
    return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

/// Is @p what the directory @p fd, or above it?
bool encloses(const struct stat &what, int fd) {
    descriptor at(::openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    struct stat here {};
    for (struct stat before{}; at && ::fstat(at.get(), &here) == 0;
         before = here) {
        if (same(here, what))
            return true;
        if (same(here, before))
            return false;
        at = descriptor(
            ::openat(at.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
    }
    return false;
}
} // namespace

walker::walker(const std::vector<std::string> &sources,
               std::string destination, reporter &report, counters &counts)
    : sources_(sources.begin(), sources.end()),
      destination_(std::move(destination)),
      report_(&report),
      counts_(&counts) {
    struct stat found {};
    is_directory_ =
        ::stat(destination_.c_str(), &found) == 0 && S_ISDIR(found.st_mode);
}

std::optional<entry> walker::next() {
    while (finished_.empty()) {
        if (levels_.empty()) {
            if (sources_.empty())
                return std::nullopt;
            if (auto found = next_argument())
                return found;
            continue;
        }
        auto in = levels_.back();
        errno = 0;
        const auto *found = ::readdir(in->stream.get());
        if (found == nullptr) {
            if (errno != 0)
                report_->failed(in->where->source(), last_error());
            pop();
            continue;
        }
        if (is_dots(found->d_name))
            continue;
        entry what{in, found->d_name, found->d_name};
        auto type = found->d_type;
        struct stat meta {};
        if (type == DT_UNKNOWN && ::fstatat(in->from(), what.from.c_str(),
                                            &meta, AT_SYMLINK_NOFOLLOW) == 0)
            type = IFTODT(meta.st_mode);
        if (type == DT_DIR) {
            descend(what, false);
            continue;
        }
        in->busy++;
        return what;
    }
    return std::nullopt;
}

std::optional<entry> walker::next_argument() {
    const auto source = std::move(sources_.front());
    sources_.pop_front();
    auto goes = target_of(source, destination_, is_directory_);
    struct stat meta {};
    if (::fstatat(AT_FDCWD, source.c_str(), &meta, AT_SYMLINK_NOFOLLOW) < 0) {
        report_->failed(source, last_error());
        return std::nullopt;
    }
    const bool directories = S_ISDIR(meta.st_mode);
    if (std::ranges::find(taken_, goes.name) != taken_.end() &&
        goes.name != ".") {
        report_->failed(source, "another source has this name");
        return std::nullopt;
    }
    taken_.push_back(goes.name);
    if (!directories && !is_directory_ && destination_.back() == '/') {
        report_->failed(destination_, kevent::errno_code(ENOTDIR));
        return std::nullopt;
    }
    auto in = std::make_shared<directory>();
    in->to = descriptor(::open(goes.parent.c_str(), reading));
    if (!in->to)
        in->to = descriptor(
            ::open(goes.parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!in->to || ::fstat(in->to.get(), &in->copy) < 0) {
        report_->failed(goes.parent, last_error());
        return std::nullopt;
    }
    in->argument = true;
    in->where = std::make_shared<place>(place{nullptr, "", goes.parent});
    entry what{in, source, goes.name};
    if (directories) {
        descend(what, true);
        return std::nullopt;
    }
    return what;
}

void walker::descend(const entry &what, bool argument) {
    auto made = std::make_shared<directory>();
    const auto error = enter(what, argument, *made);
    if (error) {
        report_->failed(what.at_fault(error),
                        error == kevent::errno_code(EEXIST) ? "is no directory"
                                                            : error.message());
        return;
    }
    if (!made->to) // an objection, which was reported
        return;
    made->where = std::make_shared<place>(
        argument ? place{nullptr, what.source(), what.destination()}
                 : place{what.in->where, what.from, what.to});
    if (argument)
        roots_.push_back(made->copy);
    counts_->directories++;
    levels_.push_back(std::move(made));
    opened_++;
    close_some();
}

/// Opens both.  EEXIST: there is something else at the destination.
fault walker::enter(const entry &what, bool argument, directory &made) {
    const int follow = argument ? 0 : O_NOFOLLOW;
    const int from =
        ::openat(what.in->from(), what.from.c_str(), reading | O_NOFOLLOW);
    made.stream.reset(from < 0 ? nullptr : ::fdopendir(from));
    if (!made.stream || ::fstat(from, &made.meta) < 0)
        return {last_error(), true};
    if (const auto why = objection(what, made, argument); !why.empty()) {
        report_->failed(what.source(), why);
        return {};
    }
    const auto *name = what.to.c_str();
    const int parent = what.in->to.get();
    made.made = ::mkdirat(parent, name, 0700) == 0;
    if (!made.made && errno != EEXIST)
        return last_error();
    made.to = descriptor(::openat(parent, name, reading | follow));
    if (!made.to)
        return errno == ENOTDIR || errno == ELOOP ? kevent::errno_code(EEXIST)
                                                  : last_error();
    return ::fstat(made.to.get(), &made.copy) < 0 ? last_error() : fault();
}

/// A copy of a directory within itself would have no end.
std::string walker::objection(const entry &what, const directory &made,
                              bool argument) const {
    struct stat there {};
    if (argument && encloses(made.meta, what.in->to.get()))
        return "cannot be copied into itself";
    if (::fstatat(what.in->to.get(), what.to.c_str(), &there, 0) == 0 &&
        same(there, made.meta))
        return "is the same as " + what.destination();
    const auto again = [&](const auto &root) { return same(root, made.meta); };
    if (std::ranges::any_of(roots_, again))
        return "is where the copy is made";
    return {};
}

void walker::leave(std::shared_ptr<directory> in) {
    if (--in->busy == 0 && !in->argument)
        finished_.push_back(std::move(in));
}

std::shared_ptr<directory> walker::finished() {
    if (finished_.empty())
        return nullptr;
    auto first = std::move(finished_.front());
    finished_.pop_front();
    return first;
}

/// Leaves the innermost, which is open, and goes on in the one around it.
void walker::pop() {
    auto child = std::move(levels_.back());
    levels_.pop_back();
    opened_--;
    while (!levels_.empty() && !levels_.back()->open()) {
        const auto error = reopen(*levels_.back(), *child);
        if (!error) {
            opened_++;
            break;
        }
        const auto &where = *levels_.back()->where;
        report_->failed(error.source ? where.source() : where.destination(),
                        error);
        levels_.pop_back(); // what is left in there is lost
    }
    leave(std::move(child));
}

/// From the outermost on, those that nobody is in.
void walker::close_some() {
    for (auto &each : levels_) {
        if (opened_ <= max_open)
            return;
        if (!each->open() || each->busy != 1 || each == levels_.back())
            continue;
        each->position = ::telldir(each->stream.get());
        each->stream.reset();
        each->to.reset();
        opened_--;
    }
}

/// By "..", which must be what it was.
fault walker::reopen(directory &parent, const directory &child) {
    const int from = ::openat(child.from(), "..", reading);
    parent.stream.reset(from < 0 ? nullptr : ::fdopendir(from));
    if (!parent.stream)
        return {last_error(), true};
    parent.to = descriptor(::openat(child.to.get(), "..", reading));
    struct stat source {};
    struct stat copy {};
    fault error;
    if (::fstat(from, &source) < 0)
        error = {last_error(), true};
    else if (!parent.to || ::fstat(parent.to.get(), &copy) < 0)
        error = last_error();
    else if (!same(source, parent.meta) || !same(copy, parent.copy))
        error = {kevent::errno_code(ESTALE), same(copy, parent.copy)};
    if (error)
        return parent.stream.reset(), error;
    ::seekdir(parent.stream.get(), parent.position);
    return {};
}

} // namespace cp
