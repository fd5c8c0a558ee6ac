// SPDX-License-Identifier: MIT
#include <kevent/balancer.hpp>

namespace kevent {

unsigned least_loaded::choose(const queue &rings, const placement &) noexcept {
    const auto first = last_ + 1;
    auto best = first % rings.size();
    auto least = ring_load::of(rings.ring(best));
    for (unsigned i = 1; i < rings.size(); i++) {
        const auto index = (first + i) % rings.size();
        const auto load = ring_load::of(rings.ring(index));
        if (load < least) {
            least = load;
            best = index;
        }
    }
    return last_ = best;
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

std::optional<any_policy> any_policy::named(std::string_view name) noexcept {
    if (name == "local")
        return local{};
    if (name == "round_robin")
        return round_robin{};
    if (name == "least_loaded")
        return least_loaded{};
    if (name == "two_choices")
        return two_choices{};
    if (name == "buffer_node")
        return buffer_node{};
    if (name == "pinned")
        return pinned{};
    return std::nullopt;
}

} // namespace kevent
