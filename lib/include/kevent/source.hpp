// SPDX-License-Identifier: MIT
/// @file
/// Small values that make the entries of a change array.
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>

#include <linux/kevent.h>

namespace kevent {

/// One change; see struct kevent_change.  (In C++ the plain name means the
/// function of that name.)
using change = struct ::kevent_change;

using std::chrono::nanoseconds;

/// A source to be added, built up in one expression:
/// `watch(fd, EPOLLIN).level().home(ring).cookie(&connection)`.
///
/// A plain value.  Unless home() says otherwise it reports to the ring of the
/// calling CPU's node, and its mode is edge.
class source {
public:
    explicit source(std::uint16_t kind) noexcept {
        change_.op = KEVENT_OP_ADD;
        change_.kind = kind;
        change_.ring = KEVENT_RING_LOCAL;
    }

    /// What every event of it carries.
    source &cookie(std::uint64_t value) noexcept {
        change_.cookie = value;
        return *this;
    }
    /// The address of an object; the caller keeps it alive (see reclaimer).
    source &cookie(const void *object) noexcept {
        return cookie(reinterpret_cast<std::uintptr_t>(object));
    }

    /// The home ring: an index, or KEVENT_RING_LOCAL.
    source &home(std::uint32_t ring) noexcept {
        change_.ring = ring;
        return *this;
    }

    /// Disabled by its event until enabled again.
    source &oneshot() noexcept { return flag(KEVENT_ONESHOT); }
    /// Never in the ring; reported by sweeps for as long as it is ready.
    source &level() noexcept { return flag(KEVENT_LEVEL); }
    /// Reports nothing until enabled.
    source &disabled() noexcept { return flag(KEVENT_DISABLED); }
    /// Of a user event: the latest value rather than the sum.
    source &latest() noexcept { return flag(KEVENT_LATEST); }

    /// The entry for a change array.
    operator change() const noexcept { return change_; }

    /// The entry that gives an existing source these settings: all but kind,
    /// file, clock and home ring.
    [[nodiscard]] change modify(std::uint64_t id) const noexcept {
        change entry = change_;
        entry.op = KEVENT_OP_MODIFY;
        entry.id = id;
        entry.ring = 0;
        entry.fd = 0;
        return entry;
    }

private:
    friend source watch(int, std::uint32_t) noexcept;
    friend source every(nanoseconds, nanoseconds, clockid_t) noexcept;
    friend source at(nanoseconds, clockid_t) noexcept;

    source &flag(std::uint32_t bits) noexcept {
        change_.flags |= bits;
        return *this;
    }

    change change_{};
};

/// The readiness of a file: EPOLL bits.  The file stays open while watched.
inline source watch(int fd, std::uint32_t events) noexcept {
    source made(KEVENT_KIND_FILE);
    made.change_.fd = fd;
    made.change_.events = events;
    return made;
}

/// A timer that expires each @p period, first after @p first from now (0: after
/// one period).
inline source every(nanoseconds period, nanoseconds first = nanoseconds{0},
                    clockid_t clock = CLOCK_MONOTONIC) noexcept {
    source made(KEVENT_KIND_TIMER);
    made.change_.fd = clock;
    made.change_.value = static_cast<std::uint64_t>(first.count());
    made.change_.period = static_cast<std::uint64_t>(period.count());
    return made;
}

/// A timer that expires once, @p delay (more than 0) from now.
inline source after(nanoseconds delay,
                    clockid_t clock = CLOCK_MONOTONIC) noexcept {
    return every(nanoseconds{0}, delay, clock);
}

/// A timer that expires once, when @p clock shows @p time.
inline source at(nanoseconds time, clockid_t clock = CLOCK_MONOTONIC) noexcept {
    source made = after(time, clock);
    return made.flag(KEVENT_ABSTIME);
}

/// An event that the program triggers itself.
inline source user_event() noexcept {
    return source(KEVENT_KIND_USER);
}

namespace detail {
inline change entry_of(std::uint16_t op, std::uint64_t id) noexcept {
    change entry{};
    entry.op = op;
    entry.id = id;
    return entry;
}
} // namespace detail

/// Entry: removes a source.  Its result: KEVENT_UNCLAIMED or 0.
inline change remove(std::uint64_t id) noexcept {
    return detail::entry_of(KEVENT_OP_REMOVE, id);
}

/// Entry: removes a source, then closes @p fd, which must name its file.
inline change remove_and_close(std::uint64_t id, int fd) noexcept {
    change entry = remove(id);
    entry.flags = KEVENT_CLOSE_FD;
    entry.fd = fd;
    return entry;
}

/// Entry: enables a source, which reports at once what is ready.
inline change enable(std::uint64_t id) noexcept {
    return detail::entry_of(KEVENT_OP_ENABLE, id);
}

/// Entry: no further events until enabled.
inline change disable(std::uint64_t id) noexcept {
    return detail::entry_of(KEVENT_OP_DISABLE, id);
}

/// Entry: triggers a user event with a value of 0 to INT64_MAX.
inline change trigger(std::uint64_t id, std::int64_t value = 1) noexcept {
    change entry = detail::entry_of(KEVENT_OP_TRIGGER, id);
    entry.value = static_cast<std::uint64_t>(value);
    return entry;
}

/// Entry: as trigger(), but EAGAIN rather than merge.
inline change trigger_alone(std::uint64_t id, std::int64_t value = 1) noexcept {
    change entry = trigger(id, value);
    entry.flags = KEVENT_NOMERGE;
    return entry;
}

/// Entry: a level timer or level user event has been dealt with.
inline change acknowledge(std::uint64_t id) noexcept {
    return detail::entry_of(KEVENT_OP_ACK, id);
}

} // namespace kevent
