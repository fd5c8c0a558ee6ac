// SPDX-License-Identifier: MIT
/// @file
/// A part of a file on its way to a socket.
#pragma once

#include "buffers.hpp"
#include "descriptor.hpp"
#include "range.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <sys/types.h>

namespace httpd {

/// A read that is to be made, in any way: pread(2) into the room at the offset.
struct file_read {
    int file;
    std::span<char> room;
    std::uint64_t offset;
};

/// Makes a read if that does not wait for a device: what is in the page cache,
/// which may be less than asked.  -1: nothing is, or it cannot be told.
ssize_t read_cached(const file_read &what) noexcept;

/// Pieces of a file pass through at most two buffers: while one is sent, the
/// next is read.  Makes no system call but to close the file.
///
/// The owner asks for the next read, makes it, and says how it ended; until
/// then neither the body nor the pool may go.
class body {
public:
    explicit body(buffer_pool &memory) noexcept : memory_(&memory) {}

    /// Begins with another file, when the last has been sent or dropped.
    void begin(descriptor file, extent part) noexcept;

    /// All has been sent.
    [[nodiscard]] bool over() const noexcept { return left_ == 0; }
    /// Bytes not yet sent.
    [[nodiscard]] std::uint64_t left() const noexcept { return left_; }

    /// What can be sent now.
    [[nodiscard]] std::span<const char> ready() const noexcept {
        return front_.left;
    }
    /// So much of it has been sent.
    void sent(std::size_t bytes) noexcept;

    /// The read to be made now, if there is one that helps and memory for it.
    std::optional<file_read> next_read() noexcept;
    /// The end of that read: the result of pread(2).  False: the file cannot be
    /// had as it was promised.
    bool filled(ssize_t result) noexcept;
    /// That read was not made: it will be asked for again.
    void put_back() noexcept;
    [[nodiscard]] bool reading() const noexcept { return asked_ != 0; }

    /// It can go no further without memory.
    [[nodiscard]] bool starving() const noexcept {
        return left_ != 0 && front_.left.empty() && !reading();
    }
    /// It has memory that it can do without.
    [[nodiscard]] bool has_spare() const noexcept {
        return front_.memory && !reading();
    }
    /// Gives back all memory: what is lost will be read again.  Only if
    /// has_spare().
    void surrender() noexcept;

    /// Lets go of everything.  Not while a read is being made.
    void drop() noexcept;

private:
    struct piece {
        buffer_pool::buffer memory{nullptr, {nullptr}};
        std::span<char> left;
    };

    buffer_pool *memory_;
    descriptor file_;
    std::uint64_t end_ = 0;  // in the file
    std::uint64_t left_ = 0; // to be sent: up to the end
    std::uint64_t next_ = 0; // where to read
    std::size_t asked_ = 0;  // bytes of the read that is being made
    piece front_;            // is sent
    piece back_;             // is read, or was
};

} // namespace httpd
