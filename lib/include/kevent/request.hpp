// SPDX-License-Identifier: MIT
/// @file
/// Reads, writes and syncs as entries of a change array; cancelling them.
#pragma once

#include <kevent/source.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

#include <sys/uio.h>

namespace kevent {

/// An operation to be submitted, built up in one expression:
/// `write(fd, bytes, offset).rw_flags(RWF_DSYNC).link()`.
///
/// A plain value, which refers to the caller's memory.  A buffer belongs to the
/// request until its event has come; an array of iovec until the submission has
/// returned; the descriptor may be closed once it has.  Exactly one event tells
/// the end, unless the entry itself was refused: then change.result says why,
/// and there is no event.
///
/// EAGAIN of an entry means that too many requests are in flight.  It is not
/// worth a retry at once: keep a bounded number in flight (so many tasks, each
/// with one request at a time), and start the next when an event has come.
class request {
public:
    /// @p fd: ignored by kinds without a file.
    explicit request(std::uint16_t kind, int fd = 0) noexcept {
        change_.op = KEVENT_OP_SUBMIT;
        change_.kind = kind;
        change_.ring = KEVENT_RING_LOCAL;
        change_.fd = fd;
    }

    /// What its event carries.
    request &cookie(std::uint64_t value) noexcept {
        change_.cookie = value;
        return *this;
    }
    /// The address of an object; the caller keeps it alive until the event has
    /// been dealt with.
    request &cookie(const void *object) noexcept {
        return cookie(reinterpret_cast<std::uintptr_t>(object));
    }

    /// The ring that its event goes to: an index, or KEVENT_RING_LOCAL, which a
    /// loop takes for its own choice.
    request &home(std::uint32_t ring) noexcept {
        change_.ring = ring;
        return *this;
    }

    /// The next entry of the same array starts when this one has succeeded (a
    /// transfer in full), and is cancelled when it has not.
    request &link() noexcept {
        change_.flags |= KEVENT_LINK;
        return *this;
    }

    /// Of a transfer: RWF_DSYNC, RWF_SYNC, RWF_APPEND; as for pwritev2(2).
    request &rw_flags(std::uint32_t bits) noexcept {
        change_.rw_flags = bits;
        return *this;
    }

    /// Of read() and write(): their memory lies in the buffer that
    /// queue::register_buffers() gave that number.
    request &buffer(std::uint32_t number) noexcept {
        change_.buffer = number;
        return *this;
    }

    /// The entry for a change array.
    operator change() const noexcept { return change_; }

    /// The memory that it works on; null for others and for arrays of iovec.
    [[nodiscard]] const void *buffer() const noexcept {
        const bool one = change_.kind == KEVENT_KIND_READ ||
                         change_.kind == KEVENT_KIND_WRITE;
        return one ? reinterpret_cast<const void *>(change_.addr) : nullptr;
    }

    /// The bytes of a transfer; 0 for others.
    [[nodiscard]] std::uint64_t bytes() const noexcept;

private:
    friend request nop(std::int64_t) noexcept;
    friend request transfer(std::uint16_t, int, const void *, std::size_t,
                            std::uint64_t) noexcept;

    change change_{};
};

inline std::uint64_t request::bytes() const noexcept {
    if (buffer() != nullptr)
        return change_.len;
    if (change_.kind != KEVENT_KIND_READV && change_.kind != KEVENT_KIND_WRITEV)
        return 0;
    std::uint64_t sum = 0;
    for (const auto &part :
         std::span(reinterpret_cast<const iovec *>(change_.addr), change_.len))
        sum += part.iov_len;
    return sum;
}

/// A transfer of any kind: @p length is in bytes, or in entries of an array.
/// More than fits into 32 bits is asked for in part, as the kernel transfers
/// it.
inline request transfer(std::uint16_t kind, int fd, const void *address,
                        std::size_t length, std::uint64_t offset) noexcept {
    request made(kind, fd);
    made.change_.addr = reinterpret_cast<std::uintptr_t>(address);
    made.change_.len = static_cast<__u32>(
        length < UINT32_MAX ? length : std::size_t{UINT32_MAX});
    made.change_.offset = offset;
    return made;
}

/// Reads up to @p length bytes from @p offset; where the file has no positions,
/// 0.
inline request read(int fd, void *buffer, std::size_t length,
                    std::uint64_t offset = 0) noexcept {
    return transfer(KEVENT_KIND_READ, fd, buffer, length, offset);
}
inline request read(int fd, std::span<std::byte> buffer,
                    std::uint64_t offset = 0) noexcept {
    return read(fd, buffer.data(), buffer.size(), offset);
}

/// Writes up to @p length bytes at @p offset; where the file has no positions,
/// 0.
inline request write(int fd, const void *buffer, std::size_t length,
                     std::uint64_t offset = 0) noexcept {
    return transfer(KEVENT_KIND_WRITE, fd, buffer, length, offset);
}
inline request write(int fd, std::span<const std::byte> buffer,
                     std::uint64_t offset = 0) noexcept {
    return write(fd, buffer.data(), buffer.size(), offset);
}

/// Reads into several buffers, up to 1024, each filled before the next.
inline request readv(int fd, std::span<const iovec> buffers,
                     std::uint64_t offset = 0) noexcept {
    return transfer(KEVENT_KIND_READV, fd, buffers.data(), buffers.size(),
                    offset);
}

/// Writes from several buffers, up to 1024.
inline request writev(int fd, std::span<const iovec> buffers,
                      std::uint64_t offset = 0) noexcept {
    return transfer(KEVENT_KIND_WRITEV, fd, buffers.data(), buffers.size(),
                    offset);
}

/// fsync(2).
inline request fsync(int fd) noexcept {
    return request(KEVENT_KIND_FSYNC, fd);
}

/// fdatasync(2).
inline request fdatasync(int fd) noexcept {
    return request(KEVENT_KIND_FDATASYNC, fd);
}

/// A request that completes at once with @p value as its result.
inline request nop(std::int64_t value = 0) noexcept {
    request made(KEVENT_KIND_NOP);
    made.change_.value = static_cast<std::uint64_t>(value);
    return made;
}

/// Entry: cancels a request.  0: in time, its event says ECANCELED; EALREADY:
/// too late, its event tells its end; ENOENT: it has ended.
inline change cancel(std::uint64_t id) noexcept {
    return detail::entry_of(KEVENT_OP_CANCEL, id);
}

/// Entry: cancels all requests of the queue on the file that @p fd names.  Its
/// result: how many were in time.
inline change cancel_file(int fd) noexcept {
    change entry = cancel(0);
    entry.flags = KEVENT_CANCEL_FILE;
    entry.fd = fd;
    return entry;
}

} // namespace kevent
