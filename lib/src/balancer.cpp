// SPDX-License-Identifier: MIT
#include <kevent/balancer.hpp>

namespace kevent {

namespace {
/// The ring for which load() is least, the one at @p first before its equals.
template <class Load>
unsigned least(unsigned size, unsigned first, Load load) noexcept {
    auto best = first % size;
    auto lowest = load(best);
    for (unsigned i = 1; i < size; i++) {
        const auto index = (first + i) % size;
        if (const auto found = load(index); found < lowest) {
            lowest = found;
            best = index;
        }
    }
    return best;
}
} // namespace

unsigned least_loaded::choose(const queue &rings, const placement &) noexcept {
    return last_ = least(rings.size(), last_ + 1, [&](unsigned index) {
               return ring_load::of(rings.ring(index));
           });
}

unsigned least_work::choose(const queue &rings,
                            const placement &what) noexcept {
    last_ = least(rings.size(), last_ + 1,
                  [&](unsigned index) { return work_->on(index); });
    work_->placed(last_, what.work);
    return last_;
}

unsigned two_choices::choose(const queue &rings, const placement &) noexcept {
    if (rings.size() == 1)
        return 0;
    const auto one = draw(rings.size());
    const auto step = 1 + draw(rings.size() - 1);
    const auto other = (one + step) % rings.size();
    const auto less =
        ring_load::of(rings.ring(other)) < ring_load::of(rings.ring(one));
    return less ? other : one;
}

unsigned buffer_node::choose(const queue &rings,
                             const placement &what) noexcept {
    const int node =
        what.buffer != nullptr ? rings.system().memory_node(what.buffer) : -1;
    if (node < 0)
        return rings.local_ring();
    return rings.nearest_ring(static_cast<unsigned>(node));
}

std::optional<any_policy> any_policy::named(std::string_view name,
                                            ring_work *work) noexcept {
    if (name == "local")
        return local{};
    if (name == "round_robin")
        return round_robin{};
    if (name == "least_loaded")
        return least_loaded{};
    if (name == "two_choices")
        return two_choices{};
    if (name == "least_work" && work != nullptr)
        return least_work(*work);
    if (name == "buffer_node")
        return buffer_node{};
    if (name == "pinned")
        return pinned{};
    return std::nullopt;
}

} // namespace kevent
