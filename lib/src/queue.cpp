// SPDX-License-Identifier: MIT
#include <kevent/queue.hpp>

#include <algorithm>
#include <array>
#include <utility>

namespace kevent {

namespace {
std::uint64_t address_of(const void *object) noexcept {
    return reinterpret_cast<std::uintptr_t>(object);
}

result<int> answer_of(int answer) noexcept {
    if (answer < 0)
        return errno_code(-answer);
    return answer;
}

result<void> success_of(int answer) noexcept {
    return answer < 0 ? result<void>(errno_code(-answer)) : result<void>();
}
} // namespace

queue::~queue() {
    if (fd_ < 0)
        return;
    unmap();
    static_cast<void>(system_->close(fd_));
}

void queue::swap(queue &other) noexcept {
    std::swap(system_, other.system_);
    std::swap(fd_, other.fd_);
    std::swap(setup_, other.setup_);
    std::swap(ring_area_, other.ring_area_);
    std::swap(claim_area_, other.claim_area_);
    std::swap(rings_, other.rings_);
}

result<queue> queue::open(const queue_options &options,
                          kernel &system) noexcept {
    const int fd = system.open();
    if (fd < 0)
        return errno_code(-fd);
    queue made(fd, system);
    if (auto ready = made.set_up(options); !ready)
        return ready.error();
    if (auto mapped = made.map(); !mapped)
        return mapped.error();
    return made;
}

result<queue> queue::adopt(int fd, kernel &system) noexcept {
    queue made(fd, system);
    auto mapped = made.map();
    if (mapped)
        return made;
    made.unmap();
    made.fd_ = -1;
    return mapped.error();
}

result<void> queue::set_up(const queue_options &options) noexcept {
    kevent_setup setup{};
    setup.size = sizeof(setup);
    setup.nr_rings = options.rings;
    setup.entries = options.entries;
    if (!options.nodes.empty()) {
        if (options.nodes.size() != options.rings)
            return errno_code(EINVAL);
        setup.nodes = address_of(options.nodes.data());
    }
    return success_of(system_->ioctl(fd_, KEVENT_IOC_SETUP, &setup));
}

result<void> queue::map() noexcept {
    setup_.size = sizeof(setup_);
    if (int error = system_->ioctl(fd_, KEVENT_IOC_INFO, &setup_); error < 0)
        return errno_code(-error);
    if (setup_.incompat & ~KEVENT_INCOMPAT)
        return errno_code(ENOTSUP);
    if (setup_.nr_rings == 0 || setup_.nr_rings > KEVENT_MAX_RINGS)
        return errno_code(EPROTO);
    if (auto mapped = map_areas(); !mapped)
        return mapped;
    return view();
}

result<void> queue::map_areas() noexcept {
    int error = 0;
    ring_area_ = static_cast<std::byte *>(
        system_->map(fd_, KEVENT_MMAP_RINGS, rings_bytes(), false, error));
    if (ring_area_ != nullptr)
        claim_area_ = static_cast<std::byte *>(
            system_->map(fd_, KEVENT_MMAP_CLAIMS, claims_bytes(), true, error));
    return success_of(error);
}

result<void> queue::view() noexcept {
    for (unsigned i = 0; i < size(); i++) {
        auto ring = ring_view::at(
            ring_area_ + std::size_t{i} * setup_.ring_bytes, setup_.ring_bytes,
            claim_area_ + std::size_t{i} * setup_.claim_bytes);
        if (!ring)
            return ring.error();
        rings_[i] = *ring;
    }
    return {};
}

void queue::unmap() noexcept {
    if (claim_area_ != nullptr)
        static_cast<void>(system_->unmap(claim_area_, claims_bytes()));
    if (ring_area_ != nullptr)
        static_cast<void>(system_->unmap(ring_area_, rings_bytes()));
}

unsigned queue::local_ring() const noexcept {
    const int node = system_->cpu_node();
    return nearest_ring(node < 0 ? 0 : static_cast<unsigned>(node));
}

result<unsigned>
queue::change(std::span<kevent::change> entries) const noexcept {
    kevent_changes argument{};
    argument.size = sizeof(argument);
    argument.changes = address_of(entries.data());
    argument.nr = static_cast<__u32>(entries.size());
    const int done = system_->ioctl(fd_, KEVENT_IOC_CHANGE, &argument);
    if (done < 0)
        return errno_code(-done);
    return static_cast<unsigned>(done);
}

result<int> queue::change(kevent::change &entry) const noexcept {
    auto done = change(std::span(&entry, 1));
    if (!done)
        return done.error();
    return answer_of(entry.result);
}

namespace {
/// Makes a change and returns the id that it got.
result<std::uint64_t> id_of(const queue &rings, change entry) noexcept {
    if (auto done = rings.change(entry); !done)
        return done.error();
    return std::uint64_t{entry.id};
}
} // namespace

result<std::uint64_t> queue::add(const source &what) const noexcept {
    return id_of(*this, what);
}

result<std::uint64_t> queue::submit(const request &what) const noexcept {
    return id_of(*this, what);
}

result<int> queue::trigger(std::uint64_t id,
                           std::int64_t value) const noexcept {
    kevent_trigger argument{};
    argument.size = sizeof(argument);
    argument.id = id;
    argument.value = static_cast<__u64>(value);
    const int error = system_->ioctl(fd_, KEVENT_IOC_TRIGGER, &argument);
    return error < 0 ? result<int>(errno_code(-error)) : result<int>(error);
}

result<unsigned>
queue::register_buffers(std::span<const std::span<std::byte>> memory,
                        std::uint32_t first) const noexcept {
    std::array<kevent_buffer, 64> part; // as many as are given at a time
    unsigned given = 0;
    int done = 0;
    kevent_buffers argument{};
    argument.size = sizeof(argument);
    argument.buffers = address_of(part.data());
    do {
        const auto rest = memory.subspan(given);
        const auto some = rest.first(std::min(rest.size(), part.size()));
        std::ranges::transform(some, part.begin(), [](auto each) {
            return kevent_buffer{address_of(each.data()), each.size()};
        });
        argument.first = first + given;
        argument.nr = static_cast<__u32>(some.size());
        done = system_->ioctl(fd_, KEVENT_IOC_BUFFERS, &argument);
        given += static_cast<unsigned>(std::max(done, 0));
    } while (done == static_cast<int>(part.size()) && given < memory.size());
    if (done < 0 && given == 0)
        return errno_code(-done);
    return given;
}

result<unsigned> queue::get(std::span<event> out,
                            const get_options &options) const noexcept {
    kevent_get argument{};
    argument.ring = options.ring;
    argument.min = options.min;
    argument.max = static_cast<__u32>(out.size());
    argument.events = address_of(out.data());
    argument.timeout = options.timeout.count();
    argument.min_wait = static_cast<std::uint64_t>(options.min_wait.count());
    return get(argument);
}

result<unsigned> queue::get(kevent_get &argument) const noexcept {
    argument.size = sizeof(argument);
    const int count = system_->ioctl(fd_, KEVENT_IOC_GETEVENTS, &argument);
    if (count < 0)
        return errno_code(-count);
    return static_cast<unsigned>(count);
}

} // namespace kevent
