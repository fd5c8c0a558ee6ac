// SPDX-License-Identifier: MIT
/// @file
/// Copies what the walk finds: many requests at a time, each in a worker of its
/// own, and none with more memory than its buffer.
#pragma once

#include "options.hpp"
#include "pieces.hpp"
#include "report.hpp"
#include "tree.hpp"

#include <kevent/kevent.hpp>

#include <atomic>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <sys/stat.h>
#include <utility>
#include <vector>

namespace cp {

/// Workers take the next piece of a file in work, or else the next entry of the
/// walk; so whoever has nothing to do is done.
///
/// A file in work belongs to those who have a piece of it; the last one ends
/// it.  Its place in the lists here, the counts of its pieces, the walk and the
/// hard links are guarded by one lock, which nobody holds while he waits.
class copier {
public:
    copier(const options &wanted, reporter &report, counters &counts);
    ~copier();

    /// One request at a time, until nothing is left or a stop is requested.
    /// Begun in @p home, where it can be woken.
    kevent::task<> worker(kevent::loop &home);

private:
    struct inode;
    struct file;
    struct work;
    struct link_wait;

    work next();
    std::shared_ptr<file> claim(std::size_t limit, extent &piece);
    [[nodiscard]] bool more_of(file &one, extent &piece);

    kevent::task<kevent::completion> transfer(kevent::request what);
    kevent::task<fault> fill(file &one, std::span<std::byte> buffer,
                             extent piece, std::size_t &got);
    kevent::task<std::error_code> drain(file &one, std::span<std::byte> buffer,
                                        std::uint64_t at, std::size_t size,
                                        bool last);
    kevent::task<fault> copy(file &one, extent piece,
                             std::span<std::byte> buffer, bool whole);
    kevent::task<fault> stream(file &one, std::span<std::byte> buffer);
    kevent::task<> copy_piece(std::shared_ptr<file> one, extent piece,
                              std::span<std::byte> buffer, bool whole = false);
    kevent::task<> copy_entry(entry what, std::span<std::byte> buffer,
                              kevent::loop &home);
    kevent::task<> copy_file(entry &what, std::shared_ptr<inode> links,
                             std::span<std::byte> buffer);
    kevent::task<> finish(std::shared_ptr<file> one);
    kevent::task<> finish(std::shared_ptr<directory> one);
    kevent::task<> help_until(inode &ended, std::span<std::byte> buffer,
                              kevent::loop &home);

    std::error_code open(file &one);
    std::error_code create(file &one);
    std::error_code complete(file &one);
    std::error_code give_name(file &one);
    fault copy_other(const entry &what, const struct stat &meta);
    std::error_code link(const entry &what, const struct stat &meta,
                         const inode &to);
    std::error_code put_in_place(const entry &what, const std::string &hidden);
    std::error_code occupied(const entry &what, const struct stat &meta);
    std::shared_ptr<inode> inode_of(const struct stat &meta, bool &first);
    void decide(const std::shared_ptr<inode> &links, const entry &what,
                bool copied);
    void leave(std::shared_ptr<directory> in);
    void done(const entry &what, const struct stat &meta, const fault &how);
    void count(const kevent::completion &how);
    std::string hidden();

    const options *options_;
    reporter *report_;
    counters *counts_;
    const int process_;
    const bool can_link_; // an open file, by its descriptor
    std::atomic<std::uint64_t> hidden_{0};

    std::mutex lock_;
    walker walk_;
    bool walked_ = false;
    std::deque<std::shared_ptr<file>> open_; // with pieces to be dealt out
    std::map<std::pair<dev_t, ino_t>, std::shared_ptr<inode>> inodes_;
};

} // namespace cp
