// SPDX-License-Identifier: MIT
#include "copier.hpp"

#include "metadata.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <new>
#include <optional>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace cp {

namespace {
using namespace std::chrono_literals;
using kevent::task;

/// Pieces of one file in flight while other files can be had: buffered writes
/// to one file wait for each other.
constexpr std::size_t few = 8;

/// What says that somebody else is there, where it is to be left alone.
const auto left_alone = kevent::errno_code(EEXIST);
const auto cancelled = kevent::errno_code(ECANCELED);

struct aligned_free {
    void operator()(std::byte *memory) const {
        ::operator delete[](memory, std::align_val_t{page});
    }
};
using aligned_buffer = std::unique_ptr<std::byte[], aligned_free>;

aligned_buffer allocate(std::size_t size) {
    return aligned_buffer(static_cast<std::byte *>(
        ::operator new[](size, std::align_val_t{page})));
}

std::string by_descriptor(int fd) {
    return fmt::format("/proc/self/fd/{}", fd);
}

/// As progress counts it.
std::uint64_t size_of(const struct stat &meta) {
    return S_ISREG(meta.st_mode) ? static_cast<std::uint64_t>(meta.st_size) : 0;
}

/// Why what is there is not to be replaced; null: it may be.  Who names a
/// device means the device; what is in a tree may be of the last copy.
const char *objection(const entry &what, mode_t there, mode_t source) {
    const bool alike = (there & S_IFMT) == (source & S_IFMT);
    const bool named = what.in->argument;
    if (S_ISREG(there) || (S_ISLNK(there) ? alike || !named : alike && !named))
        return nullptr;
    return S_ISLNK(there) ? "is a symbolic link"
                          : "is neither a regular file nor a directory";
}

bool clear_direct(int fd) {
    const int flags = ::fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_DIRECT) != 0 &&
           ::fcntl(fd, F_SETFL, flags & ~O_DIRECT) == 0;
}
} // namespace

/// Somebody who waits for the first of several hard links.
struct copier::link_wait final : kevent::job {
    link_wait(std::mutex &guards, inode &what, kevent::loop &where)
        : lock(&guards),
          waits_for(&what),
          home(&where) {}

    static bool await_ready() noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> awaiting);
    static void await_resume() noexcept {}
    void run() override { waiting.resume(); }

    std::mutex *lock;
    inode *waits_for;
    kevent::loop *home;
    std::coroutine_handle<> waiting;
};

/// A file with several names: the first is copied, the others are links to
/// that.  Guarded by the copier's lock.
struct copier::inode {
    enum condition { copying, copied, failed } state = copying;
    std::string path; // of the copy
    nlink_t left;     // names that were not seen yet
    std::vector<link_wait *> waiting;
};

bool copier::link_wait::await_suspend(std::coroutine_handle<> awaiting) {
    const std::lock_guard guard(*lock);
    if (waits_for->state != inode::copying)
        return false;
    waiting = awaiting;
    waits_for->waiting.push_back(this);
    return true;
}

/// A regular file in work.
struct copier::file {
    entry what;
    struct stat meta {};
    descriptor from;
    descriptor to;
    std::string hidden; // its name until it is complete; empty: none
    std::shared_ptr<inode> links;
    std::atomic<bool> direct{false};
    std::atomic<bool> synced{false};
    std::atomic<std::uint64_t> size{0}; // less, if it shrank meanwhile

    // Guarded by the copier's lock.
    pieces rest;
    unsigned in_flight = 0;
    bool dealt_out = false;
    fault error;
};

struct copier::work {
    std::shared_ptr<file> of; // with a piece
    extent piece{};
    std::optional<entry> what;
    std::shared_ptr<directory> ended;
};

copier::copier(const options &wanted, reporter &report, counters &counts)
    : options_(&wanted),
      report_(&report),
      counts_(&counts),
      process_(::getpid()),
      can_link_(::access("/proc/self/fd", X_OK) == 0),
      walk_(wanted.sources, wanted.destination, report, counts) {}

copier::~copier() = default;

// --- who does what

task<> copier::worker(kevent::loop &home) {
    const auto memory = allocate(options_->buffer);
    const std::span buffer(memory.get(), options_->buffer);
    const auto stop = co_await kevent::this_stop_token();
    while (!stop.stop_requested()) {
        auto todo = next();
        if (todo.ended)
            co_await finish(std::move(todo.ended));
        else if (todo.of)
            co_await copy_piece(std::move(todo.of), todo.piece, buffer);
        else if (todo.what)
            co_await copy_entry(std::move(*todo.what), buffer, home);
        else
            break;
    }
}

copier::work copier::next() {
    const std::lock_guard guard(lock_);
    work found;
    found.ended = walk_.finished();
    if (found.ended)
        return found;
    found.of = claim(options_->direct || walked_ ? SIZE_MAX : few, found.piece);
    if (found.of || walked_)
        return found;
    found.what = walk_.next();
    if (!found.what)
        found.ended = walk_.finished();
    walked_ = !found.what && !found.ended;
    if (walked_)
        found.of = claim(SIZE_MAX, found.piece);
    return found;
}

/// A piece of a file that has less than so many in flight.
std::shared_ptr<copier::file> copier::claim(std::size_t limit, extent &piece) {
    for (auto each = open_.begin(); each != open_.end();) {
        if ((*each)->in_flight >= limit) {
            ++each;
            continue;
        }
        if (!(*each)->dealt_out && more_of(**each, piece))
            return *each;
        each = open_.erase(each); // who has its last piece ends it
    }
    return nullptr;
}

/// Deals out a piece; or there is none left.
bool copier::more_of(file &one, extent &piece) {
    std::optional<extent> found;
    try {
        const auto before = one.rest.holes();
        if (!one.error)
            found = one.rest.next();
        counts_->holes += one.rest.holes() - before;
        counts_->bytes += one.rest.holes() - before;
    } catch (const std::system_error &error) {
        one.error = {error.code(), true};
    }
    one.dealt_out = !found;
    if (!found)
        return false;
    piece = *found;
    one.in_flight++;
    return true;
}

/// A directory may have ended, which the next worker sees.
void copier::leave(std::shared_ptr<directory> in) {
    const std::lock_guard guard(lock_);
    walk_.leave(std::move(in));
}

/// An entry has been dealt with, whatever it was.
void copier::done(const entry &what, const struct stat &meta,
                  const fault &how) {
    if (!how) {
        counts_->files++;
    } else if (how == left_alone && options_->no_clobber) {
        counts_->files++;
        counts_->skipped++;
        counts_->bytes += size_of(meta);
    } else if (how != cancelled) {
        report_->failed(what.at_fault(how), how);
    }
}

// --- requests

void copier::count(const kevent::completion &how) {
    counts_->requests++;
    if (how.flags() & KEVENT_EV_INLINE)
        counts_->inlined++;
    if (how.flags() & KEVENT_EV_DIRECT)
        counts_->direct++;
    if (how.flags() & KEVENT_EV_WORKER)
        counts_->worker++;
}

/// EAGAIN: somebody else uses up what the user may have in flight.
task<kevent::completion> copier::transfer(kevent::request what) {
    for (auto pause = 1ms;; pause = std::min(2 * pause, 256ms)) {
        auto how = co_await what;
        count(how);
        if (how || how.error() != kevent::errno_code(EAGAIN))
            co_return how;
        counts_->again++;
        if (auto slept = co_await kevent::sleep_for(pause); !slept)
            co_return kevent::completion(slept.error());
    }
}

/// Reads a piece, in full unless the file ends before.
task<fault> copier::fill(file &one, std::span<std::byte> buffer, extent piece,
                         std::size_t &got) {
    const auto length = static_cast<std::size_t>(piece.end - piece.begin);
    for (got = 0; got < length;) {
        const bool direct = one.direct;
        const auto want = direct ? rounded_up(length, page) : length;
        const auto how = co_await transfer(
            kevent::read(one.from.get(), buffer.subspan(got, want - got),
                         piece.begin + got));
        if (!how && how.error() == kevent::errno_code(EINVAL) &&
            clear_direct(one.from.get()))
            continue;
        if (!how)
            co_return fault(how.error(), true);
        got += *how;
        if (*how == 0 || (direct && got % page != 0))
            break;
    }
    got = std::min(got, length);
    co_return fault();
}

/// Writes what was read.  Direct writes are of whole pages: what is too much at
/// the end of the file is cut off later.
task<std::error_code> copier::drain(file &one, std::span<std::byte> buffer,
                                    std::uint64_t at, std::size_t size,
                                    bool last) {
    std::size_t put = 0;
    const auto fd = one.to.get();
    auto full = size;
    if (one.direct) {
        full = rounded_up(size, page);
        std::fill_n(buffer.begin() + static_cast<std::ptrdiff_t>(size),
                    full - size, std::byte{});
    }
    if (last && options_->sync) {
        const auto both = co_await kevent::chain(
            kevent::write(fd, buffer.first(full), at), kevent::fdatasync(fd));
        count(both[0]);
        count(both[1]);
        put = both[0] ? *both[0] : 0;
        one.synced = static_cast<bool>(both[1]);
        if (put == full && !both[1])
            co_return both[1].error();
    }
    while (put < full) {
        const auto how = co_await transfer(
            kevent::write(fd, buffer.subspan(put, full - put), at + put));
        if (!how && how.error() == kevent::errno_code(EINVAL) &&
            clear_direct(fd))
            continue;
        if (!how)
            co_return how.error();
        if (*how == 0)
            co_return kevent::errno_code(EIO);
        put += *how;
    }
    co_return std::error_code();
}

task<fault> copier::copy(file &one, extent piece, std::span<std::byte> buffer,
                         bool whole) {
    std::size_t got = 0;
    if (const auto error = co_await fill(one, buffer, piece, got))
        co_return error;
    const auto end = piece.begin + got;
    if (end < piece.end)
        for (auto size = one.size.load();
             end < size && !one.size.compare_exchange_weak(size, end);) {
        }
    if (got != 0)
        if (const auto error =
                co_await drain(one, buffer, piece.begin, got, whole))
            co_return error;
    counts_->bytes += piece.end - piece.begin;
    co_return fault();
}

/// A file that does not say how long it is (/proc).
task<fault> copier::stream(file &one, std::span<std::byte> buffer) {
    for (std::uint64_t at = 0;;) {
        std::size_t got = 0;
        if (const auto error =
                co_await fill(one, buffer, {at, at + buffer.size()}, got))
            co_return error;
        if (got != 0)
            if (const auto error = co_await drain(one, buffer, at, got, false))
                co_return error;
        at += got;
        one.size = at;
        if (got < buffer.size())
            co_return fault();
    }
}

// --- regular files

/// @p whole: it is all there is of the file.  A file that has no piece in
/// flight is ended, or its next piece is ours: somebody ends it.
task<> copier::copy_piece(std::shared_ptr<file> one, extent piece,
                          std::span<std::byte> buffer, bool whole) {
    for (bool ours = true; ours;) {
        const auto error = one->meta.st_size == 0
                               ? co_await stream(*one, buffer)
                               : co_await copy(*one, piece, buffer, whole);
        const std::lock_guard guard(lock_);
        if (error && (!one->error || one->error == cancelled))
            one->error = error;
        if (--one->in_flight != 0)
            co_return;
        ours = !one->dealt_out && more_of(*one, piece);
    }
    co_await finish(std::move(one));
}

/// What is there already.  Is it in the way?
std::error_code copier::occupied(const entry &what, const struct stat &meta) {
    struct stat there {};
    if (what.in->made || ::fstatat(what.in->to.get(), what.to.c_str(), &there,
                                   AT_SYMLINK_NOFOLLOW) < 0)
        return {};
    if (same(there, meta)) {
        report_->failed(what.source(), "is the same as " + what.destination());
        return cancelled;
    }
    if (options_->no_clobber)
        return left_alone;
    if (S_ISDIR(there.st_mode))
        return kevent::errno_code(EISDIR);
    if (const auto *why = objection(what, there.st_mode, meta.st_mode)) {
        report_->failed(what.destination(), why);
        return cancelled;
    }
    return {};
}

std::error_code copier::open(file &one) {
    const auto &what = one.what;
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    const int from = what.in->from();
    if (options_->direct)
        one.from =
            descriptor(::openat(from, what.from.c_str(), flags | O_DIRECT));
    one.direct = static_cast<bool>(one.from);
    if (!one.from)
        one.from = descriptor(::openat(from, what.from.c_str(), flags));
    if (!one.from || ::fstat(one.from.get(), &one.meta) < 0)
        return last_error();
    return S_ISREG(one.meta.st_mode) ? std::error_code()
                                     : kevent::errno_code(ESTALE);
}

/// Without a name where the file system can, else with a hidden one.  O_DIRECT
/// is asked for later: a file would have been created where it is refused, and
/// for both or none, else the sizes of one would not be right for the other.
std::error_code copier::create(file &one) {
    const int flags = O_WRONLY | O_CLOEXEC;
    const int in = one.what.in->to.get();
    if (can_link_)
        one.to = descriptor(::openat(in, ".", flags | O_TMPFILE, 0600));
    if (!one.to && (!can_link_ || errno == EOPNOTSUPP || errno == EISDIR)) {
        auto name = hidden();
        one.to = descriptor(
            ::openat(in, name.c_str(), flags | O_CREAT | O_EXCL, 0600));
        if (one.to)
            one.hidden = std::move(name);
    }
    if (!one.to)
        return last_error();
    if (one.direct && ::fcntl(one.to.get(), F_SETFL, O_DIRECT) < 0)
        one.direct = !clear_direct(one.from.get());
    return {};
}

/// Pieces go through all workers; one piece, or one whose length nobody knows,
/// is copied here.
task<> copier::copy_file(entry &what, std::shared_ptr<inode> links,
                         std::span<std::byte> buffer) {
    auto one = std::make_shared<file>();
    one->what = std::move(what);
    one->links = std::move(links);
    fault error(open(*one), true);
    if (!error)
        error = occupied(one->what, one->meta);
    if (!error)
        error = create(*one);
    const auto size = size_of(one->meta);
    const bool sparse =
        static_cast<std::uint64_t>(one->meta.st_blocks) * 512 < size;
    one->size = size;
    const bool whole = size <= buffer.size() && !sparse;
    if (!error && !whole && ::ftruncate(one->to.get(), one->meta.st_size) < 0)
        error = last_error();
    bool held = false;
    extent piece{0, size};
    if (!error) {
        one->rest =
            pieces(size, buffer.size(), one->direct ? page : 1,
                   sparse ? data_of(one->from.get(), size) : pieces::finder());
        const std::lock_guard guard(lock_);
        held = more_of(*one, piece);
        if (size == 0) {
            held = true;
            one->in_flight = 1;
        } else if (held && whole) {
            one->dealt_out = true;
        } else if (held) {
            open_.push_back(one);
        }
    } else {
        one->error = error;
    }
    if (held)
        co_await copy_piece(std::move(one), piece, buffer, whole);
    else
        co_await finish(std::move(one)); // holes only, or an error
}

/// Contents, then everything else, then the name.
std::error_code copier::complete(file &one) {
    const auto size = static_cast<off_t>(one.size);
    if ((one.direct || size != one.meta.st_size) &&
        ::ftruncate(one.to.get(), size) < 0)
        return last_error();
    if (const auto error = restore(one.from.get(), one.to.get(), one.meta))
        return error;
    return give_name(one);
}

std::error_code copier::give_name(file &one) {
    const auto &what = one.what;
    const int in = what.in->to.get();
    if (one.hidden.empty()) {
        const auto open_file = by_descriptor(one.to.get());
        const auto named = [&](const std::string &name) {
            return ::linkat(AT_FDCWD, open_file.c_str(), in, name.c_str(),
                            AT_SYMLINK_FOLLOW) == 0;
        };
        if (named(what.to))
            return {};
        if (errno != EEXIST || options_->no_clobber)
            return last_error();
        auto name = hidden();
        if (!named(name))
            return last_error();
        one.hidden = std::move(name);
    }
    return put_in_place(what, std::exchange(one.hidden, {}));
}

/// Renames, or removes.
std::error_code copier::put_in_place(const entry &what,
                                     const std::string &name) {
    const int in = what.in->to.get();
    const unsigned flags = options_->no_clobber ? RENAME_NOREPLACE : 0;
    std::error_code error;
    if (::renameat2(in, name.c_str(), in, what.to.c_str(), flags) < 0)
        error = last_error();
    // A rename to another link of the same file does nothing.
    if (error || !what.in->made)
        ::unlinkat(in, name.c_str(), 0);
    return error;
}

task<> copier::finish(std::shared_ptr<file> one) {
    auto error = one->error;
    if (!error && options_->sync && !one->synced) {
        const auto how = co_await transfer(kevent::fdatasync(one->to.get()));
        error = how.error();
    }
    if (!error)
        error = complete(*one);
    if (!one->hidden.empty())
        ::unlinkat(one->what.in->to.get(), one->hidden.c_str(), 0);
    if (one->links)
        decide(one->links, one->what, !error);
    done(one->what, one->meta, error);
    one->from.reset();
    one->to.reset();
    leave(std::move(one->what.in));
}

task<> copier::finish(std::shared_ptr<directory> one) {
    auto error = restore(::dirfd(one->stream.get()), one->to.get(), one->meta);
    if (!error && options_->sync)
        error = (co_await transfer(kevent::fsync(one->to.get()))).error();
    if (error && error != cancelled)
        report_->failed(one->where->destination(), error);
}

// --- hard links

/// The record of a file; null: it has one name.
std::shared_ptr<copier::inode> copier::inode_of(const struct stat &meta,
                                                bool &first) {
    first = true;
    if (meta.st_nlink < 2)
        return nullptr;
    const std::lock_guard guard(lock_);
    const std::pair key(meta.st_dev, meta.st_ino);
    auto &known = inodes_[key];
    first = !known;
    if (first) {
        known = std::make_shared<inode>();
        known->left = meta.st_nlink;
    }
    auto found = known;
    if (--found->left == 0)
        inodes_.erase(key);
    return found;
}

/// The first is there, or will never be.
void copier::decide(const std::shared_ptr<inode> &links, const entry &what,
                    bool copied) {
    std::vector<link_wait *> waiting;
    {
        const std::lock_guard guard(lock_);
        links->state = copied ? inode::copied : inode::failed;
        links->path = what.destination();
        waiting.swap(links->waiting);
    }
    for (auto *each : waiting)
        each->home->post(*each);
}

/// Those whose pieces we do not have are in flight, so that this ends.
task<> copier::help_until(inode &ended, std::span<std::byte> buffer,
                          kevent::loop &home) {
    for (;;) {
        work todo;
        {
            const std::lock_guard guard(lock_);
            if (ended.state == inode::copying)
                todo.of = claim(SIZE_MAX, todo.piece);
        }
        if (!todo.of)
            break;
        co_await copy_piece(std::move(todo.of), todo.piece, buffer);
    }
    co_await link_wait(lock_, ended, home);
}

std::error_code copier::link(const entry &what, const struct stat &meta,
                             const inode &to) {
    const int in = what.in->to.get();
    const auto linked = [&](const std::string &name) {
        return ::linkat(AT_FDCWD, to.path.c_str(), in, name.c_str(), 0) == 0;
    };
    if (linked(what.to))
        return {};
    if (errno != EEXIST || options_->no_clobber)
        return last_error();
    if (const auto error = occupied(what, meta))
        return error;
    const auto name = hidden();
    if (!linked(name))
        return last_error();
    return put_in_place(what, name);
}

// --- what is neither

fault copier::copy_other(const entry &what, const struct stat &meta) {
    if (const auto error = occupied(what, meta))
        return error;
    const int in = what.in->to.get();
    const auto name = hidden();
    if (S_ISLNK(meta.st_mode)) {
        std::string to(
            static_cast<std::size_t>(std::max<off_t>(meta.st_size, PATH_MAX)) +
                1,
            0);
        const auto size = ::readlinkat(what.in->from(), what.from.c_str(),
                                       to.data(), to.size() - 1);
        if (size < 0)
            return {last_error(), true};
        to.resize(static_cast<std::size_t>(size));
        if (::symlinkat(to.c_str(), in, name.c_str()) < 0)
            return last_error();
    } else if (::mknodat(in, name.c_str(), (meta.st_mode & S_IFMT) | 0600,
                         meta.st_rdev) < 0) {
        return last_error();
    }
    if (const auto error = restore(in, name, meta)) {
        ::unlinkat(in, name.c_str(), 0);
        return error;
    }
    return put_in_place(what, name);
}

task<> copier::copy_entry(entry what, std::span<std::byte> buffer,
                          kevent::loop &home) {
    struct stat meta {};
    if (::fstatat(what.in->from(), what.from.c_str(), &meta,
                  AT_SYMLINK_NOFOLLOW) < 0) {
        done(what, meta, {last_error(), true});
        co_return leave(std::move(what.in));
    }
    bool first = true;
    auto links = inode_of(meta, first);
    while (!first) {
        co_await help_until(*links, buffer, home);
        auto state = inode::copying;
        {
            const std::lock_guard guard(lock_);
            state = links->state;
            if (state == inode::failed)
                links->state = inode::copying;
        }
        first = state == inode::failed; // then it is our turn
        if (state != inode::copied)
            continue;
        const auto error = link(what, meta, *links);
        if (!error) {
            counts_->links++;
            counts_->bytes += size_of(meta);
        }
        done(what, meta, error);
        co_return leave(std::move(what.in));
    }
    if (S_ISREG(meta.st_mode))
        co_return co_await copy_file(what, std::move(links), buffer);
    const auto error = copy_other(what, meta);
    if (links)
        decide(links, what, !error);
    done(what, meta, error);
    leave(std::move(what.in));
}

std::string copier::hidden() {
    return hidden_name(process_, hidden_++);
}

} // namespace cp
