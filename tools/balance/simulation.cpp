// SPDX-License-Identifier: MIT
#include "simulation.hpp"
#include "random.hpp"
#include "simulated_kernel.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <queue>

namespace balance {

namespace {
struct request {
    unsigned submitter;
    unsigned ring;
    unsigned pages;
    bool remote;
    double placed;
};

struct ring_state {
    std::deque<unsigned> queued; // requests, for a channel
    unsigned busy = 0;           // channels
    bool consuming = false;
    unsigned requests = 0; // placed and not yet collected
    std::uint64_t pages = 0;
    std::uint64_t assigned = 0;
};

struct submitter_state {
    chooser choose;
    double share; // of all requests
    unsigned batch;
    unsigned credit = 0;
};

enum class happening { arrive, place, enter, finish, consume };

struct step {
    double time;
    std::uint64_t order;
    happening what;
    unsigned which; // submitter, submitter, request, request, ring

    bool operator>(const step &other) const {
        return std::pair(time, order) > std::pair(other.time, other.order);
    }
};

/// Shares of a whole, by the largest remainders.
std::vector<unsigned> shares(unsigned whole, const ranks &weights) {
    std::vector<unsigned> made(weights.size());
    double carried = 0;
    unsigned given = 0;
    for (unsigned i = 0; i < made.size(); i++) {
        carried += weights.share(i) * whole;
        made[i] = static_cast<unsigned>(std::lround(carried)) - given;
        given += made[i];
    }
    return made;
}

class simulation {
public:
    simulation(const scenario &what, const policy &chosen);
    outcome run(unsigned samples);

private:
    void at(double time, happening what, unsigned which) {
        steps_.push({time, ordered_++, what, which});
    }
    void go(const step &next);
    void arrive(unsigned submitter);
    void place(unsigned submitter);
    void place_one(unsigned submitter);
    void enter(unsigned id);
    void start(unsigned ring);
    void finish(unsigned id);
    void consume(unsigned ring);
    void collect_one(unsigned id);

    void note(double until);
    void sample();
    template <class Load>
    double overload(Load load) const;
    double repacked() const;
    double settling() const {
        return 16 * what_.depth * service * remote / channels;
    }
    bool stalled(unsigned ring) const {
        const auto now = now_ - settling();
        return ring == what_.odd() && now >= what_.stall_from &&
               now < what_.stall_to;
    }

    const scenario &what_;
    generator random_;
    const ranks sizes_;
    const ranks buffers_;
    const double mean_pages_;
    simulated_kernel kernel_;
    kevent::queue rings_;
    kevent::ring_work shared_;
    kevent::ring_work entered_;
    std::vector<kevent::ring_work> own_;

    double now_ = 0;
    std::uint64_t ordered_ = 0;
    std::priority_queue<step, std::vector<step>, std::greater<>> steps_;
    std::vector<request> requests_;
    std::vector<unsigned> free_;
    std::vector<ring_state> state_;
    std::vector<submitter_state> submitters_;

    bool measuring_ = false;
    double noted_ = 0;
    double next_repacked_ = 0;
    unsigned repacks_ = 0;
    outcome out_;
};

double mean_of(const ranks &sizes) {
    double mean = 0;
    for (unsigned i = 0; i < sizes.size(); i++)
        mean += (i + 1) * sizes.share(i);
    return mean;
}

simulation::simulation(const scenario &what, const policy &chosen)
    : what_(what),
      random_(what.seed),
      sizes_(what.zipf_sizes ? max_pages : 1, true),
      buffers_(what.nodes, what.zipf_submitters),
      mean_pages_(mean_of(sizes_)),
      kernel_(what.nodes, 64),
      rings_(kevent::queue::open({}, kernel_).value()),
      own_(what.nodes),
      state_(what.nodes) {
    const auto whole = what.nodes * what.depth;
    const ranks weights(what.nodes, what.zipf_submitters);
    const auto windows = shares(whole, weights);
    for (unsigned i = 0; i < what.nodes; i++) {
        submitters_.push_back(
            {chosen.make({rings_, i, shared_, own_[i], entered_}),
             weights.share(i), std::clamp(windows[i], 1U, what.batch)});
        if (what.load != 0)
            at(0, happening::arrive, i);
        for (unsigned k = 0; what.load == 0 && k < windows[i]; k++)
            at(unit(random_) * what.depth * service / channels,
               happening::place, i);
    }
    requests_.reserve(whole);
}

void simulation::go(const step &next) {
    switch (next.what) {
    case happening::arrive:
        return arrive(next.which);
    case happening::place:
        return place(next.which);
    case happening::enter:
        return enter(next.which);
    case happening::finish:
        return finish(next.which);
    case happening::consume:
        return consume(next.which);
    }
}

/// Of the open loop.
void simulation::arrive(unsigned submitter) {
    const auto between = service * remote / channels / what_.nodes /
                         what_.load / submitters_[submitter].share;
    at(now_ + between * exponential(random_), happening::arrive, submitter);
    place(submitter);
}

/// A submitter may have one more on the way.
void simulation::place(unsigned submitter) {
    auto &from = submitters_[submitter];
    if (++from.credit < from.batch)
        return;
    kernel_.run_on(submitter);
    for (; from.credit != 0; from.credit--)
        place_one(submitter);
}

void simulation::place_one(unsigned submitter) {
    const auto pages = sizes_(random_) + 1;
    const auto node = buffers_(random_);
    const auto ring = submitters_[submitter].choose(
        {.buffer = kernel_.memory_of(node), .work = pages});
    auto id = static_cast<unsigned>(requests_.size());
    if (free_.empty()) {
        requests_.emplace_back();
    } else {
        id = free_.back();
        free_.pop_back();
    }
    requests_[id] = {submitter, ring, pages, ring != node, now_};
    auto &on = state_[ring];
    on.requests++;
    on.pages += pages;
    if (measuring_)
        on.assigned += pages;
    at(now_ + entering, happening::enter, id);
}

void simulation::enter(unsigned id) {
    const auto ring = requests_[id].ring;
    kernel_.submit(ring);
    entered_.placed(ring, requests_[id].pages);
    state_[ring].queued.push_back(id);
    start(ring);
}

/// Half of a service time is fixed, half exponential.
void simulation::start(unsigned ring) {
    auto &on = state_[ring];
    if (on.busy == channels || on.queued.empty())
        return;
    const auto id = on.queued.front();
    on.queued.pop_front();
    on.busy++;
    const auto &what = requests_[id];
    auto time =
        service * what.pages / mean_pages_ * (0.5 + 0.5 * exponential(random_));
    if (what.remote)
        time *= remote;
    if (ring == what_.odd())
        time *= what_.slowness;
    at(now_ + time, happening::finish, id);
}

void simulation::finish(unsigned id) {
    const auto ring = requests_[id].ring;
    auto &on = state_[ring];
    on.busy--;
    start(ring);
    kernel_.complete(ring, id);
    if (!std::exchange(on.consuming, true))
        at(now_, happening::consume, ring);
}

void simulation::consume(unsigned ring) {
    if (stalled(ring))
        return at(what_.stall_to + settling(), happening::consume, ring);
    std::array<kevent::event, collected> events;
    auto view = rings_.ring(ring);
    const auto count = view.collect(events);
    kernel_.drain(ring);
    for (unsigned i = 0; i < count; i++)
        collect_one(static_cast<unsigned>(events[i].cookie));
    if (count != 0)
        at(now_ + count * collecting, happening::consume, ring);
    else
        state_[ring].consuming = false;
}

void simulation::collect_one(unsigned id) {
    const auto what = requests_[id];
    free_.push_back(id);
    auto &on = state_[what.ring];
    on.requests--;
    on.pages -= what.pages;
    entered_.done(what.ring, what.pages);
    shared_.done(what.ring, what.pages);
    own_[what.submitter].done(what.ring, what.pages);
    if (measuring_)
        out_.latencies.push_back(now_ - what.placed);
    if (what_.load == 0)
        place(what.submitter);
}

/// The most loaded ring over the mean.
template <class Load>
double simulation::overload(Load load) const {
    double most = 0;
    double sum = 0;
    for (const auto &ring : state_) {
        const auto found = static_cast<double>(load(ring));
        most = std::max(most, found);
        sum += found;
    }
    return sum > 0 ? most * static_cast<double>(state_.size()) / sum : 1;
}

/// What a policy could reach that knows all that is on the way, and may move
/// it: largest first, each to the least loaded.
double simulation::repacked() const {
    std::vector<bool> gone(requests_.size());
    for (const auto id : free_)
        gone[id] = true;
    std::vector<std::uint64_t> pages;
    for (std::size_t i = 0; i < requests_.size(); i++)
        if (!gone[i])
            pages.push_back(requests_[i].pages);
    std::sort(pages.begin(), pages.end(), std::greater<>());
    std::priority_queue<std::uint64_t, std::vector<std::uint64_t>,
                        std::greater<>>
        loads;
    for (unsigned i = 0; i < what_.nodes; i++)
        loads.push(0);
    std::uint64_t most = 0;
    for (const auto each : pages) {
        const auto load = loads.top() + each;
        loads.pop();
        loads.push(load);
        most = std::max(most, load);
    }
    const auto sum = std::accumulate(pages.begin(), pages.end(), 0.0);
    return sum > 0 ? static_cast<double>(most) * what_.nodes / sum : 1;
}

/// Adds the time that the present state has lasted.
void simulation::note(double until) {
    const auto lasted = until - std::exchange(noted_, until);
    if (lasted == 0)
        return;
    out_.requests +=
        lasted * overload([](const auto &ring) { return ring.requests; });
    out_.work += lasted * overload([](const auto &ring) { return ring.pages; });
    for (const auto &ring : state_)
        out_.depth += lasted * ring.requests / what_.nodes;
    if (until >= next_repacked_) {
        out_.repacked += repacked();
        repacks_++;
        next_repacked_ += what_.length / 100;
    }
}

void simulation::sample() {
    out_.times.push_back(now_ - settling());
    for (unsigned i = 0; i < what_.nodes; i++) {
        out_.series_of_requests[i].push_back(state_[i].requests);
        out_.series_of_work[i].push_back(state_[i].pages);
    }
}

outcome simulation::run(unsigned samples) {
    const auto begin = settling();
    const auto end = begin + what_.length;
    const auto between = what_.length / samples;
    auto next_sample = samples != 0 ? begin : end;
    out_.series_of_requests.resize(what_.nodes);
    out_.series_of_work.resize(what_.nodes);
    noted_ = next_repacked_ = begin;
    while (!steps_.empty() && steps_.top().time < end) {
        const auto next = steps_.top();
        steps_.pop();
        measuring_ = next.time >= begin;
        while (next_sample < next.time) {
            now_ = next_sample;
            sample();
            next_sample += between;
        }
        if (measuring_)
            note(next.time);
        now_ = next.time;
        go(next);
    }
    note(end);
    out_.requests /= what_.length;
    out_.depth /= what_.length;
    out_.work /= what_.length;
    out_.repacked /= repacks_;
    out_.assigned = overload([](const auto &ring) { return ring.assigned; });
    out_.rate = static_cast<double>(out_.latencies.size()) / what_.length * 1e6;
    std::sort(out_.latencies.begin(), out_.latencies.end());
    return std::move(out_);
}
} // namespace

double largest_over_mean() {
    return max_pages / mean_of(ranks(max_pages, true));
}

outcome run(const scenario &what, const policy &chosen, unsigned samples) {
    return simulation(what, chosen).run(samples);
}

} // namespace balance
