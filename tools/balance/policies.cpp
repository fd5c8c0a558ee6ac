// SPDX-License-Identifier: MIT
#include "random.hpp"
#include "simulation.hpp"

namespace balance {

namespace {
/// What theory calls one choice: any ring, as a program might write it.
class one_choice {
public:
    explicit one_choice(std::uint64_t seed) : random_(seed) {}
    unsigned choose(const kevent::queue &rings,
                    const kevent::placement &) noexcept {
        return static_cast<unsigned>(random_() % rings.size());
    }

private:
    generator random_;
};

/// What a word in the mapped header would tell: the work that has entered the
/// kernel, whoever placed it.
class least_entered {
public:
    explicit least_entered(const kevent::ring_work &entered)
        : entered_(&entered) {}
    unsigned choose(const kevent::queue &rings,
                    const kevent::placement &) noexcept {
        auto best = ++last_ % rings.size();
        for (unsigned i = 1; i < rings.size(); i++) {
            const auto index = (last_ + i) % rings.size();
            if (entered_->on(index) < entered_->on(best))
                best = index;
        }
        return last_ = best;
    }

private:
    const kevent::ring_work *entered_;
    unsigned last_ = 0;
};

/// A policy that @p make makes of what is known.
template <class Make>
policy named(const char *name, Make make) {
    return {name, [make](const knowledge &known) -> chooser {
                return [made = kevent::balancer(known.rings, make(known))](
                           const kevent::placement &what) mutable {
                    return made.home(what);
                };
            }};
}
} // namespace

std::vector<policy> policies() {
    using namespace kevent;
    using known = const knowledge &;
    return {
        named("pinned", [](known) { return pinned(); }),
        named("local", [](known) { return local(); }),
        named("buffer_node", [](known) { return buffer_node(); }),
        named("one_choice", [](known by) { return one_choice(by.submitter); }),
        named("round_robin",
              [](known by) { return round_robin(by.submitter); }),
        named("two_choices",
              [](known by) { return two_choices(by.submitter + 1); }),
        named("least_loaded", [](known) { return least_loaded(); }),
        named("least_work own", [](known by) { return least_work(by.own); }),
        named("least_work header",
              [](known by) { return least_entered(by.entered); }),
        named("least_work", [](known by) { return least_work(by.shared); }),
    };
}

} // namespace balance
